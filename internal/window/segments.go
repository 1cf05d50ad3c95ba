package window

import (
	"cmp"
	"slices"
	"sort"

	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Segments are the archived segments of a server.
type Segments struct {
	size   uint64
	runs   map[uint32][]run
	sorted bool
}

// run is archived segments of a timeline without a hole, both ends included.
type run struct{ from, to uint64 }

// NewSegments is an empty archive whose segments have a size.
func NewSegments(size uint64) *Segments {
	return &Segments{size: size, runs: map[uint32][]run{}, sorted: true}
}

// Add takes the name of an archived file, in any order; what is no segment
// counts for nothing.
func (s *Segments) Add(name string) {
	if wal.Classify(name) != wal.SegmentFile {
		return
	}
	seg, err := wal.ParseSegment(name, s.size)
	if err != nil {
		return
	}
	runs := s.runs[seg.TLI]
	if n := len(runs); n > 0 {
		last := &runs[n-1]
		if seg.No == last.to+1 || seg.No == last.to {
			last.to = seg.No
			return
		}
	}
	s.runs[seg.TLI] = append(runs, run{seg.No, seg.No})
	s.sorted = false
}

// sort joins what came in parts.
func (s *Segments) sort() {
	if s.sorted {
		return
	}
	for tli, runs := range s.runs {
		slices.SortFunc(runs, func(a, b run) int { return cmp.Compare(a.from, b.from) })
		joined := runs[:1]
		for _, r := range runs[1:] {
			last := &joined[len(joined)-1]
			if r.from > last.to+1 {
				joined = append(joined, r)
			} else {
				last.to = max(last.to, r.to)
			}
		}
		s.runs[tli] = joined
	}
	s.sorted = true
}

// at is the run that holds a segment.
func (s *Segments) at(tli uint32, no uint64) (run, bool) {
	runs := s.runs[tli]
	i := sort.Search(len(runs), func(i int) bool { return runs[i].to >= no })
	if i == len(runs) || runs[i].from > no {
		return run{}, false
	}
	return runs[i], true
}

// missing are the segments of a timeline that are not archived, of those from
// one to another, both included.
func (s *Segments) missing(tli uint32, from, to uint64) []Span {
	var out []Span
	runs := s.runs[tli]
	for i := sort.Search(len(runs), func(i int) bool { return runs[i].to >= from }); from <= to; i++ {
		if i == len(runs) || runs[i].from > to {
			return append(out, s.span(tli, from, to))
		}
		if runs[i].from > from {
			out = append(out, s.span(tli, from, runs[i].from-1))
		}
		from = runs[i].to + 1
	}
	return out
}

func (s *Segments) span(tli uint32, from, to uint64) Span {
	name := func(no uint64) string { return wal.Segment{TLI: tli, No: no, Size: s.size}.Name() }
	return Span{First: name(from), Last: name(to), Count: to - from + 1}
}

// last is the newest archived segment of a timeline.
func (s *Segments) last(tli uint32) (uint64, bool) {
	runs := s.runs[tli]
	if len(runs) == 0 {
		return 0, false
	}
	return runs[len(runs)-1].to, true
}
