// Package wal knows the names, positions and page headers of PostgreSQL's
// write-ahead log (PostgreSQL manual, "WAL Internals"; source:
// src/include/access/xlog_internal.h).
//
// It is pure: it reads no file. Package walarchive stores what it names.
package wal

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// DefaultSegmentSize is that of a server built and initialised without options, in bytes.
const DefaultSegmentSize uint64 = 16 << 20

// ValidSegmentSize reports whether n bytes is a possible wal_segment_size: a
// power of two from 1 MiB to 1 GiB.
func ValidSegmentSize(n uint64) bool {
	return n >= 1<<20 && n <= 1<<30 && n&(n-1) == 0
}

// LSN is a position in the WAL, in bytes.
type LSN uint64

// ParseLSN reads the form that PostgreSQL prints, such as 16/B374D848.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if ok && len(hi) >= 1 && len(hi) <= 8 && len(lo) >= 1 && len(lo) <= 8 {
		h, err1 := strconv.ParseUint(hi, 16, 32)
		l, err2 := strconv.ParseUint(lo, 16, 32)
		if err1 == nil && err2 == nil {
			return LSN(h<<32 | l), nil
		}
	}
	return 0, fault.New(fault.Usage, "read LSN", strconv.Quote(s), "it is not of the form 16/B374D848")
}

// String is the form that PostgreSQL prints.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// Kind is what a name in the WAL archive stands for.
type Kind int

// The kinds of names.
const (
	Unknown     Kind = iota
	SegmentFile      // TTTTTTTTLLLLLLLLSSSSSSSS
	LabelFile        // segment.OOOOOOOO.backup
	PartialFile      // segment.partial
	HistoryFile      // TTTTTTTT.history
)

func isHex(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'F') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Classify tells the kind of a base name.
func Classify(name string) Kind {
	switch {
	case len(name) == 24 && isHex(name):
		return SegmentFile
	case len(name) == 40 && isHex(name[:24]) && name[24] == '.' && isHex(name[25:33]) && name[33:] == ".backup":
		return LabelFile
	case len(name) == 32 && isHex(name[:24]) && name[24:] == ".partial":
		return PartialFile
	case len(name) == 16 && isHex(name[:8]) && name[8:] == ".history":
		return HistoryFile
	}
	return Unknown
}

// HashDir is the archive's directory of a name: timeline and log, 16 digits; ""
// for history files and unknown names.
func HashDir(name string) string {
	switch Classify(name) {
	case SegmentFile, LabelFile, PartialFile:
		return name[:16]
	}
	return ""
}

// ComparePositions orders the names of segments and partial segments as they
// are streamed: by position, then by timeline; a complete segment comes after
// its partial one.
func ComparePositions(a, b string) int {
	return cmp.Or(strings.Compare(a[8:24], b[8:24]), strings.Compare(a[:8], b[:8]), cmp.Compare(len(b), len(a)))
}

// TimelineOf is the timeline in a name of a known kind.
func TimelineOf(name string) (uint32, error) {
	if Classify(name) == Unknown {
		return 0, badName(name)
	}
	n, err := strconv.ParseUint(name[:8], 16, 32)
	if err != nil {
		return 0, badName(name)
	}
	return uint32(n), nil
}

func badName(name string) error {
	return fault.New(fault.Usage, "read WAL name", strconv.Quote(name), "it is neither a segment, a backup label, a partial segment nor a history file")
}

// Segment is one WAL segment: number No of its timeline, counted from 0, each
// Size bytes long.
type Segment struct {
	TLI  uint32
	No   uint64
	Size uint64
}

// SegmentOf is the segment that holds the byte at lsn.
func SegmentOf(tli uint32, lsn LSN, size uint64) Segment {
	return Segment{TLI: tli, No: uint64(lsn) / size, Size: size}
}

// ParseSegment reads the name of a segment, or of what belongs to one.
func ParseSegment(name string, size uint64) (Segment, error) {
	if !ValidSegmentSize(size) {
		return Segment{}, fault.New(fault.Corrupt, "read WAL name", strconv.Quote(name), "%d bytes is no possible segment size", size)
	}
	if HashDir(name) == "" {
		return Segment{}, badName(name)
	}
	var part [3]uint64
	for i := range part {
		n, err := strconv.ParseUint(name[8*i:8*i+8], 16, 32)
		if err != nil {
			return Segment{}, badName(name)
		}
		part[i] = n
	}
	if part[2] >= perLog(size) {
		return Segment{}, fault.New(fault.Corrupt, "read WAL name", strconv.Quote(name), "its last part is beyond %X, the last of a log with segments of %d bytes", perLog(size)-1, size)
	}
	return Segment{TLI: uint32(part[0]), No: part[1]*perLog(size) + part[2], Size: size}, nil
}

func perLog(size uint64) uint64 { return (1 << 32) / size }

// Name is the segment's file name, in upper case as PostgreSQL writes it.
func (s Segment) Name() string {
	return fmt.Sprintf("%08X%08X%08X", s.TLI, s.No/perLog(s.Size), s.No%perLog(s.Size))
}

// Next is the following segment of the same timeline.
func (s Segment) Next() Segment { s.No++; return s }

// Start is the position of the segment's first byte.
func (s Segment) Start() LSN { return LSN(s.No * s.Size) }

// End is the position after the segment's last byte.
func (s Segment) End() LSN { return LSN((s.No + 1) * s.Size) }

// Offset is the position of lsn within its segment, in bytes.
func Offset(lsn LSN, size uint64) uint64 { return uint64(lsn) % size }

// EachSegment calls fn with each name from begin to end, both included, which
// must be of one timeline.
func EachSegment(begin, end string, size uint64, fn func(name string) error) error {
	b, err := ParseSegment(begin, size)
	if err != nil {
		return err
	}
	e, err := ParseSegment(end, size)
	if err != nil {
		return err
	}
	if b.TLI != e.TLI {
		return fault.New(fault.Corrupt, "list WAL", begin+".."+end, "the timelines differ: %d and %d", b.TLI, e.TLI)
	}
	if e.No < b.No {
		return fault.New(fault.Corrupt, "list WAL", begin+".."+end, "the end lies before the beginning")
	}
	for s := b; s.No <= e.No; s = s.Next() {
		if err := fn(s.Name()); err != nil {
			return err
		}
	}
	return nil
}
