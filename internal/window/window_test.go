package window_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/window"
)

var update = flag.Bool("update", false, "rewrite the expected part of the files")

const mib = 1 << 20

// midnight is when segment 0 would have been written; each takes a minute.
var midnight = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func minute(no uint64) time.Time { return midnight.Add(time.Duration(no) * time.Minute) }

// parse reads the part of a file above the line "---":
//
//	size MIB
//	backup MINUTE TIMELINE BEGIN..END STATUS [standalone] [of MINUTE] [size MIB]
//	wal TIMELINE FROM..TO
//	history TIMELINE ANCESTOR@SEGMENT[+] ...
//
// BEGIN to TO are numbers of segments; + is the middle of one.
func parse(t *testing.T, text string) window.Input {
	t.Helper()
	in := window.Input{Standalone: map[backup.ID]bool{}, Histories: map[uint32]wal.History{}}
	size := uint64(16 * mib)
	in.Segments = window.NewSegments(size)
	for line := range strings.Lines(text) {
		word := strings.Fields(line)
		if len(word) == 0 {
			continue
		}
		switch word[0] {
		case "size":
			size = number(t, word[1]) * mib
			in.Segments = window.NewSegments(size)
		case "backup":
			begin, end := pair(t, word[3])
			tli, at := uint32(number(t, word[2])), minute(number(t, word[1]))
			from, to := wal.LSN(begin*size+40), wal.LSN(end*size+4000)
			b := &backupinfo.Info{ID: backup.NewID(at), Status: backup.Status(word[4]), Timeline: &tli, BeginLSN: &from, EndLSN: &to, EndTime: &at, SegmentSize: &size}
			for i, w := range word {
				switch w {
				case "standalone":
					in.Standalone[b.ID] = true
				case "of":
					parent := backup.NewID(minute(number(t, word[i+1])))
					b.Parent = &parent
				case "size":
					other := number(t, word[i+1]) * mib
					b.SegmentSize = &other
				case "unknown":
					b.EndLSN = nil
				}
			}
			in.Backups = append(in.Backups, b)
		case "wal":
			from, to := pair(t, word[2])
			for no := from; no <= to; no++ {
				in.Segments.Add(wal.Segment{TLI: uint32(number(t, word[1])), No: no, Size: size}.Name())
			}
		case "file":
			in.Segments.Add(word[1])
		case "history":
			h := wal.History{TLI: uint32(number(t, word[1]))}
			for _, w := range word[2:] {
				ancestor, at, _ := strings.Cut(w, "@")
				at, middle := strings.CutSuffix(at, "+")
				lsn := number(t, at) * size
				if middle {
					lsn += size / 2
				}
				h.Switches = append(h.Switches, wal.Switch{TLI: uint32(number(t, ancestor)), At: wal.LSN(lsn)})
			}
			in.Histories[h.TLI] = h
		default:
			t.Fatalf("unknown line %q", line)
		}
	}
	in.Written = func(segment string) time.Time {
		seg, err := wal.ParseSegment(segment, size)
		if err != nil {
			t.Fatal(err)
		}
		return minute(seg.No)
	}
	return in
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	var n uint64
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return n
}

func pair(t *testing.T, s string) (from, to uint64) {
	t.Helper()
	a, b, _ := strings.Cut(s, "..")
	return number(t, a), number(t, b)
}

func render(r window.Result) string {
	var b strings.Builder
	for _, t := range r.Timelines {
		fmt.Fprintf(&b, "timeline %d\n", t.TLI)
		if t.NoHistory {
			fmt.Fprintln(&b, "  no history")
		}
		for _, x := range t.Ranges {
			fmt.Fprintf(&b, "  %s %s to %s %s (%s), %d backups from %s on\n", x.From, x.FromTime.Format("15:04"), x.To, x.ToTime.Format("15:04"), x.Last, x.Backups, x.First)
		}
		for _, g := range t.Gaps {
			fmt.Fprintf(&b, "  gap %s\n", g)
		}
	}
	for _, l := range r.Lacking {
		fmt.Fprintf(&b, "%s %s: %s%s\n", l.ID, l.Status, l.Reason, fmt.Sprint(l.Missing))
	}
	return b.String()
}

func TestWindow(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			given, want, _ := strings.Cut(string(text), "---\n")
			got := render(window.Compute(parse(t, given)))
			if *update {
				if err := os.WriteFile(file, []byte(given+"---\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func TestGapsAreToldOnce(t *testing.T) {
	in := parse(t, "backup 3 1 3..3 DONE\nwal 1 3..4\nwal 1 7..9\nhistory 2 1@8+\nwal 2 8..8\nwal 2 10..10")
	got := fmt.Sprint(window.Compute(in).Gaps())
	if want := "[000000010000000000000005 to 000000010000000000000006 (2 segments) 000000020000000000000009]"; got != want {
		t.Errorf("%s", got)
	}
}

// BenchmarkCompute has 100,000 segments, every hundredth of which is missing.
func BenchmarkCompute(b *testing.B) {
	const segments = 100_000
	var names []string
	for no := range uint64(segments) {
		if no%100 != 99 {
			names = append(names, wal.Segment{TLI: 1, No: no, Size: 16 * mib}.Name())
		}
	}
	var backups []*backupinfo.Info
	tli := uint32(1)
	for no := uint64(0); no < segments; no += 1000 {
		from, to := wal.LSN(no*16*mib+40), wal.LSN(no*16*mib+4000)
		backups = append(backups, &backupinfo.Info{ID: backup.NewID(minute(no)), Status: backup.Done, Timeline: &tli, BeginLSN: &from, EndLSN: &to})
	}
	b.ReportAllocs()
	for b.Loop() {
		s := window.NewSegments(16 * mib)
		for _, name := range names {
			s.Add(name)
		}
		r := window.Compute(window.Input{Backups: backups, Segments: s, Written: func(string) time.Time { return midnight }})
		if len(r.Timelines[0].Ranges) != 100 || len(r.Timelines[0].Gaps) != 999 {
			b.Fatalf("%d ranges, %d gaps", len(r.Timelines[0].Ranges), len(r.Timelines[0].Gaps))
		}
	}
}
