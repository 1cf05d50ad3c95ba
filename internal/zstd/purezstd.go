//go:build !cgo

package zstd

import (
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

func newWriter(w io.Writer, level int) (Writer, error) {
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(Window), zstd.WithLowerEncoderMem(true))
}

func newReader(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(MaxWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// HasRuns says that this build makes no runs: the encoder in Go lets the first sequences of
// a frame repeat offsets, which no other place of a frame has.
const HasRuns = false

// Runner compresses segments, in builds with cgo.
type Runner struct{}

// NewRunner fails.
func NewRunner(int, int) (*Runner, error) {
	return nil, errors.New("this program was built without libzstd")
}

// Append is never called.
func (*Runner) Append(dst, _ []byte) ([]byte, error) { return dst, errors.ErrUnsupported }

// Close frees nothing.
func (*Runner) Close() {}

// Expander expands whole frames.
type Expander struct{ d *zstd.Decoder }

// NewExpander is for frames whose window is at most so many bytes.
func NewExpander(window int) (*Expander, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(uint64(window)), zstd.WithDecodeAllCapLimit(true))
	return &Expander{d}, err
}

// Expand fills to, which is not empty, with the content of a frame, n bytes.
func (e *Expander) Expand(to, frame []byte) (n int, err error) {
	out, err := e.d.DecodeAll(frame, to[:0:len(to)])
	return len(out), err
}

// Close frees what it holds. It may be called again.
func (e *Expander) Close() { e.d.Close() }
