package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/s2"
	"github.com/pierrec/lz4/v4"

	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/zstd"
)

// Decoder expands runs, one after another. It is not safe for concurrent use.
type Decoder struct {
	head, tail string
	// expand fills to, which is not empty, with the content of a stream of one run, n bytes.
	expand func(to, stream []byte) (n int, err error)
	close  func()
	stream []byte
	in     bytes.Reader
	more   [1]byte
}

// NewDecoder returns a decoder for runs of the algorithm, whatever their level. It reads
// zstd also where that cannot be written.
func (c Codec) NewDecoder() (*Decoder, error) {
	f := formats[c.algorithm]
	d := &Decoder{head: f.head, tail: f.tail, close: func() {}}
	switch c.algorithm {
	case codec.None:
		d.expand = func(to, stream []byte) (int, error) {
			d.in.Reset(stream)
			return d.all(to, &d.in)
		}
	case codec.Gzip:
		d.head = ""
		z := flate.NewReader(&d.in)
		d.expand = func(to, stream []byte) (int, error) {
			d.in.Reset(stream)
			if err := z.(flate.Resetter).Reset(&d.in, nil); err != nil {
				return 0, err
			}
			return d.all(to, z)
		}
	case codec.LZ4:
		d.head = ""
		d.expand = lz4Content
	case codec.Snappy:
		z := s2.NewReader(&d.in, s2.ReaderMaxBlockSize(snappyBlock))
		d.expand = func(to, stream []byte) (int, error) {
			d.in.Reset(stream)
			z.Reset(&d.in)
			return d.all(to, z)
		}
	case codec.Zstd:
		z, err := zstd.NewExpander(MaxSegment)
		if err != nil {
			return nil, err
		}
		d.expand, d.close = z.Expand, z.Close
	default:
		return nil, fault.New(fault.Internal, "expand", f.name, "it has no runs")
	}
	return d, nil
}

// all fills to from r, which must end there, with all of the input read.
func (d *Decoder) all(to []byte, r io.Reader) (int, error) {
	n, err := io.ReadFull(r, to)
	if err != nil {
		return n, err
	}
	switch _, err = io.ReadFull(r, d.more[:]); {
	case err == nil:
		return n, errors.New("it is longer than its segment")
	case err != io.EOF:
		return n, err
	case d.in.Len() > 0:
		return n, errors.New("something follows its end")
	}
	return n, nil
}

// Append appends the content of a run to dst. The error is fault.Corrupt when the run is none
// of size bytes.
func (d *Decoder) Append(dst, run []byte, size int) ([]byte, error) {
	corrupt := func(err error) ([]byte, error) {
		return dst, fault.New(fault.Corrupt, "expand", "a run", "%w", err)
	}
	switch {
	case size < 0 || size > MaxSegment:
		return corrupt(fmt.Errorf("a segment has no %d bytes", size))
	case len(run) > MaxRun:
		return corrupt(fmt.Errorf("%d bytes are too many", len(run)))
	case size == 0 && len(run) == 0:
		return dst, nil
	case size == 0:
		return corrupt(errors.New("it should be empty"))
	}
	d.stream = append(append(append(d.stream[:0], d.head...), run...), d.tail...)
	dst = slices.Grow(dst, size)
	to := dst[len(dst) : len(dst)+size]
	n, err := d.expand(to, d.stream)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes, not %d", n, size)
	}
	if err != nil {
		return corrupt(err)
	}
	return dst[:len(dst)+size], nil
}

// Close frees what the decoder holds. It may be called again.
func (d *Decoder) Close() { d.close() }

// lz4Content expands blocks up to the end mark.
func lz4Content(to, stream []byte) (n int, err error) {
	for len(stream) >= 4 {
		mark := binary.LittleEndian.Uint32(stream)
		stream = stream[4:]
		size := int(mark &^ plainBlock)
		switch {
		case mark == 0 && len(stream) == 0:
			return n, nil
		case mark == 0 || size > len(stream):
			return n, errors.New("a block has another size")
		case mark != uint32(size):
			if size > len(to)-n {
				return n, errors.New("it is longer than its segment")
			}
			n += copy(to[n:], stream[:size])
		default:
			m, err := lz4.UncompressBlock(stream[:size], to[n:])
			if err != nil {
				return n, err
			}
			n += m
		}
		stream = stream[size:]
	}
	return n, errors.New("it ends in the middle of a block")
}
