package bundle

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/checksum"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/frame"
	"github.com/holdfast-pg/holdfast/internal/lanes"
)

// Segment is a piece of the content.
type Segment struct {
	Length int64     // of its run in the object, in bytes; 0 when the object is one stream
	CRC32C uint32    // of its run
	Sum    frame.Sum // of its content
	SHA256 [32]byte  // of its content, as the record's Hash has it
	Tag    Tag       // of its content, with the record's key
}

// Hash is a way to hash a segment.
type Hash string

const (
	// Whole is the SHA-256 of the content.
	Whole Hash = ""
	// Lanes is lanes.Sum of the content.
	Lanes Hash = "lanes"
)

func (h Hash) sum(content []byte) [sha256.Size]byte {
	if h == Lanes {
		return lanes.Sum(content)
	}
	return sha256.Sum256(content)
}

var base64Text = base64.RawStdEncoding

// append adds a word or number for each field: four million segments of a backup of 16 TB
// are some 400 MB.
func (s *Segment) append(b []byte) []byte {
	b = strconv.AppendInt(b, s.Sum.Size, 10)
	b = strconv.AppendInt(append(b, ' '), s.Length, 10)
	b = strconv.AppendUint(append(b, ' '), uint64(s.CRC32C), 16)
	b = base64Text.AppendEncode(append(b, ' '), s.SHA256[:])
	if s.Sum.CRC32 != 0 || s.Tag != (Tag{}) {
		b = strconv.AppendUint(append(b, ' '), uint64(s.Sum.CRC32), 16)
	}
	if s.Tag != (Tag{}) {
		b = base64Text.AppendEncode(append(b, ' '), s.Tag[:])
	}
	return b
}

// UnmarshalText reads one from a line of WriteSegments.
func (s *Segment) UnmarshalText(text []byte) error {
	var err [6]error
	var crc, inner uint64
	size, rest, _ := strings.Cut(string(text), " ")
	length, rest, _ := strings.Cut(rest, " ")
	run, rest, _ := strings.Cut(rest, " ")
	hash, rest, has := strings.Cut(rest, " ")
	content, tag, tagged := strings.Cut(rest, " ")
	var read Segment
	read.Sum.Size, err[0] = strconv.ParseInt(size, 10, 64)
	read.Length, err[1] = strconv.ParseInt(length, 10, 64)
	crc, err[2] = strconv.ParseUint(run, 16, 32)
	if has {
		inner, err[3] = strconv.ParseUint(content, 16, 32)
	}
	err[4] = decode(read.SHA256[:], hash)
	if tagged {
		err[5] = decode(read.Tag[:], tag)
	}
	for _, e := range err {
		if e != nil {
			return fmt.Errorf("%q is no segment", text)
		}
	}
	read.CRC32C, read.Sum.CRC32 = uint32(crc), uint32(inner)
	*s = read
	return nil
}

// decode reads base64 of as many bytes as there is room for.
func decode(into []byte, text string) error {
	if len(text) != base64Text.EncodedLen(len(into)) {
		return io.ErrUnexpectedEOF
	}
	n, err := base64Text.Decode(into, []byte(text))
	if err == nil && n < len(into) { // line breaks are left out
		return io.ErrUnexpectedEOF
	}
	return err
}

// WriteSegments writes a line for each: JSON takes ten times as long.
func WriteSegments(w io.Writer, segments []Segment) error {
	out := bufio.NewWriterSize(w, 64<<10)
	line := make([]byte, 0, 128)
	for i := range segments {
		line = append(segments[i].append(line[:0]), '\n')
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	return out.Flush()
}

// ReadSegments reads what WriteSegments wrote.
func ReadSegments(r io.Reader) ([]Segment, error) {
	var out []Segment
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		out = append(out, Segment{})
		if err := out[len(out)-1].UnmarshalText(lines.Bytes()); err != nil {
			return nil, err
		}
	}
	return out, lines.Err()
}

// Record is what is known of an object.
type Record struct {
	Key    string `json:"key"`
	Size   int64  `json:"size"`   // in bytes
	CRC32C uint32 `json:"crc32c"` // of all of it
	Codec  string `json:"codec"`
	Hash   Hash   `json:"hash,omitempty"`
	// TagKey is the key of the segments' tags; nil when they have none.
	TagKey *TagKey `json:"tag_key,omitempty"`
	Tags   Tags    `json:"tags,omitempty"`
	// Stream says that segments have no runs: the object can only be read from its start.
	Stream bool `json:"stream,omitempty"`
	// Segments are in the JSON of earlier versions only: see WriteSegments.
	Segments []Segment `json:"segments,omitempty"`
}

// Content is the size of what the object expands to.
func (r *Record) Content() (n int64) {
	for i := range r.Segments {
		n += r.Segments[i].Sum.Size
	}
	return n
}

// Reusable reports whether the segments can be those of a new object of a codec.
func (r *Record) Reusable(c frame.Codec) bool {
	return !r.Stream && r.Codec == c.String() && r.Hash == Lanes && r.TagKey != nil && (r.Tags == NH || r.Tags == Highway)
}

// places are the offsets in an object of its head, its runs and its tail, and its end.
type places struct {
	codec   frame.Codec
	offsets []int64
	tail    []byte
}

// The pieces of an object are numbered as its places are: the head is 0, the first
// segment 1, and the tail follows the last one.
const headPiece = 0

func (p *places) tailPiece() int { return len(p.offsets) - 2 }

// span is the range of some pieces that follow each other.
func (p *places) span(first, end int) (offset, length int64) {
	return p.offsets[first], p.offsets[end] - p.offsets[first]
}

// check refuses a record that does not agree with itself, so that it can be relied on.
func (r *Record) check() (*places, error) {
	bad := func(format string, args ...any) (*places, error) {
		return nil, fault.New(fault.Corrupt, "read the record of", r.Key, format, args...).WithHint("it is damaged, or was not written by Holdfast; use another backup")
	}
	c, err := frame.Parse(r.Codec)
	if err != nil {
		return bad("%w", err)
	}
	if r.Hash != Whole && r.Hash != Lanes {
		return nil, fault.New(fault.Tool, "read the record of", r.Key, "its segments are hashed by %q", string(r.Hash)).WithHint("use the version of Holdfast that made the backup, or a newer one")
	}
	p := &places{codec: c, offsets: make([]int64, 0, len(r.Segments)+3)}
	head := c.Head()
	at, crc := int64(len(head)), crc32.Checksum(head, castagnoli)
	p.offsets = append(p.offsets, 0)
	var all frame.Sum
	for i := range r.Segments {
		s := &r.Segments[i]
		if s.Sum.Size <= 0 || s.Sum.Size > frame.MaxSegment || s.Length < 0 || s.Length > frame.MaxRun || r.Stream != (s.Length == 0) {
			return bad("segment %d has a size that none has", i)
		}
		p.offsets = append(p.offsets, at)
		at, all = at+s.Length, all.Join(s.Sum)
		crc = checksum.Join(crc32.Castagnoli, crc, s.CRC32C, s.Length)
	}
	if r.Stream {
		return p, nil
	}
	p.tail = c.Tail(all)
	crc = checksum.Join(crc32.Castagnoli, crc, crc32.Checksum(p.tail, castagnoli), int64(len(p.tail)))
	p.offsets = append(p.offsets, at, at+int64(len(p.tail)))
	if end := p.offsets[len(p.offsets)-1]; end != r.Size || crc != r.CRC32C {
		return bad("its segments are not those of the object")
	}
	return p, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
