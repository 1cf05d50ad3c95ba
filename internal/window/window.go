package window

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Input is everything that the window depends on.
type Input struct {
	Backups    []*backupinfo.Info
	Standalone map[backup.ID]bool // kept without the WAL after them
	Segments   *Segments
	Histories  map[uint32]wal.History
	Written    func(segment string) time.Time // when an archived segment was last written; zero when that is unknown
}

// Span is segments of one timeline in a row, both ends included.
type Span struct {
	First, Last string
	Count       uint64
}

// String is the span for people.
func (s Span) String() string {
	if s.Count == 1 {
		return s.First
	}
	return fmt.Sprintf("%s to %s (%d segments)", s.First, s.Last, s.Count)
}

// Range is what can be restored without a hole.
type Range struct {
	From, To         wal.LSN
	FromTime, ToTime time.Time // the end of the first backup, and when the last segment was written
	First            backup.ID // the backup with which it begins
	Backups          int       // that lie in it
	Last             string    // segment
}

// Timeline is what can be restored along one timeline, its ancestors included.
type Timeline struct {
	TLI       uint32
	Ranges    []Range
	Gaps      []Span // missing after the begin of the oldest backup, before newer segments
	NoHistory bool   // it has WAL, but nothing says where it began
}

// Lacking is a complete backup that cannot be restored as things are.
type Lacking struct {
	ID      backup.ID
	Status  backup.Status
	Missing []Span // of the WAL that makes it consistent
	Reason  string // when it is not WAL that is missing
}

// Result is the window of a server.
type Result struct {
	Timelines []Timeline
	Lacking   []Lacking
}

// Gaps are the missing segments of all timelines, each once.
func (r Result) Gaps() []Span {
	var out []Span
	for _, t := range r.Timelines {
		for _, g := range t.Gaps {
			if !slices.Contains(out, g) {
				out = append(out, g)
			}
		}
	}
	return out
}

// SegmentSize is that of the newest backup which knows it; WAL that was written
// with another size before is not judged.
func SegmentSize(backups []*backupinfo.Info) uint64 {
	for _, b := range slices.Backward(backups) {
		if b.SegmentSize != nil && wal.ValidSegmentSize(*b.SegmentSize) {
			return *b.SegmentSize
		}
	}
	return wal.DefaultSegmentSize
}

// one is a backup whose copy is complete.
type one struct {
	info       *backupinfo.Info
	tli        uint32
	begin, end uint64 // segments
	standalone bool
	whole      bool // it can be restored
}

// Compute finds the window.
func Compute(in Input) Result {
	in.Segments.sort()
	var r Result
	backups := r.judge(in)
	for _, tli := range slices.Sorted(maps.Keys(in.Segments.runs)) {
		if t := along(in, backups, tli); len(t.Ranges) > 0 || len(t.Gaps) > 0 || t.NoHistory {
			r.Timelines = append(r.Timelines, t)
		}
	}
	return r
}

// judge tells the backups that can be restored from those that lack something.
func (r *Result) judge(in Input) []one {
	complete := map[backup.ID]*backupinfo.Info{}
	for _, b := range in.Backups {
		if b.Status.CopyDone() {
			complete[b.ID] = b
		}
	}
	var out []one
	for _, b := range in.Backups {
		if !b.Status.CopyDone() {
			continue
		}
		size := in.Segments.size
		o := one{info: b, standalone: in.Standalone[b.ID]}
		lacks := Lacking{ID: b.ID, Status: b.Status}
		switch {
		case b.Timeline == nil || b.BeginLSN == nil || b.EndLSN == nil || *b.EndLSN == 0 || *b.BeginLSN > *b.EndLSN-1:
			lacks.Reason = "its record does not say where in the WAL it begins and ends"
		case b.SegmentSize != nil && *b.SegmentSize != size:
			lacks.Reason = fmt.Sprintf("its WAL has segments of %d bytes, not %d as that of the newest backup, and is not judged", *b.SegmentSize, size)
		default:
			o.tli, o.begin, o.end = *b.Timeline, uint64(*b.BeginLSN)/size, uint64(*b.EndLSN-1)/size
			lacks.Missing = in.Segments.missing(o.tli, o.begin, o.end)
			if parent := b.Parent; parent != nil && complete[*parent] == nil {
				lacks.Reason = fmt.Sprintf("backup %s, on which it builds, is not there", *parent)
			}
			o.whole = len(lacks.Missing) == 0 && lacks.Reason == ""
			out = append(out, o)
		}
		if !o.whole {
			r.Lacking = append(r.Lacking, lacks)
		}
	}
	return out
}

