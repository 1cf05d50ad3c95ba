// Package codec compresses and expands single files: those of the WAL archive,
// and, to read them, the tar archives of pg_basebackup.
//
// A format is recognised by its first bytes, as Barman does, never by a name.
// Every format of Barman can be read and written; bzip2 is written by the
// program of that name, and custom formats by those of the configuration. It
// streams: memory does not depend on the size of a file. It is not the format
// of backup volumes.
package codec

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/bzip2"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/zstd"
)

// Algorithm is a compression format, as Barman names it.
type Algorithm string

// The formats.
const (
	None   Algorithm = ""
	Gzip   Algorithm = "gzip"
	Zstd   Algorithm = "zstd"
	LZ4    Algorithm = "lz4"
	Bzip2  Algorithm = "bzip2"
	XZ     Algorithm = "xz"
	Snappy Algorithm = "snappy"
	Custom Algorithm = "custom"
)

// aliases are Barman's further names, of other programs for the same format.
var aliases = map[string]Algorithm{"pigz": Gzip, "pygzip": Gzip, "pybzip2": Bzip2}

var magics = []struct {
	algorithm Algorithm
	magic     string
}{
	{Gzip, "\x1f\x8b\x08"},
	{Zstd, "\x28\xb5\x2f\xfd"},
	{LZ4, "\x04\x22\x4d\x18"},
	{Bzip2, "BZh"},
	{XZ, "\xfd7zXZ\x00"},
	{Snappy, "\xff\x06\x00\x00sNaPpY"},
}

// HeadSize is how many bytes of a file Detect wants to see.
const HeadSize = 32

// Detect is the format of a file that begins with head; None when it is none
// of the known ones.
func Detect(head []byte) Algorithm {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.algorithm
		}
	}
	return None
}

// Compression is how files are written, and how those of a custom format are
// read. The zero value leaves files as they are.
type Compression struct {
	Algorithm Algorithm
	level     int
	filter    string // command that writes
	unfilter  string // command that reads a custom format
	magic     []byte // first bytes of a custom format; nil when it has none
	path      string // path_prefix
}

// Options are those of a server. Filter, Unfilter and Magic are of the custom
// format.
type Options struct {
	Compression, Level string
	Filter, Unfilter   string
	Magic              string // 0x and hexadecimal digits
	PathPrefix         string
}

// levels are those of low, medium and high, and the range of numbers.
var levels = map[Algorithm]struct{ low, medium, high, least, most int }{
	Gzip:  {1, 6, 9, 1, 9},
	Zstd:  {1, 3, 9, 1, 22},
	LZ4:   {0, 5, 9, 0, 9},
	Bzip2: {1, 5, 9, 1, 9},
	XZ:    {1, 3, 6, 0, 9},
}

// New reads the options compression and compression_level.
func New(compression, level string) (Compression, error) {
	return Configured(Options{Compression: compression, Level: level})
}

// Configured reads all options of compression.
func Configured(o Options) (Compression, error) {
	c, err := remembering(o)
	if err != nil || o.Compression == "" || o.Compression == "none" {
		return c, err
	}
	c.Algorithm = cmp.Or(aliases[o.Compression], Algorithm(o.Compression))
	switch c.Algorithm {
	case Snappy:
		return c, nil
	case Custom:
		return c.custom(o)
	}
	l, ok := levels[c.Algorithm]
	if !ok {
		return c, fault.New(fault.Config, "read option", "compression", "WAL cannot be written with %q", o.Compression).
			WithHint("use gzip, zstd, lz4, bzip2, xz, snappy or custom, or leave the option out")
	}
	switch o.Level {
	case "low":
		c.level = l.low
	case "", "medium":
		c.level = l.medium
	case "high":
		c.level = l.high
	default:
		n, err := strconv.Atoi(o.Level)
		if err != nil || n < l.least || n > l.most {
			return c, fault.New(fault.Config, "read option", "compression_level", "%q is no level of %s", o.Level, o.Compression).
				WithHint("use low, medium, high or a number from %d to %d", l.least, l.most)
		}
		c.level = n
	}
	if c.Algorithm == Bzip2 {
		c.filter = fmt.Sprintf("bzip2 -c -%d", c.level)
	}
	return c, nil
}

// remembering can read what a custom command wrote, whatever is used now.
func remembering(o Options) (Compression, error) {
	magic, err := hex.DecodeString(strings.TrimPrefix(strings.ToLower(o.Magic), "0x"))
	if err != nil || len(magic) > HeadSize {
		return Compression{}, fault.New(fault.Config, "read option", "custom_compression_magic", "%q is no hexadecimal number of at most %d bytes", o.Magic, HeadSize).
			WithHint("write it as 0x and pairs of hexadecimal digits")
	}
	c := Compression{path: o.PathPrefix}
	if o.Unfilter != "" {
		c.unfilter, c.magic = o.Unfilter, magic
	}
	return c, nil
}

