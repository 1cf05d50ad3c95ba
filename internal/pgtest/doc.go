// Package pgtest runs real PostgreSQL clusters for tests.
//
// A cluster listens on a free port of 127.0.0.1, lets everybody in as postgres,
// and ends with the test, or with the test's process if that is killed. Where
// tests run as root, servers run as the operating system user postgres, because
// PostgreSQL refuses root. A missing server fails the test and names the make
// target that installs it; no test is ever skipped.
//
// It is not a fake, and nothing but tests imports it.
package pgtest
