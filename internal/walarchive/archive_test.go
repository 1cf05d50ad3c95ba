package walarchive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
	"github.com/holdfast-pg/holdfast/internal/waltest"
)

const (
	mib      = 1 << 20
	systemID = 7711189373537911368
)

func layout(dir string) catalog.Layout {
	d := filepath.Join(dir, "main")
	return catalog.Layout{Server: "main", BackupDir: d, BaseDir: d + "/base", MetaDir: d + "/meta", WALDir: d + "/wals", XlogDBDir: d + "/wals",
		IncomingDir: d + "/incoming", StreamingDir: d + "/streaming", ErrorsDir: d + "/errors", LockDir: dir}
}

// Path is where a file is stored.
func (b *bench) Path(name string) string { return b.Where(walarchive.Entry{Name: name}) }

type bench struct {
	*walarchive.Archive
	l   catalog.Layout
	src string // a directory like pg_wal
}

func newBench(t testing.TB, compression string, segmentSize uint64) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{l: layout(dir), src: filepath.Join(dir, "pg_wal")}
	if err := errors.Join(b.l.EnsureDirs(), os.Mkdir(b.src, 0o700)); err != nil {
		t.Fatal(err)
	}
	c, err := codec.New(compression, "low")
	if err != nil {
		t.Fatal(err)
	}
	b.Archive = walarchive.Open(b.l, walarchive.Options{Compression: c, SegmentSize: segmentSize})
	return b
}

// segment is a WAL segment of PostgreSQL 18 with fill as its content.
func segment(t testing.TB, name string, size int, fill string) []byte {
	t.Helper()
	seg, err := wal.ParseSegment(name, uint64(size))
	if err != nil {
		t.Fatal(err)
	}
	return waltest.Segment(seg, systemID, fill)
}

