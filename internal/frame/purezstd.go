//go:build !cgo

package frame

import (
	"errors"

	"github.com/klauspost/compress/zstd"
)

// zstdRuns says that zstd has no runs here: the encoder in Go lets the first sequences of
// a frame repeat offsets, which no other place of a frame has.
const zstdRuns = false

func (e *Encoder) zstd(int) error { return errors.New("this program was built without libzstd") }

// zstd reads a whole frame.
func (d *Decoder) zstd() error {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(MaxSegment), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return err
	}
	d.close = z.Close
	d.expand = func(to, frame []byte) (int, error) {
		out, err := z.DecodeAll(frame, to[:0:len(to)])
		return len(out), err
	}
	return nil
}
