// Package gcp makes snapshots of Google Cloud disks with Google's library for the
// REST API of Compute Engine.
//
// A snapshot carries labels with its owner, backup and attempt from the call that
// makes it. The call carries an ID that follows from them, so that one whose answer
// was lost makes no second snapshot. It mounts nothing; only mains import it.
package gcp
