// Package zstd writes and reads zstd with libzstd, and in builds without cgo in Go.
//
// Streams are single files, or what is read of a program. Runs are for package frame,
// which stitches frames of them; builds without cgo have none. Both builds read what the
// other one wrote.
//
// libzstd is linked statically, so that the program runs where it is not installed. The
// packages that wrap it for Go bring a copy of its source, which each build would compile.
package zstd

import "io"

// Window is that of a stream that is written, in bytes: the pages of a WAL segment that are
// like each other are near each other, and a server runs a process for each segment.
const Window = 1 << windowLog

const windowLog = 20

// MaxWindow bounds the memory that a stream may ask of its reader, in bytes: level 22 wants
// as much at most.
const MaxWindow = 128 << 20

// piece is how much is read, or written, at once.
const piece = 128 << 10

// Writer compresses a stream into one frame with a checksum.
type Writer interface {
	io.WriteCloser
	io.ReaderFrom
}

// NewWriter compresses into w at a level from 1 to 22. Close ends the stream; it does not
// close w. It must be called, also when what was written is not wanted.
func NewWriter(w io.Writer, level int) (Writer, error) { return newWriter(w, level) }

// NewReader expands every frame of r, until it ends. Close must be called; it does not close r.
func NewReader(r io.Reader) (io.ReadCloser, error) { return newReader(r) }
