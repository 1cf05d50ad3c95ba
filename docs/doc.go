// Package docs is the user manual. It has no code but tests: they run what the
// pages tell a reader to type, on a server and an engine of their own, and walk
// through the Temporal UI as the pages do.
package docs