func (b *bench) write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(b.src, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (b *bench) segment(t testing.TB, name, fill string) string {
	t.Helper()
	return b.write(t, name, segment(t, name, mib, fill))
}

func (b *bench) archive(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(b.src, name)
		if _, err := os.Stat(path); err != nil && wal.Classify(name) == wal.SegmentFile {
			b.segment(t, name, name)
		} else if err != nil {
			b.write(t, name, []byte("START\n"))
		}
		if err := b.Archive.Archive(t.Context(), path, name); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *bench) lines(t testing.TB) []string {
	t.Helper()
	var out []string
	if err := b.Each(t.Context(), func(e walarchive.Entry) error { out = append(out, e.Name); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func (b *bench) noLeftovers(t testing.TB) {
	t.Helper()
	for _, pattern := range []string{"*", "*/*"} {
		left, err := filepath.Glob(filepath.Join(b.l.WALDir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range left {
			if strings.HasPrefix(filepath.Base(path), atomicfile.TempPrefix) {
				t.Errorf("left behind: %s", path)
			}
		}
	}
}

const seg1, seg2, seg3 = "000000010000000000000001", "000000010000000000000002", "000000010000000000000003"

func TestArchiveAndFetch(t *testing.T) {
	for _, compression := range []string{"none", "gzip", "zstd", "lz4"} {
		t.Run(compression, func(t *testing.T) {
			b := newBench(t, compression, 0)
			names := []string{seg1, seg1 + ".00000028.backup", "00000002.history", seg2 + ".partial"}
			b.archive(t, names...)
			b.archive(t, names...) // PostgreSQL asks again after a crash
			if got := b.lines(t); strings.Join(got, " ") != strings.Join(names, " ") {
				t.Errorf("listed: %v", got)
			}
			for _, name := range names {
				dest := filepath.Join(t.TempDir(), "RECOVERYXLOG")
				if err := b.Fetch(t.Context(), name, dest); err != nil {
					t.Fatal(err)
				}
				want, err1 := os.ReadFile(filepath.Join(b.src, name))
				got, err2 := os.ReadFile(dest)
				if err1 != nil || err2 != nil || !bytes.Equal(got, want) {
					t.Errorf("%s changed: %v, %v", name, err1, err2)
				}
			}
			stored, err := os.Stat(filepath.Join(b.l.WALDir, "0000000100000000", seg1))
			source, err2 := os.Stat(filepath.Join(b.src, seg1))
			if err != nil || err2 != nil || !stored.ModTime().Equal(source.ModTime()) || (compression != "none" && stored.Size() > mib/2) {
				t.Errorf("%v %v, %v %v", stored, err, source, err2)
			}
			b.noLeftovers(t)
		})
	}
}

func TestOtherContentIsRefusedLoudly(t *testing.T) {
	for _, compression := range []string{"none", "zstd"} {
		b := newBench(t, compression, mib)
		b.archive(t, seg1)
		before, err := os.ReadFile(b.Path(seg1))
		if err != nil {
			t.Fatal(err)
		}
		err = b.Archive.Archive(t.Context(), b.segment(t, seg1, "other"), seg1)
		if !fault.Is(err, fault.Conflict) || fault.HintOf(err) == "" || strings.Count(err.Error(), "1048576 bytes with SHA-256 ") != 2 {
			t.Errorf("%v", err)
		}
		if after, err := os.ReadFile(b.Path(seg1)); err != nil || !bytes.Equal(before, after) {
			t.Error("the stored file changed")
		}
	}
}

func TestWhatIsNoWholeWALIsRefused(t *testing.T) {
	b := newBench(t, "", mib)
	good := segment(t, seg1, mib, "x")
	for name, c := range map[string]struct {
		name string
		data []byte
		kind fault.Kind
	}{
		"short":       {seg1, good[:mib-1], fault.Corrupt},
		"wrong place": {seg2, good, fault.Corrupt},
		"empty":       {seg1, nil, fault.Corrupt},
		"no header":   {seg1, make([]byte, mib), fault.Corrupt},
		"other size":  {seg1, segment(t, seg1, 2*mib, "x"), fault.Corrupt},
		"no WAL name": {"postgresql.conf", good, fault.Usage},
		"a path":      {"../../" + seg1, good, fault.Usage},
	} {
		err := b.Archive.Archive(t.Context(), b.write(t, filepath.Base(c.name), c.data), c.name)
		if !fault.Is(err, c.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.Archive.Archive(t.Context(), b.src+"/nothing", seg1); !fault.Is(err, fault.NotFound) {
		t.Errorf("%v", err)
	}
	pipe := filepath.Join(b.src, "pipe") // without a writer
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Archive.Archive(t.Context(), pipe, seg2); !fault.Is(err, fault.Usage) {
		t.Errorf("a pipe: %v", err)
	}
	if got := b.lines(t); len(got) > 0 {
		t.Errorf("listed: %v", got)
	}
}

// TestKillPoints kills an archiver before each step of a write; the next try
// must finish with one file, one line and nothing else.
func TestKillPoints(t *testing.T) {
	if dir := os.Getenv("WALARCHIVE_KILL_DIR"); dir != "" {
		archiveUntilKilled(dir, os.Getenv("WALARCHIVE_KILL_STEP"))
		return
	}
	for _, step := range []string{"create", "sync", "rename", "syncdir"} {
		b := newBench(t, "", mib)
		path := b.segment(t, seg1, "x")
		cmd := exec.Command(os.Args[0], "-test.run=^TestKillPoints$")
		cmd.Env = append(os.Environ(), "WALARCHIVE_KILL_DIR="+b.l.LockDir, "WALARCHIVE_KILL_STEP="+step)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%s: it was not killed: %v\n%s", step, err, out)
		}
		if lines := b.lines(t); len(lines) > 0 {
			t.Errorf("%s: listed before it was durable", step)
		}
		if err := b.Archive.Archive(t.Context(), path, seg1); err != nil {
			t.Errorf("%s: %v", step, err)
		}
		if lines := b.lines(t); len(lines) != 1 {
			t.Errorf("%s: listed %v", step, lines)
		}
		b.noLeftovers(t)
	}
}

func archiveUntilKilled(dir, step string) {
	atomicfile.Hook = func(s, path string) {
		if s == step && filepath.Base(path) == seg1 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	a := walarchive.Open(layout(dir), walarchive.Options{SegmentSize: mib})
	fmt.Println(a.Archive(context.Background(), filepath.Join(dir, "pg_wal", seg1), seg1))
}

func TestTwoArchiversOfOneFile(t *testing.T) {
	b := newBench(t, "", mib)
	path := b.segment(t, seg1, "x")
	errs := make(chan error)
	for range 8 {
		go func() { errs <- b.Archive.Archive(t.Context(), path, seg1) }()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if lines := b.lines(t); len(lines) != 1 {
		t.Errorf("listed %v", lines)
	}
	b.noLeftovers(t)
}

func TestFetchOrder(t *testing.T) {
	b := newBench(t, "", mib)
	dest := filepath.Join(b.src, "dest")
	put := func(dir, name, fill string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), segment(t, name[:24], mib, fill), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fetched := func(fetch func(context.Context, string, string) error) string {
		t.Helper()
		os.Remove(dest)
		if err := fetch(t.Context(), seg1, dest); err != nil {
			return string(fault.KindOf(err))
		}
		data, err := os.ReadFile(dest)
		if err != nil {
			t.Fatal(err)
		}
		return string(data[40:48])
	}
	if got := fetched(b.FetchPartial); got != "NotFound" {
		t.Error(got)
	}
	put(b.l.StreamingDir, seg1+".partial", "partial.")
	if got := fetched(b.FetchPartial); got != "partial." {
		t.Error(got)
	}
	if got := fetched(b.Fetch); got != "NotFound" {
		t.Error(got)
	}
	put(b.l.StreamingDir, seg1, "streamed")
	if got := fetched(b.Fetch); got != "streamed" {
		t.Error(got)
	}
	put(b.l.IncomingDir, seg1, "incoming")
	if got := fetched(b.Fetch); got != "incoming" {
		t.Error(got)
	}
	if err := os.Truncate(filepath.Join(b.l.IncomingDir, seg1), 5000); err != nil {
		t.Fatal(err)
	}
	if got := fetched(b.Fetch); got != "streamed" {
		t.Errorf("a file in the making was not passed over: %s", got)
	}
	b.archive(t, seg1)
	if got := fetched(b.Fetch); got != seg1[:8] {
		t.Error(got)
	}
	if err := os.Truncate(b.Path(seg1), 5000); err != nil {
		t.Fatal(err)
	}
	if got := fetched(b.Fetch); got != "Corrupt" {
		t.Errorf("a damaged file of the archive: %s", got)
	}
	if _, err := os.Stat(dest); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a part of a damaged file was delivered")
	}
	if err := b.Fetch(t.Context(), "x", dest); !fault.Is(err, fault.Usage) {
		t.Error(err)
	}
	if err := b.Fetch(t.Context(), seg1, b.src+"/no/dest"); err == nil {
		t.Error("a destination in no directory was accepted")
	}
}

// What Barman compressed with programs that we do not write with.
func TestFetchReadsBarmansCompressions(t *testing.T) {
	for _, program := range []string{"bzip2", "xz"} {
		b := newBench(t, "", mib)
		data := segment(t, seg1, mib, "content")
		cmd := exec.Command(program, "-c")
		cmd.Stdin = bytes.NewReader(data)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(b.Path(seg1)), 0o755), os.WriteFile(b.Path(seg1), packed, 0o600)); err != nil {
			t.Fatal(err)
		}
		dest := filepath.Join(b.src, "dest")
		if err := b.Fetch(t.Context(), seg1, dest); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(dest); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %v", program, err)
		}
	}
}
