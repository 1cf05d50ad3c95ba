package frame

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/checksum"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/zstd"
)

// The sizes of segments and runs.
const (
	MaxSegment = 4 << 20
	MaxRun     = MaxSegment + MaxSegment>>8 + 1<<10
)

// longest is the size of the longest run of a segment of n bytes: what libzstd and lz4 ask
// for; the marks of stored blocks of the others are less.
func longest(n int) int { return n + n>>8 + 1<<10 }

// Codec is an algorithm and its level. It is comparable; the zero value leaves
// content as it is.
type Codec struct {
	algorithm codec.Algorithm
	level     int
}

type format struct {
	name               string
	suffix             string // of a file
	head, tail         string
	usual, least, most int // levels
}

var formats = map[codec.Algorithm]format{
	codec.None:  {name: "none"},
	codec.Gzip:  {"gzip", ".gz", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", "\x03\x00", 6, 1, 9},
	codec.Bzip2: {"bzip2", ".bz2", "", "", 9, 1, 9},
	codec.LZ4:   {"lz4", ".lz4", "\x04\x22\x4d\x18\x60\x70\x73", "\x00\x00\x00\x00", 0, 0, 9},
	// The window is that of a segment, whatever the level: runs of every level, and of every version of libzstd, fit into it.
	codec.Zstd:   {"zstd", ".zst", "\x28\xb5\x2f\xfd\x00\x60", "\x01\x00\x00", 1, 1, 22},
	codec.Snappy: {"snappy", ".snappy", "\xff\x06\x00\x00sNaPpY", "", 0, 0, 0},
}

// Open reads the options holdfast_cloud_compression and its level; an empty level is
// the usual one.
func Open(algorithm, level string) (Codec, error) {
	c := Codec{algorithm: codec.Algorithm(algorithm)}
	if algorithm == "none" {
		c.algorithm = codec.None
	}
	f, ok := formats[c.algorithm]
	if !ok || algorithm == "" {
		return Codec{}, fault.New(fault.Config, "read option", "holdfast_cloud_compression", "%q is none that Barman's tools read", algorithm).
			WithHint("use none, gzip, bzip2, lz4, zstd or snappy")
	}
	c.level = f.usual
	if level == "" {
		return c, nil
	}
	n, err := strconv.Atoi(level)
	switch {
	case err == nil && n >= f.least && n <= f.most:
		c.level = n
		return c, nil
	case f.most == 0:
		return Codec{}, fault.New(fault.Config, "read option", "holdfast_cloud_compression_level", "%s has no levels", f.name).
			WithHint("leave the option out")
	}
	return Codec{}, fault.New(fault.Config, "read option", "holdfast_cloud_compression_level", "%q is no level of %s", level, f.name).
		WithHint("use a number from %d to %d", f.least, f.most)
}

// Parse reads what String wrote; the error is fault.Corrupt.
func Parse(text string) (Codec, error) {
	algorithm, level, _ := strings.Cut(text, ":")
	c, err := Open(algorithm, level)
	if err != nil || c.String() != text {
		return Codec{}, fault.New(fault.Corrupt, "read", "the name of a codec", "%q is none", text)
	}
	return c, nil
}

// String is the algorithm and its level, as records name them.
func (c Codec) String() string {
	f := formats[c.algorithm]
	if f.most == 0 {
		return f.name
	}
	return fmt.Sprintf("%s:%d", f.name, c.level)
}

// Algorithm is the format of the stream.
func (c Codec) Algorithm() codec.Algorithm { return c.algorithm }

// Suffix is that of the name of a file with such a stream.
func (c Codec) Suffix() string { return formats[c.algorithm].suffix }

// Independent reports whether segments become runs here. Otherwise NewWriter writes
// one stream, and nothing of it can be used alone.
func (c Codec) Independent() bool {
	return c.algorithm != codec.Bzip2 && (c.algorithm != codec.Zstd || zstd.HasRuns)
}

// Head is what a stream begins with, before its first run.
func (c Codec) Head() []byte { return []byte(formats[c.algorithm].head) }

// Tail ends a stream, after its last run; all is the sum of its runs.
func (c Codec) Tail(all Sum) []byte {
	tail := []byte(formats[c.algorithm].tail)
	if c.algorithm == codec.Gzip {
		tail = binary.LittleEndian.AppendUint32(tail, all.CRC32)
		tail = binary.LittleEndian.AppendUint32(tail, uint32(all.Size))
	}
	return tail
}

// Sum is what the end of a stream says of the content of runs. The zero value is that of none.
type Sum struct {
	Size  int64  // in bytes
	CRC32 uint32 // IEEE; 0 unless the format has it
}

// Join is the sum of what s and next are of, in this order.
func (s Sum) Join(next Sum) Sum {
	if s.CRC32 != 0 || next.CRC32 != 0 {
		next.CRC32 = checksum.Join(crc32.IEEE, s.CRC32, next.CRC32, next.Size)
	}
	next.Size += s.Size
	return next
}

// NewWriter compresses into w as one stream, for codecs whose segments are not
// independent. Close ends the stream; it does not close w. It must be called, also when
// what was written is not wanted.
func (c Codec) NewWriter(w io.Writer) (io.WriteCloser, error) {
	if c.Independent() {
		return nil, fault.New(fault.Internal, "compress", c.String(), "its segments are written one by one")
	}
	z, err := codec.New(string(c.algorithm), strconv.Itoa(c.level))
	if err != nil {
		return nil, err
	}
	return z.NewWriter(w)
}