func (c Compression) custom(o Options) (Compression, error) {
	for _, option := range []struct{ name, value string }{{"custom_compression_filter", o.Filter}, {"custom_decompression_filter", o.Unfilter}} {
		if option.value == "" {
			return c, fault.New(fault.Config, "read option", option.name, "compression = custom needs it").
				WithHint("set it to a command that reads stdin and writes stdout")
		}
	}
	c.filter = o.Filter
	return c, nil
}

// Detect is Detect for files that c may have written: what begins with the
// magic of the custom format is of that, and when it has none whatever is not
// recognised, but for plain WAL and text.
func (c Compression) Detect(head []byte) Algorithm {
	if c.Marked(head) {
		return Custom
	}
	a := Detect(head)
	if a == None && c.Algorithm == Custom && len(c.magic) == 0 && !plainWAL(head) {
		return Custom
	}
	return a
}

// Marked reports whether a file begins with the magic of the custom format.
func (c Compression) Marked(head []byte) bool {
	return len(c.magic) > 0 && bytes.HasPrefix(head, c.magic)
}

// plainWAL reports whether a file begins like a segment of PostgreSQL 13 or
// later, or like the text of a history or a backup label.
func plainWAL(head []byte) bool {
	if len(head) > 1 && head[1] == 0xD1 {
		return true
	}
	for _, b := range head {
		if (b < ' ' || b > '~') && b != '\t' && b != '\n' {
			return false
		}
	}
	return true
}

// NewWriter compresses into w. Close ends the stream; it does not close w. It
// must be called, also when what was written is not wanted.
func (c Compression) NewWriter(w io.Writer) (io.WriteCloser, error) {
	switch c.Algorithm {
	case None:
		return plain{w}, nil
	case Gzip:
		return gzip.NewWriterLevel(w, c.level)
	case Zstd:
		return zstd.NewWriter(w, c.level)
	case LZ4:
		z := lz4.NewWriter(w)
		level := lz4.Fast
		if c.level > 0 {
			level = lz4.CompressionLevel(1 << (8 + c.level))
		}
		return z, z.Apply(lz4.CompressionLevelOption(level), lz4.ConcurrencyOption(1), lz4.BlockSizeOption(lz4.Block256Kb))
	case XZ:
		return xz.WriterConfig{DictCap: dictionary(c.level)}.NewWriter(w)
	case Snappy:
		return s2.NewWriter(w, s2.WriterSnappyCompat(), s2.WriterConcurrency(1)), nil
	}
	return writeThrough(c.filter, c.path, w), nil
}

// dictionaries are the sizes, in MiB, that xz(1) gives the levels from 1 on.
var dictionaries = []int{1, 2, 4, 4, 8, 8, 16, 32, 64}

func dictionary(level int) int {
	if level == 0 {
		return 256 << 10
	}
	return dictionaries[level-1] << 20
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

// NewReader expands r, whatever its format; content of no known format is
// passed through. Close does not close r.
func NewReader(r io.Reader) (io.ReadCloser, Algorithm, error) { return Compression{}.NewReader(r) }

// NewReader is NewReader for files that c may have written.
func (c Compression) NewReader(r io.Reader) (io.ReadCloser, Algorithm, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(HeadSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, None, err
	}
	a := c.Detect(head)
	if a == Custom {
		return readThrough(c.unfilter, c.path, b), a, nil
	}
	out, err := expand(b, a)
	if err != nil {
		return nil, a, fault.Wrap(fault.Corrupt, "expand", string(a), err)
	}
	return out, a, nil
}

func expand(b *bufio.Reader, a Algorithm) (io.ReadCloser, error) {
	switch a {
	case Gzip:
		return gzip.NewReader(b)
	case Zstd:
		return zstd.NewReader(b)
	case LZ4:
		return &frames{src: b, z: lz4.NewReader(b)}, nil
	case Bzip2:
		return io.NopCloser(bzip2.NewReader(b)), nil
	case XZ:
		z, err := xz.NewReader(b)
		return io.NopCloser(z), err
	case Snappy:
		return io.NopCloser(s2.NewReader(b)), nil
	}
	return io.NopCloser(b), nil
}

// frames reads every lz4 frame of a file; the library stops after the first.
type frames struct {
	src *bufio.Reader
	z   *lz4.Reader
}

func (f *frames) Read(p []byte) (int, error) {
	for {
		n, err := f.z.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		if _, err := f.src.Peek(1); err != nil {
			return 0, err
		}
		f.z.Reset(f.src)
	}
}

func (f *frames) Close() error { return nil }
