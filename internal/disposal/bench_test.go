package disposal_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/disposal"
	"github.com/holdfast-pg/holdfast/internal/retention"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

const mib = 1 << 20

var now = time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)

// bench is a catalogue with an archive, in directories of a test.
type bench struct {
	*disposal.Disposal
	t testing.TB
}

func open(t testing.TB, dir string) *bench {
	t.Helper()
	d := filepath.Join(dir, "main")
	l := catalog.Layout{Server: "main", BackupDir: d, BaseDir: d + "/base", MetaDir: d + "/meta", WALDir: d + "/wals", XlogDBDir: d + "/wals",
		IncomingDir: d + "/incoming", StreamingDir: d + "/streaming", ErrorsDir: d + "/errors", LockDir: dir}
	b := &bench{&disposal.Disposal{Catalog: catalog.Open(l), Archive: walarchive.Open(l, walarchive.Options{SegmentSize: mib})}, t}
	b.must(l.EnsureDirs())
	return b
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func day(n int) backup.ID { return backup.NewID(time.Date(2026, 3, n, 0, 0, 0, 0, time.UTC)) }

const filesOfABackup = 40

// add files a backup of a day, whose WAL is the segment of that number.
func (b *bench) add(n int, change func(*backupinfo.Info)) {
	b.t.Helper()
	begin, end := wal.LSN(n*mib+40), wal.LSN(n*mib+4000)
	name := segment(n)
	at := time.Date(2026, 3, n, 1, 0, 0, 0, time.UTC)
	mode, sys, size, tli := "postgres", "1", uint64(mib), uint32(1)
	info := &backupinfo.Info{ID: day(n), ServerName: "main", Status: backup.Done, Mode: &mode, SystemID: &sys, SegmentSize: &size, Timeline: &tli,
		BeginLSN: &begin, EndLSN: &end, BeginWAL: &name, EndWAL: &name, BeginTime: &at, EndTime: &at}
	if change != nil {
		change(info)
	}
	b.must(b.Catalog.Create(info))
	for i := range filesOfABackup {
		path := filepath.Join(b.Catalog.DataDir(info.ID), "base", fmt.Sprint(i%4), fmt.Sprint(i))
		b.must(os.MkdirAll(filepath.Dir(path), 0o700))
		b.must(os.WriteFile(path, []byte("x"), 0o600))
	}
	if info.Parent != nil {
		parent, err := b.Catalog.Get(*info.Parent)
		b.must(err)
		parent.Children = append(parent.Children, info.ID)
		b.must(b.Catalog.Save(parent))
	}
}

func dependsOn(n int) func(*backupinfo.Info) {
	return func(i *backupinfo.Info) {
		parent := day(n)
		i.Parent = &parent
	}
}

func segment(n int) string { return wal.Segment{TLI: 1, No: uint64(n), Size: mib}.Name() }

// archive stores segments.
func (b *bench) archive(from, to int) {
	b.t.Helper()
	for n := from; n <= to; n++ {
		path := b.Archive.Where(walarchive.Entry{Name: segment(n)})
		b.must(os.MkdirAll(filepath.Dir(path), 0o755))
		b.must(os.WriteFile(path, []byte("wal"), 0o600))
	}
	_, err := b.Archive.Rebuild(b.t.Context())
	b.must(err)
}

// policy sets a redundancy.
func (b *bench) policy(redundancy int) {
	b.Policy = retention.Policy{Retention: config.Retention{Redundancy: redundancy}}
}

// state is the backups, and the WAL by number, as files and as lines.
func (b *bench) state() (backups, files, lines string) {
	b.t.Helper()
	all, err := b.Catalog.All()
	b.must(err)
	var list []string
	for _, i := range all {
		list = append(list, fmt.Sprintf("%d:%s", i.BeginTime.Day(), i.Status))
	}
	var stored, listed []string
	for n := range 64 {
		if _, err := os.Stat(b.Archive.Where(walarchive.Entry{Name: segment(n)})); err == nil {
			stored = append(stored, fmt.Sprint(n))
		}
	}
	b.must(b.Archive.Each(b.t.Context(), func(e walarchive.Entry) error {
		seg, err := wal.ParseSegment(e.Name, mib)
		listed = append(listed, fmt.Sprint(seg.No))
		return err
	}))
	return strings.Join(list, " "), strings.Join(stored, " "), strings.Join(listed, " ")
}

func (b *bench) want(backups, segments string) {
	b.t.Helper()
	gotBackups, files, lines := b.state()
	if gotBackups != backups || files != segments || lines != segments {
		b.t.Errorf("backups %q, want %q\nfiles %q, lines %q, want %q", gotBackups, backups, files, lines, segments)
	}
}

// whole makes sure that nobody can take a part of a backup for a backup, and
// that what is listed of the archive exists and suffices.
func (b *bench) whole() {
	b.t.Helper()
	all, err := b.Catalog.All()
	b.must(err)
	listed := map[string]bool{}
	b.must(b.Archive.Each(b.t.Context(), func(e walarchive.Entry) error {
		listed[e.Name] = true
		_, err := os.Stat(b.Archive.Where(walarchive.Entry{Name: e.Name}))
		return err
	}))
	ids := []backup.ID{}
	for _, i := range all {
		ids = append(ids, i.ID)
	}
	for _, i := range all {
		if i.Status != backup.Done {
			continue
		}
		if n := count(b.t, b.Catalog.BackupDirOf(i.ID)); n != filesOfABackup {
			b.t.Errorf("backup %s is listed as DONE and has %d of %d files", i.ID, n, filesOfABackup)
		}
		if !listed[*i.BeginWAL] {
			b.t.Errorf("backup %s is listed as DONE without its WAL", i.ID)
		}
		if i.Parent != nil && !slices.Contains(ids, *i.Parent) {
			b.t.Errorf("backup %s is listed as DONE without %s", i.ID, *i.Parent)
		}
	}
}

func count(t testing.TB, dir string) int {
	t.Helper()
	n := 0
	if err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return err
	}); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return n
}
