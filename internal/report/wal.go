package report

import (
	"slices"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// WAL is an archived segment.
type WAL struct {
	Name string
	Size int64   // as stored
	Time float64 // seconds since 1970
}

// Segments are the archived segments of a server, in the order of their names,
// each once.
type Segments []WAL

// Sorted drops everything that is no whole segment, and all but the last
// mention of a name.
func Sorted(all []WAL) Segments {
	last := make(map[string]int, len(all))
	for i, w := range all {
		if wal.Classify(w.Name) == wal.SegmentFile {
			last[w.Name] = i
		}
	}
	out := make(Segments, 0, len(last))
	for _, i := range last {
		out = append(out, all[i])
	}
	slices.SortFunc(out, func(a, b WAL) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// between are the segments after one name, up to another one, which is
// included; "" is no bound. Like Barman, it compares names as text.
func (s Segments) between(after, until string) Segments {
	from, found := slices.BinarySearchFunc(s, after, func(w WAL, name string) int { return strings.Compare(w.Name, name) })
	if found {
		from++
	}
	to := len(s)
	if until != "" {
		to, found = slices.BinarySearchFunc(s, until, func(w WAL, name string) int { return strings.Compare(w.Name, name) })
		if found {
			to++
		}
	}
	return s[from:max(from, to)]
}

func (s Segments) bytes() int64 {
	var sum int64
	for _, w := range s {
		sum += w.Size
	}
	return sum
}

// own are the segments that make a backup consistent.
func (s Segments) own(b *backupinfo.Info) Segments {
	if b.BeginWAL == nil || b.EndWAL == nil {
		return nil
	}
	all := s.between("", *b.EndWAL)
	from, _ := slices.BinarySearchFunc(all, *b.BeginWAL, func(w WAL, name string) int { return strings.Compare(w.Name, name) })
	return all[from:]
}

// until are the segments after a backup, up to the end of the next one.
func (s Segments) until(b, next *backupinfo.Info) Segments {
	if b.EndWAL == nil {
		return nil
	}
	bound := ""
	if next != nil && next.EndWAL != nil {
		bound = *next.EndWAL
	}
	return s.between(*b.EndWAL, bound)
}

// segmentSize is that of the backup's server.
func segmentSize(b *backupinfo.Info) int64 {
	if b.SegmentSize == nil {
		return int64(wal.DefaultSegmentSize)
	}
	return int64(*b.SegmentSize)
}

// saved is the share of bytes that compression saves; 0 when there are none.
func (s Segments) saved(b *backupinfo.Info) float64 {
	whole := int64(len(s)) * segmentSize(b)
	if whole == 0 {
		return 0
	}
	return 1 - float64(s.bytes())/float64(whole)
}

// rate is how many segments per second a server has written from a backup's
// begin until the last of those after its end. It is unknown, 0, when the
// backup's first segment is not archived or all arrived at one time.
func (s Segments) rate(b, next *backupinfo.Info) float64 {
	own, after := s.own(b), s.until(b, next)
	if len(own) == 0 || own[0].Name != *b.BeginWAL {
		return 0
	}
	last := own[len(own)-1]
	if len(after) > 0 {
		last = after[len(after)-1]
	}
	elapsed := last.Time - own[0].Time
	if elapsed <= 0 {
		return 0
	}
	return float64(len(own)+len(after)) / elapsed
}
