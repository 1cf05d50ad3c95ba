package frame

import (
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/s2"
	"github.com/pierrec/lz4/v4"

	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/zstd"
)

// Encoder compresses one segment after another. It is not safe for concurrent use.
type Encoder struct {
	// add appends the run of a segment that is not empty; dst has room for it.
	add   func(dst, segment []byte) ([]byte, error)
	close func()
	crc   bool
}

// NewEncoder returns an encoder of a codec whose segments are independent.
func (c Codec) NewEncoder() (*Encoder, error) {
	e := &Encoder{close: func() {}}
	if !c.Independent() {
		return nil, fault.New(fault.Internal, "compress", c.String(), "it has no runs")
	}
	switch c.algorithm {
	case codec.None:
		e.add = func(dst, segment []byte) ([]byte, error) { return append(dst, segment...), nil }
	case codec.Gzip:
		w := &growing{}
		z, err := flate.NewWriter(w, c.level)
		if err != nil {
			return nil, err
		}
		e.crc = true
		e.add = func(dst, segment []byte) ([]byte, error) {
			w.b = dst
			z.Reset(w)
			if _, err := z.Write(segment); err != nil {
				return dst, err
			}
			err := z.Flush()
			return w.b, err
		}
	case codec.LZ4:
		e.add = lz4Blocks(c.level)
	case codec.Snappy:
		e.add = snappyChunks
	case codec.Zstd:
		z, err := zstd.NewRunner(c.level, MaxSegment)
		if err != nil {
			return nil, err
		}
		e.add, e.close = z.Append, z.Close
	}
	return e, nil
}

// Append appends the run of a segment to dst; that of an empty one is empty. With room
// for MaxRun bytes dst is never moved.
func (e *Encoder) Append(dst, segment []byte) ([]byte, Sum, error) {
	sum := Sum{Size: int64(len(segment))}
	switch {
	case len(segment) > MaxSegment:
		return dst, Sum{}, fault.New(fault.Internal, "compress", "a segment", "it has %d bytes, more than %d", len(segment), MaxSegment)
	case len(segment) == 0:
		return dst, sum, nil
	}
	if e.crc {
		sum.CRC32 = crc32.ChecksumIEEE(segment)
	}
	out, err := e.add(slices.Grow(dst, longest(len(segment))), segment)
	if err != nil {
		return dst, Sum{}, fault.Wrap(fault.Internal, "compress", "a segment", err)
	}
	return out, sum, nil
}

// Close frees what the encoder holds. It may be called again.
func (e *Encoder) Close() { e.close() }

type growing struct{ b []byte }

// Write implements io.Writer.
func (g *growing) Write(b []byte) (int, error) {
	g.b = append(g.b, b...)
	return len(b), nil
}

// plainBlock marks the size of an lz4 block that is not compressed.
const plainBlock = 1 << 31

func lz4Blocks(level int) func(dst, segment []byte) ([]byte, error) {
	var fast lz4.Compressor
	pack := fast.CompressBlock
	if level > 0 {
		thorough := lz4.CompressorHC{Level: lz4.CompressionLevel(1 << (8 + level))}
		pack = thorough.CompressBlock
	}
	return func(dst, segment []byte) ([]byte, error) {
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		n, err := pack(segment, dst[len(dst):len(dst)+lz4.CompressBlockBound(len(segment))])
		if err != nil {
			return dst, err
		}
		mark := uint32(n)
		if n == 0 || n >= len(segment) {
			n = copy(dst[len(dst):len(dst)+len(segment)], segment)
			mark = uint32(n) | plainBlock
		}
		binary.LittleEndian.PutUint32(dst[at:], mark)
		return dst[:len(dst)+n], nil
	}
}

// The framing format of snappy.
const (
	snappyBlock      = 64 << 10
	compressedChunk  = 0
	plainChunk       = 1
	chunkHead        = 4 + 4 // kind and length, checksum
	snappyMask       = 0xa282ead8
	snappyMaskRotate = 15
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func snappyChunks(dst, segment []byte) ([]byte, error) {
	for block := range slices.Chunk(segment, snappyBlock) {
		at, kind := len(dst), byte(compressedChunk)
		crc := crc32.Checksum(block, castagnoli)
		dst = dst[:at+chunkHead]
		room := dst[len(dst):cap(dst)]
		n := len(s2.EncodeSnappy(room, block))
		if n >= len(block) {
			kind, n = plainChunk, copy(room, block)
		}
		size := n + chunkHead - 4
		dst[at], dst[at+1], dst[at+2], dst[at+3] = kind, byte(size), byte(size>>8), byte(size>>16)
		binary.LittleEndian.PutUint32(dst[at+4:], (crc>>snappyMaskRotate|crc<<(32-snappyMaskRotate))+snappyMask)
		dst = dst[:len(dst)+n]
	}
	return dst, nil
}
