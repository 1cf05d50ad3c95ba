package bucket_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/file"
	"github.com/holdfast-pg/holdfast/internal/replicas"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// fleet is a server whose backups go to three stores.
type fleet struct {
	t      *testing.T
	server *config.Server
	dirs   []string
	cat    *catalog.Catalog
	all    []*bucket.Bucket
}

func openFile(_ context.Context, at objstore.Location, _ config.CloudOptions, p *objstore.Policy) (objstore.Store, error) {
	return file.Open(at, p)
}

func newFleet(t *testing.T, more ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, dirs: []string{t.TempDir(), t.TempDir(), t.TempDir()}}
	home := t.TempDir()
	path := filepath.Join(home, "barman.conf")
	lines := append([]string{"[barman]", "barman_home = " + home, "[main]", "conninfo = host=x", "backup_method = local-to-cloud", "archiver = on",
		"basebackups_directory = file://" + f.dirs[0], fmt.Sprintf("holdfast_replicas = file://%s, file://%s", f.dirs[1], f.dirs[2])}, more...)
	f.must(os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	cfg, err := config.Load(path)
	f.must(err)
	f.server, err = cfg.Server("main")
	f.must(err)
	f.cat, err = bucket.Catalog(t.Context(), f.server, openFile, &objstore.Policy{})
	f.must(err)
	f.must(catalog.LayoutOf(f.server).EnsureDirs())
	f.all, err = bucket.All(t.Context(), f.server, openFile, func() *objstore.Policy { return &objstore.Policy{} })
	f.must(err)
	return f
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// info is the record of the backup of a day that needs the WAL of two segments.
func info(n int, status backup.Status) *backupinfo.Info {
	begin := wal.LSN(n*16*mib + 40)
	end := begin + 16*mib
	first, last := wal.SegmentOf(1, begin, 16*mib).Name(), wal.SegmentOf(1, end, 16*mib).Name()
	return &backupinfo.Info{ID: day(n), ServerName: "main", Status: status, Timeline: ptr(uint32(1)), BeginLSN: &begin, EndLSN: &end,
		BeginWAL: &first, EndWAL: &last, SystemID: ptr("7"), SegmentSize: ptr(uint64(16 * mib)), EndTime: ptr(time.Date(2026, 11, n, 3, 0, 0, 0, time.UTC))}
}

func (f *fleet) begin(n int) {
	f.t.Helper()
	d, err := bucket.Destinations(f.server)
	f.must(err)
	f.must(f.cat.SaveDestinations(day(n), d))
}

// away takes a store away, and brings it back.
func (f *fleet) away(i int, is bool) {
	f.t.Helper()
	from, to := f.dirs[i], f.dirs[i]+".away"
	if !is {
		from, to = to, from
	}
	f.must(os.Rename(from, to))
}

// has lists the keys of each store.
func (f *fleet) has(i int) (out []string) {
	f.t.Helper()
	for o, err := range f.all[i].Store().List(f.t.Context(), "") {
		f.must(err)
		out = append(out, strings.TrimPrefix(o.Key, "main/"))
	}
	return out
}

func (f *fleet) put(i int, key, content string) {
	f.t.Helper()
	_, err := f.all[i].Store().Put(f.t.Context(), "main/"+key, strings.NewReader(content), objstore.PutOptions{})
	f.must(err)
}

func (f *fleet) lacking(n int) (out []string) {
	f.t.Helper()
	d, err := f.cat.Destinations(day(n))
	f.must(err)
	for _, one := range d.Lacking() {
		out = append(out, strings.TrimPrefix(one.URL, "file://"))
	}
	return out
}

// TestRecordsOfSeveralStores: one that is away is left behind while a backup is made, unless the
// quorum needs it; of what has failed everybody is told.
func TestRecordsOfSeveralStores(t *testing.T) {
	f := newFleet(t, "holdfast_replica_quorum = 2")
	f.begin(1)
	f.must(f.cat.Save(info(1, backup.Started)))
	f.away(1, true)
	f.must(f.cat.Save(info(1, backup.WaitingForWALs)))
	if got := f.lacking(1); !slices.Equal(got, f.dirs[1:2]) {
		t.Errorf("behind: %v", got)
	}
	f.away(2, true)
	if err := f.cat.Save(info(1, backup.Done)); err == nil || !strings.Contains(err.Error(), f.dirs[2]) {
		t.Errorf("below the quorum: %v", err)
	}
	if got := f.lacking(1); len(got) != 1 {
		t.Errorf("behind: %v", got)
	}
	f.away(2, false)
	f.away(1, false)
	f.must(f.cat.Save(info(1, backup.Done)))
	for i, want := range []backup.Status{backup.Done, backup.Started, backup.Done} {
		if got, err := f.all[i].Get(t.Context(), day(1)); err != nil || got.Status != want {
			t.Errorf("store %d: %v, %v", i, got, err)
		}
	}
	f.must(f.cat.Save(info(1, backup.Failed)))
	for i := range f.all {
		if got, err := f.all[i].Get(t.Context(), day(1)); err != nil || got.Status != backup.Failed {
			t.Errorf("store %d: %v, %v", i, got, err)
		}
	}
}

// TestCatchingUp: a store gets what it lacks, loses what is nobody's, and is asked for what it has.
func TestCatchingUp(t *testing.T) {
	f := newFleet(t)
	f.begin(1)
	f.must(f.cat.Save(info(1, backup.Done)))
	f.must(f.cat.SetKeep(day(1), catalog.KeepFull))
	base := "base/" + string(day(1)) + "/"
	f.put(0, base+"data.tar", "data")
	f.put(0, base+"data_0001.tar", "first")
	f.put(0, base+"data_0002.tar", "second")
	f.put(1, base+"data_0001.tar", "first")
	f.put(1, base+"data_0002.tar", "SECOND") // of the same size
	f.put(1, base+"data_0003.tar", "nobody's")
	f.must(f.all[1].Store().Delete(t.Context(), "main/"+base+"annotations/keep"))
	before, err := os.Stat(filepath.Join(f.dirs[1], "main", base, "data_0001.tar"))
	f.must(err)
	var last, total int64
	for range 2 {
		f.must(f.all[1].CatchUp(t.Context(), f.all[0], day(1), func(done, of int64) { last, total = done, of }))
		if want, got := f.has(0), f.has(1); !slices.Equal(want, got) {
			t.Errorf("%v, not %v", got, want)
		}
	}
	if last == 0 || total <= last { // the record comes last, and is not told of
		t.Errorf("%d of %d", last, total)
	}
	after, err := os.Stat(filepath.Join(f.dirs[1], "main", base, "data_0001.tar"))
	f.must(err)
	if !os.SameFile(before, after) {
		t.Error("what was there was copied again")
	}
	if text, err := os.ReadFile(filepath.Join(f.dirs[1], "main", base, "data_0002.tar")); err != nil || string(text) != "second" {
		t.Errorf("%q, %v", text, err)
	}
	if err := f.all[1].CatchUp(t.Context(), f.all[2], day(2), func(int64, int64) {}); !fault.Is(err, fault.NotFound) || fault.HintOf(err) == "" {
		t.Errorf("of what is not there: %v", err)
	}
}

// TestDeletionAtSeveralStores: it is refused while one is away, and takes from a replica the WAL
// that no other backup needs, but never from the archive.
func TestDeletionAtSeveralStores(t *testing.T) {
	f := newFleet(t)
	archive := f.all[2] // wals_directory
	cat, err := bucket.Catalog(t.Context(), f.server, openFile, &objstore.Policy{})
	f.must(err)
	f.server.WALsDirectory = "file://" + f.dirs[2]
	f.cat, err = bucket.Catalog(t.Context(), f.server, openFile, &objstore.Policy{})
	f.must(err)
	for n := 1; n <= 4; n++ {
		name := wal.SegmentOf(1, wal.LSN(n*16*mib), 16*mib).Name()
		f.put(2, "wals/"+name[:16]+"/"+name+".gz", fmt.Sprint(n))
	}
	for n := 1; n <= 2; n++ { // they share segment 2
		f.begin(n)
		f.must(f.cat.Save(info(n, backup.Done)))
		for range 2 {
			f.must(f.all[1].TakeWAL(t.Context(), archive, info(n, backup.Done)))
		}
	}
	segments := func(i int) (n int) {
		for _, key := range f.has(i) {
			if strings.HasPrefix(key, "wals/") {
				n++
			}
		}
		return n
	}
	if n := segments(1); n != 3 {
		t.Errorf("the replica has %d segments of two backups", n)
	}
	f.away(1, true)
	if why, err := f.cat.Locked(day(1)); err != nil || !strings.Contains(why, f.dirs[1]) {
		t.Errorf("%q, %v", why, err)
	}
	f.away(1, false)
	if why, err := f.cat.Locked(day(1)); err != nil || why != "" {
		t.Errorf("%q, %v", why, err)
	}
	f.must(f.cat.Remove(day(1)))
	if d, err := f.cat.Destinations(day(1)); err != nil || d != nil || segments(1) != 2 || segments(2) != 4 {
		t.Errorf("%v, %v; left are %v and %v", d, err, f.has(1), f.has(2))
	}
	f.must(f.cat.Remove(day(2)))
	if segments(1) != 0 || segments(2) != 4 || len(f.has(0)) != 0 {
		t.Errorf("left are %v, %v and %v", f.has(0), f.has(1), f.has(2))
	}
	if _, err := cat.Get(day(1)); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	if err := f.all[1].TakeWAL(t.Context(), archive, info(4, backup.Done)); !fault.Is(err, fault.NotFound) || fault.HintOf(err) == "" {
		t.Errorf("WAL that is not there: %v", err)
	}
}

// TestADestinationThatIsNotThere keeps nobody from the others.
func TestADestinationThatIsNotThere(t *testing.T) {
	f := newFleet(t)
	f.away(1, true)
	var err error
	f.cat, err = bucket.Catalog(t.Context(), f.server, openFile, &objstore.Policy{})
	f.must(err)
	f.begin(1)
	f.must(f.cat.Save(info(1, backup.Started)))
	if got := f.lacking(1); !slices.Equal(got, f.dirs[1:2]) {
		t.Errorf("behind: %v", got)
	}
	all, err := bucket.All(t.Context(), f.server, openFile, func() *objstore.Policy { return &objstore.Policy{} })
	f.must(err)
	if err := all[1].Probe(t.Context()); !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), f.dirs[1]) {
		t.Errorf("%v", err)
	}
	var list []replicas.Destination
	for _, b := range all {
		list = append(list, replicas.Destination{URL: b.URL, Store: b.Store()})
	}
	set, err := replicas.New(list, replicas.Options{})
	f.must(err)
	many, is := set.Store().(objstore.RangeCopier)
	if !is {
		t.Fatal("an ability is missing")
	}
	if _, err := many.BeginCopy(t.Context(), "x"); err != nil || len(set.Aside()) != 1 {
		t.Errorf("%v, %v", err, set.Aside())
	}
}

// TestTheSameDestinationTwice is found however it is written.
func TestTheSameDestinationTwice(t *testing.T) {
	f := newFleet(t)
	f.server.HoldfastReplicas[1] = "file://localhost" + f.dirs[0]
	if _, err := bucket.All(t.Context(), f.server, openFile, func() *objstore.Policy { return &objstore.Policy{} }); !fault.Is(err, fault.Config) || fault.HintOf(err) == "" {
		t.Error(err)
	}
}