// leg is the part of a path that lies on one timeline, both ends included.
type leg struct {
	tli      uint32
	from, to uint64
}

// path is the way of recovery along a timeline. The segment in which a timeline
// was left belongs to its successor, which begins with a copy of it.
func path(in Input, tli uint32) []leg {
	var out []leg
	from := uint64(0)
	for _, s := range in.Histories[tli].Switches {
		next := uint64(s.At) / in.Segments.size
		if next > from {
			out = append(out, leg{s.TLI, from, next - 1})
			from = next
		}
	}
	return append(out, leg{tli, from, ^uint64(0)})
}

// along is what can be restored along one timeline.
func along(in Input, backups []one, tli uint32) Timeline {
	t := Timeline{TLI: tli}
	history, known := in.Histories[tli]
	if !known {
		history = wal.History{TLI: tli}
	}
	legs := path(in, tli)
	byEnd := map[uint64]int{}
	oldest, any := uint64(0), false
	reachable := false
	for _, b := range backups {
		if !history.Contains(b.tli, *b.info.EndLSN-1) {
			continue
		}
		reachable = true
		if !b.standalone && (!any || b.begin < oldest) {
			oldest, any = b.begin, true
		}
		if !b.whole {
			continue
		}
		last, found := in.Segments.reach(legs, b.end)
		if !found {
			continue
		}
		i, is := byEnd[last.to]
		if !is {
			i = len(t.Ranges)
			byEnd[last.to] = i
			end := wal.Segment{TLI: tli, No: last.to, Size: in.Segments.size}
			t.Ranges = append(t.Ranges, Range{From: *b.info.EndLSN, To: end.End(), First: b.info.ID, Last: end.Name()})
		}
		t.Ranges[i].take(b.info)
	}
	for i := range t.Ranges {
		// A segment is dated by its last write, a backup by the moment after its end.
		if at := in.Written(t.Ranges[i].Last); at.After(t.Ranges[i].ToTime) {
			t.Ranges[i].ToTime = at
		}
	}
	slices.SortFunc(t.Ranges, func(a, b Range) int { return cmp.Compare(a.From, b.From) })
	if any {
		t.Gaps = in.Segments.gaps(legs, oldest)
	}
	t.NoHistory = !known && tli > 1 && !reachable
	return t
}

// take counts a backup of the range.
func (r *Range) take(b *backupinfo.Info) {
	r.Backups++
	if *b.EndLSN < r.From || r.First == b.ID {
		r.First, r.From, r.FromTime = b.ID, *b.EndLSN, time.Time{}
		if b.EndTime != nil {
			r.FromTime = *b.EndTime
		}
	}
	if b.EndTime != nil && b.EndTime.After(r.ToTime) {
		r.ToTime = *b.EndTime
	}
}

// reach is the run, on the last leg, that recovery comes to from a segment on.
func (s *Segments) reach(legs []leg, from uint64) (run, bool) {
	for i, l := range legs {
		if l.to < from {
			continue
		}
		r, found := s.at(l.tli, max(l.from, from))
		if !found || i == len(legs)-1 {
			return r, found
		}
		if r.to < l.to {
			return run{}, false
		}
	}
	return run{}, false
}

// gaps are the missing segments of a path, from a segment to the newest
// archived one of its last leg.
func (s *Segments) gaps(legs []leg, from uint64) []Span {
	var out []Span
	for _, l := range legs {
		to := l.to
		if newest, found := s.last(l.tli); l == legs[len(legs)-1] && found {
			to = newest
		}
		if to >= max(l.from, from) {
			out = append(out, s.missing(l.tli, max(l.from, from), to)...)
		}
	}
	return out
}
