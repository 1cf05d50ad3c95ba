package walspool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walspool"
	"github.com/holdfast-pg/holdfast/internal/walspool/handout"
	"github.com/holdfast-pg/holdfast/internal/waltest"
)

const mib = 1 << 20

func segment(n int) wal.Segment { return wal.Segment{TLI: 1, No: uint64(n), Size: mib} }

func name(n int) string { return segment(n).Name() }

func content(n int) []byte { return waltest.Segment(segment(n), 0, name(n)) }

// archive holds the segments 1 to last.
type archive struct {
	last int
	err  error

	mu    sync.Mutex
	asked []string
}

func (a *archive) Fetch(_ context.Context, want, dest string) error {
	a.mu.Lock()
	a.asked = append(a.asked, want)
	a.mu.Unlock()
	for n := 1; n <= a.last; n++ {
		if name(n) == want {
			return errors.Join(a.err, os.WriteFile(dest, content(n), 0o600))
		}
	}
	return fault.New(fault.NotFound, "fetch", want, "none")
}

func (a *archive) Following(_ context.Context, from string, n int, _ uint64) (out []string, err error) {
	for i := 1; i <= a.last && len(out) < n; i++ {
		if name(i) >= from {
			out = append(out, name(i))
		}
	}
	return out, nil
}

type bench struct {
	walspool.Spool
	*archive
	t    *testing.T
	dest string
}

func newBench(t *testing.T, last int) *bench {
	t.Helper()
	b := &bench{archive: &archive{last: last}, t: t, dest: filepath.Join(t.TempDir(), "RECOVERYXLOG")}
	b.Spool = walspool.Spool{Archive: b.archive, Place: "here", N: 4, SegmentSize: mib}
	return b
}

func (b *bench) dir() string { return filepath.Join(filepath.Dir(b.dest), handout.Dir) }

// ask expects a segment, which ones were fetched for it, and which ones wait then.
func (b *bench) ask(n int, fetched []int, waiting ...int) {
	b.t.Helper()
	if err := b.Spool.Fetch(b.t.Context(), name(n), b.dest, b.archive.Fetch); err != nil {
		b.t.Errorf("%d: %v", n, err)
	}
	if got, err := os.ReadFile(b.dest); err != nil || string(got) != string(content(n)) {
		b.t.Errorf("%d has other content, %v", n, err)
	}
	slices.Sort(b.asked)
	if got := strings.Join(b.asked, " "); got != joined(fetched) {
		b.t.Errorf("for %d these were fetched: %s", n, got)
	}
	b.asked = nil
	entries, _ := os.ReadDir(b.dir())
	var there []string
	for _, e := range entries {
		base, _, _ := strings.Cut(e.Name(), ".")
		there = append(there, base)
	}
	if got := strings.Join(there, " "); got != joined(waiting) {
		b.t.Errorf("after %d these wait: %s", n, got)
	}
}

func joined(numbers []int) string {
	var out []string
	for _, n := range numbers {
		out = append(out, name(n))
	}
	return strings.Join(out, " ")
}

func TestSpool(t *testing.T) {
	b := newBench(t, 6)
	b.ask(1, []int{1, 2, 3, 4}, 2, 3, 4)
	b.ask(2, nil, 3, 4)
	b.ask(2, []int{2, 5}, 3, 4, 5) // PostgreSQL was started anew
	b.ask(4, nil, 5)
	b.ask(5, nil)
	b.ask(6, []int{6})
	if _, err := os.Stat(b.dir()); err == nil {
		t.Error("the empty directory stays")
	}
	err := b.Spool.Fetch(t.Context(), name(7), b.dest, b.archive.Fetch)
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
}

// TestWhatIsWrongIsFetchedAgain: nothing is handed out that the archive did not give.
func TestWhatIsWrongIsFetchedAgain(t *testing.T) {
	for what, change := range map[string]func(b *bench, path string) error{
		"a flipped bit": func(b *bench, path string) error {
			data := content(2)
			data[mib-1] = 1
			return os.WriteFile(path, data, 0o600)
		},
		"half of it":      func(_ *bench, path string) error { return os.Truncate(path, mib/2) },
		"nothing":         func(_ *bench, path string) error { return os.Truncate(path, 0) },
		"another segment": func(_ *bench, path string) error { return os.WriteFile(path, content(3), 0o600) },
		"a pipe":          func(_ *bench, path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
		"a link": func(_ *bench, path string) error {
			return errors.Join(os.Rename(path, path+"x"), os.Symlink(path+"x", path))
		},
		"of another archive": func(b *bench, _ string) error { b.Place = "there"; return nil },
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t, 2)
			b.ask(1, []int{1, 2}, 2)
			found, err := filepath.Glob(filepath.Join(b.dir(), name(2)+".*"))
			if err != nil || len(found) != 1 {
				t.Fatal(found, err)
			}
			if err := change(b, found[0]); err != nil {
				t.Fatal(err)
			}
			b.ask(2, []int{2})
		})
	}
}

// TestLeftovers of killed processes, of another timeline and of another place are removed.
func TestLeftovers(t *testing.T) {
	b := newBench(t, 3)
	if err := os.Mkdir(b.dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{".holdfast-tmp-" + name(2) + "-1", name(2), name(9) + ".00000000", "000000020000000000000002.00000000"} {
		if err := os.WriteFile(filepath.Join(b.dir(), left), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.ask(1, []int{1, 2, 3}, 2, 3)
	now := time.Now()
	walspool.Sweep(filepath.Dir(b.dest), now)
	if _, err := os.Stat(b.dir()); err != nil {
		t.Error("it is in use:", err)
	}
	walspool.Sweep(filepath.Dir(b.dest), now.Add(2*time.Hour))
	if _, err := os.Stat(b.dir()); err == nil {
		t.Error("it stays for ever")
	}
}

// TestDiskFull: what was fetched ahead makes room for what is needed.
func TestDiskFull(t *testing.T) {
	b := newBench(t, 3)
	full := true
	err := b.Spool.Fetch(t.Context(), name(1), b.dest, func(ctx context.Context, name, dest string) error {
		if full {
			full = false
			return fault.New(fault.Disk, "write", dest, "no space left")
		}
		if _, err := os.Stat(b.dir()); err == nil {
			t.Error("the spool is still there")
		}
		return b.archive.Fetch(ctx, name, dest)
	})
	if err != nil || full {
		t.Errorf("%v", err)
	}
}

func TestNothingAhead(t *testing.T) {
	b := newBench(t, 3)
	b.N = 1
	b.ask(1, []int{1})
	b.N, b.SegmentSize = 4, 3
	b.ask(2, []int{2})
}
