// Package manifest reads, writes and verifies PostgreSQL's backup manifest
// (PostgreSQL manual, "Backup Manifest Format", versions 1 and 2), the list of
// all files of a base backup with their sizes and checksums.
//
// Files are streamed: memory does not grow with their sizes, and by a few
// bytes only with their number. WAL is not its business; package walarchive
// verifies that.
package manifest
