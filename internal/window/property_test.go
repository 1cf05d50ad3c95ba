package window_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/window"
)

// world is a random archive, known segment by segment.
type world struct {
	size      uint64
	have      map[wal.Segment]bool
	histories map[uint32]wal.History
	backups   []*backupinfo.Info
}

func random(r *rand.Rand) world {
	w := world{size: uint64(mib) << r.IntN(5), have: map[wal.Segment]bool{}, histories: map[uint32]wal.History{}}
	const last = 24
	lsn := func(from, to uint64) wal.LSN { return wal.LSN(from*w.size + 1 + r.Uint64N((to-from)*w.size)) }
	timelines := uint32(1 + r.IntN(4))
	begins := map[uint32]uint64{1: 0}
	for tli := uint32(2); tli <= timelines; tli++ {
		parent := 1 + r.Uint32N(tli-1)
		h := wal.History{TLI: tli, Switches: slices.Clone(w.histories[parent].Switches)}
		at := lsn(begins[parent], last)
		if k := len(h.Switches); k > 0 {
			at = max(at, h.Switches[k-1].At)
		}
		if r.IntN(4) == 0 {
			at -= at % wal.LSN(w.size) // at a boundary
			if k := len(h.Switches); k > 0 {
				at = max(at, h.Switches[k-1].At)
			}
		}
		h.Switches = append(h.Switches, wal.Switch{TLI: parent, At: at})
		w.histories[tli], begins[tli] = h, uint64(at)/w.size
	}
	for tli := uint32(1); tli <= timelines; tli++ {
		for no := begins[tli]; no <= last; no++ {
			if r.IntN(10) > 0 {
				w.have[wal.Segment{TLI: tli, No: no, Size: w.size}] = true
			}
		}
	}
	for i := range 1 + r.IntN(6) {
		tli := 1 + r.Uint32N(timelines)
		begin := lsn(begins[tli], last)
		if h, is := w.histories[tli]; is {
			begin = max(begin, h.Switches[len(h.Switches)-1].At+1)
		}
		end := begin + 1 + wal.LSN(r.Uint64N(2*w.size))
		w.backups = append(w.backups, &backupinfo.Info{ID: backup.NewID(minute(uint64(i))), Status: backup.Done, Timeline: &tli, BeginLSN: &begin, EndLSN: &end, SegmentSize: &w.size})
	}
	return w
}

// file is what recovery along a timeline reads at a position: the newest
// timeline of the history that has begun by then.
func (w world) file(tli uint32, no uint64) wal.Segment {
	found := wal.Segment{TLI: tli, No: no, Size: w.size}
	switches := w.histories[tli].Switches
	for i := len(switches) - 1; i >= 0 && no < uint64(switches[i].At)/w.size; i-- {
		found.TLI = switches[i].TLI
	}
	return found
}

// oracle follows every backup along a timeline, a segment at a time.
func (w world) oracle(tli uint32) string {
	h, known := w.histories[tli]
	if !known {
		h = wal.History{TLI: tli}
	}
	newest, any := uint64(0), false
	for s := range w.have {
		if s.TLI == tli {
			newest, any = max(newest, s.No), true
		}
	}
	if !any {
		return ""
	}
	oldest, found := uint64(0), false
	first := map[uint64]wal.LSN{}
	for _, b := range w.backups {
		begin, end := uint64(*b.BeginLSN)/w.size, uint64(*b.EndLSN-1)/w.size
		if !h.Contains(*b.Timeline, *b.EndLSN-1) {
			continue
		}
		if !found || begin < oldest {
			oldest, found = begin, true
		}
		whole := true
		for no := begin; no <= end; no++ {
			whole = whole && w.have[wal.Segment{TLI: *b.Timeline, No: no, Size: w.size}]
		}
		no := end
		for whole && w.have[w.file(tli, no)] {
			no++
		}
		if no == end || w.file(tli, no-1).TLI != tli {
			continue
		}
		if from, is := first[no]; !is || *b.EndLSN < from {
			first[no] = *b.EndLSN
		}
	}
	var out []string
	for no, from := range first {
		out = append(out, fmt.Sprintf("%s to %s", from, wal.LSN(no*w.size)))
	}
	slices.Sort(out)
	for no := oldest; found && no <= newest; no++ {
		if s := w.file(tli, no); !w.have[s] {
			out = append(out, s.Name())
		}
	}
	return strings.Join(out, "\n")
}

// TestTheWindowIsWhatRecoveryFinds compares thousands of random archives with
// an oracle that looks at every segment.
func TestTheWindowIsWhatRecoveryFinds(t *testing.T) {
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 0))
		w := random(r)
		in := window.Input{Backups: w.backups, Segments: window.NewSegments(w.size), Histories: w.histories, Written: func(string) time.Time { return midnight }}
		for s := range w.have { // in a random order
			in.Segments.Add(s.Name())
		}
		got := map[uint32]string{}
		for _, tl := range window.Compute(in).Timelines {
			var out []string
			for _, x := range tl.Ranges {
				out = append(out, fmt.Sprintf("%s to %s", x.From, x.To))
			}
			slices.Sort(out)
			for _, g := range tl.Gaps {
				if err := wal.EachSegment(g.First, g.Last, w.size, func(name string) error { out = append(out, name); return nil }); err != nil {
					t.Fatal(err)
				}
			}
			got[tl.TLI] = strings.Join(out, "\n")
		}
		for tli := uint32(1); tli <= 4; tli++ {
			if want := w.oracle(tli); got[tli] != want {
				t.Fatalf("seed %d, timeline %d: got\n%s\nwant\n%s\nhistories %v", seed, tli, got[tli], want, w.histories)
			}
		}
	}
}
