package walahead_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walahead"
)

// store is an archive that remembers what it was given.
type store struct {
	mu     sync.Mutex
	names  []string
	refuse string
	during func(path string) // called before a file counts as durable
}

func (s *store) Deliver(_ context.Context, src, name string, _ time.Time) error {
	if s.during != nil {
		s.during(src)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == s.refuse {
		return errors.New("refused")
	}
	s.names = append(s.names, name)
	return nil
}

// given are the names since the last call.
func (s *store) given() string {
	slices.Sort(s.names)
	out := strings.Join(s.names, " ")
	s.names = nil
	return out
}

type bench struct {
	walahead.Ahead
	*store
	t   *testing.T
	dir string
	now time.Time
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{store: &store{}, t: t, dir: filepath.Join(t.TempDir(), "pg_wal"), now: time.Date(2026, 11, 27, 7, 0, 0, 0, time.UTC)}
	if err := os.MkdirAll(filepath.Join(b.dir, "archive_status"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.Ahead = walahead.Ahead{Archive: b.store, Place: "here", Note: filepath.Join(b.dir, "..", "note"), N: 4}
	return b
}

func segment(n int) string {
	return wal.Segment{TLI: 1, No: uint64(n), Size: wal.DefaultSegmentSize}.Name()
}

// ready makes segments that the server has finished.
func (b *bench) ready(numbers ...int) {
	b.t.Helper()
	for _, n := range numbers {
		err := errors.Join(os.WriteFile(filepath.Join(b.dir, segment(n)), []byte("wal"), 0o600),
			os.WriteFile(filepath.Join(b.dir, "archive_status", segment(n)+".ready"), nil, 0o600))
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// ask expects an answer, and which files went to the archive for it.
func (b *bench) ask(n int, want ...int) {
	b.t.Helper()
	if err := b.Ahead.Deliver(b.t.Context(), filepath.Join(b.dir, segment(n)), b.now); err != nil {
		b.t.Errorf("%d: %v", n, err)
	}
	var names []string
	for _, w := range want {
		names = append(names, segment(w))
	}
	if got := b.given(); got != strings.Join(names, " ") {
		b.t.Errorf("asked for %d: archived %s, not %v", n, got, names)
	}
}

func TestAhead(t *testing.T) {
	b := newBench(t)
	b.ready(1, 2, 3, 4, 5, 6)
	for _, other := range []string{"00000002.history.ready", segment(2) + ".00000028.backup.ready", segment(1) + ".done", segment(7) + ".done", "x.ready"} {
		if err := os.WriteFile(filepath.Join(b.dir, "archive_status", other), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.ask(1, 1, 2, 3, 4)
	b.ask(2)
	b.ask(3)
	b.ask(3) // the server was killed before it noted the answer
	b.ask(4)
	b.ask(5, 5, 6)
	b.ask(6)
}

// TestWhatIsNotTheSame: no note is believed of another file, archive or time.
func TestWhatIsNotTheSame(t *testing.T) {
	for what, change := range map[string]func(b *bench, path string) error{
		"written": func(_ *bench, path string) error {
			st, err := os.Stat(path)
			time.Sleep(20 * time.Millisecond) // longer than a tick of the kernel's clock
			return errors.Join(err, os.WriteFile(path, []byte("law"), 0o600), os.Chtimes(path, st.ModTime(), st.ModTime()))
		},
		"recycled": func(b *bench, path string) error {
			time.Sleep(20 * time.Millisecond)
			return errors.Join(os.Rename(path, path+"x"), os.Rename(path+"x", path))
		},
		"replaced": func(b *bench, path string) error {
			return errors.Join(os.WriteFile(path+"x", []byte("wal"), 0o600), os.Rename(path+"x", path))
		},
		"another archive":    func(b *bench, _ string) error { b.Place = "there"; return nil },
		"an old note":        func(b *bench, _ string) error { b.now = b.now.Add(time.Hour); return nil },
		"a note of tomorrow": func(b *bench, _ string) error { b.now = b.now.Add(-time.Hour); return nil },
		"a torn note":        func(b *bench, _ string) error { return os.Truncate(b.Note, 20) },
		"no note":            func(b *bench, _ string) error { return os.Remove(b.Note) },
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			b.ready(1, 2)
			b.ask(1, 1, 2)
			if err := change(b, filepath.Join(b.dir, segment(2))); err != nil {
				t.Fatal(err)
			}
			b.ask(2, 2)
		})
	}
}

// TestChangedWhileItWasRead: what was archived may be neither the old nor the new content.
func TestChangedWhileItWasRead(t *testing.T) {
	b := newBench(t)
	b.ready(1, 2)
	b.during = func(path string) {
		if filepath.Base(path) == segment(2) {
			if err := os.WriteFile(path, []byte("more"), 0o600); err != nil {
				t.Error(err)
			}
		}
	}
	b.ask(1, 1, 2)
	b.during = nil
	b.ask(2, 2)
}

// TestAheadFails: only the segment that was asked for counts.
func TestAheadFails(t *testing.T) {
	b := newBench(t)
	b.ready(1, 2, 3)
	b.refuse = segment(2)
	b.ask(1, 1, 3)
	if err := b.Ahead.Deliver(t.Context(), filepath.Join(b.dir, segment(2)), b.now); err == nil || err.Error() != "refused" {
		t.Errorf("%v", err)
	}
	b.given()
	b.refuse = ""
	b.ask(2, 2)
	b.ask(3)
	if err := b.Ahead.Deliver(t.Context(), filepath.Join(b.dir, segment(9)), b.now); err != nil {
		t.Error(err) // the archive says that there is no such file
	}
}

func TestNothingAhead(t *testing.T) {
	b := newBench(t)
	b.ready(1, 2)
	b.N = 1
	b.ask(1, 1)
	b.ask(2, 2)
	if _, err := os.Stat(b.Note); err == nil {
		t.Error("there is a note")
	}
	b.N = 3
	history := filepath.Join(b.dir, "00000002.history")
	if err := b.Ahead.Deliver(t.Context(), history, b.now); err != nil || b.given() != "00000002.history" {
		t.Errorf("%v", err)
	}
}
