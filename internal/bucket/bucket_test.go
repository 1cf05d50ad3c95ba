package bucket_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
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
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/file"
	"github.com/holdfast-pg/holdfast/internal/pylit"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

const mib = 1 << 20

// world is a store with the backups of one server.
type world struct {
	*bucket.Bucket
	t      *testing.T
	dir    string
	policy *objstore.Policy
	store  objstore.Store
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), policy: &objstore.Policy{}}
	var err error
	w.store, err = file.Open(objstore.Location{Provider: objstore.File, Bucket: w.dir}, w.policy)
	w.must(err)
	w.Bucket, err = bucket.Open(w.store, "file://"+w.dir, "main")
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) put(key string, content string) {
	w.t.Helper()
	_, err := w.store.Put(w.t.Context(), key, strings.NewReader(content), objstore.PutOptions{})
	w.must(err)
}

func (w *world) keys() (out []string) {
	w.t.Helper()
	for o, err := range w.store.List(w.t.Context(), "") {
		w.must(err)
		out = append(out, o.Key)
	}
	return out
}

// day is the ID of the backup of a day of this month, which begins in the segment of that number.
func day(n int) backup.ID { return backup.ID(fmt.Sprintf("202611%02dT020000", n)) }

func ptr[T any](v T) *T { return &v }

// add stores a backup: a record, and an archive that is none.
func (w *world) add(n int, change func(*backupinfo.Info)) *backupinfo.Info {
	w.t.Helper()
	begin := wal.LSN(n*16*mib + 40)
	end := begin + 200
	name := wal.SegmentOf(1, begin, 16*mib).Name()
	info := &backupinfo.Info{ID: day(n), ServerName: "cloud", Status: backup.Done, Timeline: ptr(uint32(1)), BeginLSN: &begin, EndLSN: &end,
		BeginWAL: &name, EndWAL: &name, SystemID: ptr("7"), SegmentSize: ptr(uint64(16 * mib)), EndTime: ptr(time.Date(2026, 11, n, 3, 0, 0, 0, time.UTC))}
	if change != nil {
		change(info)
	}
	w.put(fmt.Sprintf("main/base/%s/backup.info", info.ID), string(info.Encode()))
	w.put(fmt.Sprintf("main/base/%s/data.tar", info.ID), "x")
	return info
}

func (w *world) archive(from, to int) {
	w.t.Helper()
	for n := from; n <= to; n++ {
		name := wal.SegmentOf(1, wal.LSN(n*16*mib), 16*mib).Name()
		w.put("main/wals/"+name[:16]+"/"+name+[]string{"", ".gz", ".zst"}[n%3], "x")
	}
}

// want compares what is listed, and which segments are left.
func (w *world) want(backups, segments string) {
	w.t.Helper()
	s, err := w.Survey(w.t.Context())
	w.must(err)
	var got, have []string
	for _, info := range s.Backups {
		var n int
		_, err := fmt.Sscanf(string(info.ID), "202611%02dT", &n)
		w.must(err)
		got = append(got, fmt.Sprintf("%d:%s", n, info.Status))
	}
	if g := strings.Join(got, " "); g != backups {
		w.t.Errorf("backups %q, not %q", g, backups)
	}
	all, err := w.WAL(w.t.Context(), "")
	w.must(err)
	for _, name := range all.Names() {
		if seg, err := wal.ParseSegment(name, 16*mib); err == nil {
			have = append(have, fmt.Sprint(seg.No))
		}
	}
	if g := strings.Join(have, " "); g != segments {
		w.t.Errorf("segments %q, not %q", g, segments)
	}
}

var later = time.Now().Add(48 * time.Hour)

func TestSurvey(t *testing.T) {
	w := newWorld(t)
	for id, sample := range map[string]string{"20261123T025124": "barman-cloud-backup", "20261123T025636": "cloud-ltc-full", "20261123T025620": "cloud-pgc-full"} {
		text, err := os.ReadFile("../backupinfo/testdata/" + sample + ".backup.info")
		w.must(err)
		w.put("main/base/"+id+"/backup.info", string(text))
		w.put("main/base/"+id+"/data.tar.gz", "1234567")
	}
	w.put("main/base/20261124T000000/backup.info", "no record")
	w.put("main/base/20261124T000001/data.tar", "x")
	w.put("main/base/other/backup.info", "x")
	w.put("main/base/backup.info", "x")
	w.put("other/base/20261124T000001/backup.info", "x")
	w.put("nobody/x", "x")
	s, err := w.Survey(t.Context())
	w.must(err)
	if len(s.Backups) != 3 || s.Backups[0].ID != "20261123T025124" || s.Backups[0].Mode != nil || s.Backups[0].ServerName != "main" || s.Backups[2].ID != "20261123T025636" {
		t.Errorf("%+v", s.Backups)
	}
	if len(s.Unreadable) != 1 || !strings.Contains(s.Unreadable[0].Error(), "main/base/20261124T000000/backup.info") || !fault.Is(s.Unreadable[0], fault.Corrupt) {
		t.Errorf("%v", s.Unreadable)
	}
	if !slices.Equal(s.Leftovers, []backup.ID{"20261124T000001"}) {
		t.Errorf("%v", s.Leftovers)
	}
	w.must(w.Measure(t.Context(), s.Backups))
	if got := s.Backups[0].Size; got == nil || *got != 7 {
		t.Errorf("the size of barman-cloud-backup's: %v", got)
	}
	if got := s.Backups[2].Size; got == nil || *got != 29788160 {
		t.Errorf("the size of a Barman server's: %v", *got)
	}
	names, err := bucket.Servers(t.Context(), w.store)
	if err != nil || !slices.Equal(names, []string{"main", "other"}) {
		t.Errorf("%v, %v", names, err)
	}
	for ref, want := range map[string]backup.ID{"latest": "20261123T025636", "oldest": "20261123T025124", "20261123T025620": "20261123T025620"} {
		if info, err := w.Resolve(t.Context(), ref); err != nil || info.ID != want {
			t.Errorf("%s: %v, %v", ref, info, err)
		}
	}
	for ref, says := range map[string]string{"20261124T000001": "no backup.info", "20261124T000002": "could not be read", "nobody": "no backup has this ID or name"} {
		if _, err := w.Resolve(t.Context(), ref); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error()+fault.HintOf(err), says) {
			t.Errorf("%s: %v (%s)", ref, err, fault.HintOf(err))
		}
	}
	empty, err := bucket.Open(w.store, "file://x", "mian")
	w.must(err)
	if _, err := empty.Resolve(t.Context(), "latest"); !strings.Contains(fault.HintOf(err), "file://x/mian/base/") {
		t.Errorf("%v (%s)", err, fault.HintOf(err))
	}
	for _, bad := range []string{"", "a/b", "..", "a\nb"} {
		if _, err := bucket.Open(w.store, "", bad); !fault.Is(err, fault.Usage) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestRequests: a list asks for each record once, whatever lies below the backups.
func TestRequests(t *testing.T) {
	w := newWorld(t)
	for n := range 20 {
		w.add(n+1, func(i *backupinfo.Info) { i.Size = ptr(int64(1)) })
		for i := range 30 {
			w.put(fmt.Sprintf("main/base/%s/data_%04d.tar", day(n+1), i+1), "x")
		}
	}
	w.policy.Counts.Requests.Store(0)
	s, err := w.Survey(t.Context())
	w.must(err)
	w.must(w.Measure(t.Context(), s.Backups))
	if got := w.policy.Counts.Requests.Load(); len(s.Backups) != 20 || got != 21 {
		t.Errorf("%d requests for %d backups", got, len(s.Backups))
	}
}

func TestContents(t *testing.T) {
	for name, c := range map[string]struct {
		objects []string
		says    string
		unknown int
	}{
		"whole":            {[]string{"data.tar", "16384.tar"}, "", 0},
		"compressed":       {[]string{"data.tar.gz", "data_0001.tar.gz", "16384.tar.zst"}, "", 0},
		"many digits":      {[]string{"data.tar.bz2", "data_00001.tar.bz2", "data_2.tar.bz2", "16384.tar.snappy"}, "", 0},
		"with others":      {[]string{"data.tar.lz4", "16384.tar.lz4", "data.tar.xz", "datax.tar", "annotations/keep", "notes", "016384.tar"}, "", 4},
		"no tablespace":    {[]string{"data.tar"}, "/16384.tar (with any suffix) is missing", 0},
		"another's":        {[]string{"data.tar", "16385.tar"}, "/16384.tar (with any suffix) is missing", 0},
		"no data":          {[]string{"16384.tar", "datax.tar"}, "/data.tar (with any suffix) is missing", 1},
		"no first":         {[]string{"data_0001.tar", "16384.tar"}, "/data.tar (with any suffix) is missing", 0},
		"a gap":            {[]string{"data.tar", "data_0002.tar", "16384.tar"}, "/data_0001.tar (with any suffix) is missing", 0},
		"a large gap":      {[]string{"data.tar", "data_123456789.tar", "16384.tar"}, "and more", 0},
		"two of one":       {[]string{"data.tar", "data.tar.gz", "16384.tar"}, "exclude each other", 0},
		"ours, with a gap": {[]string{"data.tar", "data_0007.tar.zst", "16384_0002.tar.zst", "holdfast/plan.json"}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			info := &backupinfo.Info{ID: day(1), Tablespaces: []backupinfo.Tablespace{{Name: "ts", OID: 16384}}}
			for _, o := range append(c.objects, "backup.info") {
				w.put("main/base/"+string(day(1))+"/"+o, "x")
			}
			_, _, err := w.Restorable(t.Context(), info, 4)
			if c.says == "" && err != nil || c.says != "" && (!fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("got %v", err)
			}
			found, err := w.Contents(t.Context(), day(1))
			w.must(err)
			if len(found.Unknown) != c.unknown || len(found.Keys) != len(c.objects)+1 {
				t.Errorf("unknown %q, keys %q", found.Unknown, found.Keys)
			}
		})
	}
}

func TestKeep(t *testing.T) {
	w := newWorld(t)
	w.add(1, nil)
	w.add(2, func(i *backupinfo.Info) { i.Parent = ptr(day(1)) })
	w.add(3, func(i *backupinfo.Info) { i.Status = backup.Failed })
	w.must(w.SetKeep(t.Context(), day(1), catalog.KeepStandalone))
	text, err := os.ReadFile(filepath.Join(w.dir, "main/base", string(day(1)), "annotations/keep"))
	if string(text) != "standalone" {
		t.Errorf("%q, %v", text, err)
	}
	if got, err := w.Keep(t.Context(), day(1)); err != nil || got != catalog.KeepStandalone {
		t.Errorf("%q, %v", got, err)
	}
	for _, n := range []int{2, 3} {
		if err := w.SetKeep(t.Context(), day(n), catalog.KeepFull); !fault.Is(err, fault.Refused) {
			t.Errorf("%d: %v", n, err)
		}
	}
	if _, err := w.Delete(t.Context(), []backup.ID{day(1)}, later); !fault.Is(err, fault.Refused) {
		t.Errorf("a kept backup: %v", err)
	}
	for range 2 {
		w.must(w.Release(t.Context(), day(1)))
	}
	if got, err := w.Keep(t.Context(), day(1)); err != nil || got != "" {
		t.Errorf("%q, %v", got, err)
	}
	w.put("main/base/"+string(day(1))+"/annotations/keep", "so so")
	if _, err := w.Delete(t.Context(), []backup.ID{day(1)}, later); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a mark that cannot be read: %v", err)
	}
}

// diskLog notes what is asked of snapshots.
type diskLog struct {
	log    []string
	locked error
	failed error
}

func (d *diskLog) Unlocked(_ context.Context, info *backupinfo.Info) error {
	d.log = append(d.log, "unlocked "+string(info.ID))
	return d.locked
}

func (d *diskLog) Delete(_ context.Context, info *backupinfo.Info) error {
	d.log = append(d.log, "delete "+string(info.ID))
	return d.failed
}

// TestDeleteOfSnapshots: they go before the record, that stays while they cannot; what is
// refused for any reason touches neither.
func TestDeleteOfSnapshots(t *testing.T) {
	w := newWorld(t)
	info, err := pylit.Parse("{'provider': 'aws', 'snapshots': []}")
	w.must(err)
	for n := range 2 {
		w.add(n+1, func(i *backupinfo.Info) { i.Snapshots = &info })
	}
	try := func(d bucket.Disks) error {
		w.Disks = d
		_, err := w.Delete(t.Context(), []backup.ID{day(1)}, later)
		return err
	}
	status := func() backup.Status {
		one, err := w.Get(t.Context(), day(1))
		w.must(err)
		return one.Status
	}
	if err := try(nil); !fault.Is(err, fault.Refused) {
		t.Errorf("without a way to them: %v", err)
	}
	w.must(w.SetKeep(t.Context(), day(1), catalog.KeepFull))
	d := &diskLog{}
	if err := try(d); !fault.Is(err, fault.Refused) || len(d.log) > 0 {
		t.Errorf("a kept one: %v, %q", err, d.log)
	}
	w.must(w.Release(t.Context(), day(1)))
	d.locked = fault.New(fault.Refused, "delete", "snapshot", "it is locked")
	if err := try(d); !fault.Is(err, fault.Refused) || len(d.log) != 1 || status() != backup.Done {
		t.Errorf("a locked one: %v, %q, %s", err, d.log, status())
	}
	d = &diskLog{failed: errors.New("no answer")}
	if err := try(d); !errors.Is(err, d.failed) || len(d.log) != 2 || status() != backup.Failed {
		t.Errorf("one that cannot be deleted: %v, %q, %s", err, d.log, status())
	}
	d.failed = nil
	w.must(try(d))
	if d.log[len(d.log)-1] != "delete "+string(day(1)) {
		t.Errorf("%q", d.log)
	}
	if _, err := w.Get(t.Context(), day(1)); !fault.Is(err, fault.NotFound) {
		t.Errorf("its record: %v", err)
	}
}

func TestDelete(t *testing.T) {
	for name, c := range map[string]struct {
		change             func(w *world)
		ids                []int
		kind               fault.Kind
		backups, segments  string
		objects, uploads   int
		leftover, keepsKey string
	}{
		"the oldest":  {ids: []int{2}, backups: "4:DONE 6:DONE", segments: "4 5 6 7 8", objects: 1},
		"one between": {ids: []int{4}, backups: "2:DONE 6:DONE", segments: "2 3 4 5 6 7 8", objects: 1},
		"the newest":  {ids: []int{6}, backups: "2:DONE 4:DONE", segments: "2 3 4 5 6 7 8", objects: 1},
		"all":         {ids: []int{2, 4, 6}, backups: "", segments: "6 7 8", objects: 3},
		"what Barman does not know": {func(w *world) {
			w.put("main/base/"+string(day(2))+"/notes/of/mine", "x")
			w.put("main/base/"+string(day(2))+"/holdfast/plan.json", "x")
			w.put("main/base/"+string(day(2))+"x/backup.info", "not of it")
		}, []int{2}, "", "4:DONE 6:DONE", "4 5 6 7 8", 3, 0, "", "main/base/" + string(day(2)) + "x/backup.info"},
		"a chain": {func(w *world) {
			w.add(2, func(i *backupinfo.Info) { i.Children = []backup.ID{day(4)} })
			w.add(4, func(i *backupinfo.Info) { i.Parent = ptr(day(2)) })
		}, []int{2}, "", "6:DONE", "6 7 8", 2, 0, "", ""},
		"a child": {func(w *world) {
			w.add(4, func(i *backupinfo.Info) { i.Children = []backup.ID{day(6)} })
			w.add(6, func(i *backupinfo.Info) { i.Parent = ptr(day(4)) })
		}, []int{6}, "", "2:DONE 4:DONE", "2 3 4 5 6 7 8", 1, 0, "", ""},
		"a standalone one keeps its WAL": {func(w *world) {
			w.must(w.SetKeep(w.t.Context(), day(2), catalog.KeepStandalone))
		}, []int{4}, "", "2:DONE 6:DONE", "2 6 7 8", 1, 0, "", ""},
		"an upload": {func(w *world) {
			_, err := w.store.(objstore.Multipart).Begin(w.t.Context(), "main/base/"+string(day(2))+"/data_0001.tar")
			w.must(err)
			_, err = w.store.(objstore.Multipart).Begin(w.t.Context(), "main/base/"+string(day(4))+"/data_0001.tar")
			w.must(err)
		}, []int{2}, "", "4:DONE 6:DONE", "4 5 6 7 8", 1, 1, "", ""},
		"being made": {func(w *world) {
			w.add(7, func(i *backupinfo.Info) { i.Status = backup.Started })
		}, []int{7}, fault.Refused, "2:DONE 4:DONE 6:DONE 7:STARTED", "1 2 3 4 5 6 7 8", 0, 0, "", ""},
		"without a record": {func(w *world) {
			w.put("main/base/"+string(day(9))+"/data.tar", "x")
		}, []int{9}, fault.Refused, "2:DONE 4:DONE 6:DONE", "1 2 3 4 5 6 7 8", 0, 0, "", ""},
		"another without a record keeps all WAL": {func(w *world) {
			w.put("main/base/"+string(day(9))+"/data.tar", "x")
		}, []int{2}, "", "4:DONE 6:DONE", "1 2 3 4 5 6 7 8", 1, 0, "", ""},
		"unreadable": {func(w *world) {
			w.put("main/base/"+string(day(9))+"/backup.info", "x")
		}, []int{2}, fault.Corrupt, "2:DONE 4:DONE 6:DONE", "1 2 3 4 5 6 7 8", 0, 0, "", ""},
		"not there": {nil, []int{3}, fault.NotFound, "2:DONE 4:DONE 6:DONE", "1 2 3 4 5 6 7 8", 0, 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for _, n := range []int{2, 4, 6} {
				w.add(n, nil)
			}
			w.archive(1, 8)
			if c.change != nil {
				c.change(w)
			}
			var ids []backup.ID
			for _, n := range c.ids {
				ids = append(ids, day(n))
			}
			done, err := w.Delete(t.Context(), ids, time.Now())
			if fault.KindOf(err) != c.kind {
				t.Errorf("got %v", err)
			}
			if err == nil && (done.Objects != c.objects || done.Uploads != c.uploads) {
				t.Errorf("%+v", done)
			}
			w.want(c.backups, c.segments)
			for _, n := range c.ids {
				for _, key := range w.keys() {
					if err == nil && strings.HasPrefix(key, "main/base/"+string(day(n))+"/") {
						t.Errorf("%s is left", key)
					}
				}
			}
			if c.keepsKey != "" && !slices.Contains(w.keys(), c.keepsKey) {
				t.Errorf("%s is gone", c.keepsKey)
			}
			if name == "a child" {
				if parent, err := w.Get(t.Context(), day(4)); err != nil || len(parent.Children) > 0 || parent.Status != backup.Done {
					t.Errorf("%+v, %v", parent, err)
				}
			}
			// A day later nobody is at work on it any more.
			if c.kind == fault.Refused {
				_, err := w.Delete(t.Context(), ids, later)
				w.must(err)
				w.want("2:DONE 4:DONE 6:DONE", "2 3 4 5 6 7 8")
			}
		})
	}
}

// dying is a store whose process dies before its nth change.
type dying struct {
	objstore.Store
	left int
}

var errDead = errors.New("dead")

func (d *dying) change() error {
	if d.left--; d.left < 0 {
		return errDead
	}
	return nil
}

func (d *dying) Put(ctx context.Context, key string, r io.Reader, o objstore.PutOptions) (objstore.Object, error) {
	if err := d.change(); err != nil {
		return objstore.Object{}, err
	}
	return d.Store.Put(ctx, key, r, o)
}

// Delete removes one after the other, as a store may that dies meanwhile.
func (d *dying) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := d.change(); err != nil {
			return err
		}
		if err := d.Store.Delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// TestKilledDeletion: whenever it dies, what has lost an object is not DONE, and the same call finishes it.
func TestKilledDeletion(t *testing.T) {
	for n := 0; ; n++ {
		w := newWorld(t)
		w.add(2, func(i *backupinfo.Info) { i.Children = []backup.ID{day(3)} })
		w.add(3, func(i *backupinfo.Info) { i.Parent = ptr(day(2)) })
		w.put("main/base/"+string(day(2))+"/data_0001.tar", "x")
		w.put("main/base/"+string(day(2))+"/annotations/notes", "x")
		w.add(6, nil)
		w.archive(1, 8)
		before := len(w.keys())
		victim, err := bucket.Open(&dying{w.store, n}, "", "main")
		w.must(err)
		_, err = victim.Delete(t.Context(), []backup.ID{day(2)}, later)
		if err == nil {
			if n < 8 {
				t.Errorf("it took %d changes only", n)
			}
			return
		}
		if !errors.Is(err, errDead) {
			t.Fatal(err)
		}
		s, err := w.Survey(t.Context())
		w.must(err)
		for _, info := range s.Backups {
			if c, err := w.Contents(t.Context(), info.ID); err != nil || len(w.keys()) < before && info.ID != day(6) && info.Status == backup.Done && len(c.Keys) < 2 {
				t.Errorf("after %d changes %s is %s: %v", n, info.ID, info.Status, err)
			}
		}
		if len(w.keys()) < before {
			for _, info := range s.Backups {
				if info.ID != day(6) && info.Status != backup.Failed {
					t.Errorf("after %d changes %s is %s", n, info.ID, info.Status)
				}
			}
		}
		// Whoever gives the command again names what is still listed.
		var ids []backup.ID
		for _, info := range s.Backups {
			if info.ID != day(6) {
				ids = append(ids, info.ID)
			}
		}
		_, err = w.Delete(t.Context(), ids, later)
		w.must(err)
		w.want("6:DONE", "6 7 8")
		if left := slices.DeleteFunc(w.keys(), func(k string) bool {
			return strings.HasPrefix(k, "main/base/"+string(day(6))) || strings.HasPrefix(k, "main/wals/")
		}); len(left) > 0 {
			t.Errorf("after %d changes, %q is left", n, left)
		}
	}
}

// locked is a store in which some objects are locked.
type locked struct {
	objstore.Store
	key  string
	lock objstore.Lock
}

func (l *locked) LockOf(_ context.Context, key string) (objstore.Lock, error) {
	if key == l.key {
		return l.lock, nil
	}
	return objstore.Lock{}, nil
}

func (l *locked) NewLocks(context.Context) (string, error) { return "", nil }

// lockedAnew is a store that gives every new object a lock, and says so when it is to be deleted.
type lockedAnew struct{ objstore.Store }

func (lockedAnew) Delete(context.Context, ...string) error {
	return fault.New(fault.Refused, "delete", "an object", "it is locked")
}

// TestProbeOfALockedStore: what is locked cannot be removed, and backups can be made.
func TestProbeOfALockedStore(t *testing.T) {
	w := newWorld(t)
	b, err := bucket.Open(lockedAnew{w.store}, "", "main")
	w.must(err)
	for range 2 {
		w.must(b.Probe(t.Context()))
	}
}

func TestLocksAreRespected(t *testing.T) {
	until := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, lock := range []objstore.Lock{{Mode: "COMPLIANCE", Until: until}, {Hold: true}} {
		w := newWorld(t)
		w.add(2, nil)
		w.add(4, nil)
		b, err := bucket.Open(&locked{w.store, "main/base/" + string(day(2)) + "/data.tar", lock}, "", "main")
		w.must(err)
		_, err = b.Delete(t.Context(), []backup.ID{day(2)}, time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC))
		if !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "data.tar") || !lock.Hold && !strings.Contains(err.Error(), "2027-01-02T03:04:05Z") {
			t.Errorf("%v", err)
		}
		w.want("2:DONE 4:DONE", "")
		if _, err := b.Delete(t.Context(), []backup.ID{day(4)}, later); err != nil {
			t.Errorf("one that is not locked: %v", err)
		}
	}
}

func TestWAL(t *testing.T) {
	w := newWorld(t)
	segment := strings.Repeat("w", mib)
	for i, compression := range []string{"none", "gzip", "bzip2", "xz", "snappy", "zstd", "lz4"} {
		suffix := []string{"", ".gz", ".bz2", ".xz", ".snappy", ".zst", ".lz4"}[i]
		c, err := codec.New(compression, "low")
		w.must(err)
		var out bytes.Buffer
		z, err := c.NewWriter(&out)
		w.must(err)
		_, err = io.WriteString(z, segment)
		w.must(errors.Join(err, z.Close()))
		w.put("main/wals/0000000100000000/00000001000000000000000"+fmt.Sprint(i)+suffix, out.String())
	}
	w.put("main/wals/0000000100000001/000000010000000100000000.partial", "x")
	w.put("main/wals/0000000100000000/000000010000000000000009.gz", "cut")
	w.put("main/wals/0000000100000000/notes", "x")
	w.put("main/wals/00000002.history", "1\t0/5000000\tno reason\n")
	all, err := w.WAL(t.Context(), "")
	w.must(err)
	if got := len(all.Names()); got != 10 || len(all.Histories[2].Switches) != 1 {
		t.Errorf("%q, %v", all.Names(), all.Histories)
	}
	late, err := w.WAL(t.Context(), "0000000100000001000000FF")
	w.must(err)
	if got := late.Names(); !slices.Equal(got, []string{"000000010000000100000000.partial", "00000002.history"}) {
		t.Errorf("%q", got)
	}
	dir := t.TempDir()
	for _, name := range all.Names() {
		err := all.Fetch(t.Context(), name, filepath.Join(dir, name))
		got, _ := os.ReadFile(filepath.Join(dir, name))
		switch {
		case name == "000000010000000000000009":
			if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), name+".gz") || got != nil {
				t.Errorf("%s: %v", name, err)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case wal.Classify(name) == wal.SegmentFile && string(got) != segment:
			t.Errorf("%s has %d bytes", name, len(got))
		}
	}
	if err := all.Fetch(t.Context(), "0000000100000000000000AA", filepath.Join(dir, "x")); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
}

// TestMomentsOfWAL is of stores that date objects by whole seconds: what was stored in the
// second of a moment may be behind it.
func TestMomentsOfWAL(t *testing.T) {
	w := newWorld(t)
	second := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	key := "main/wals/0000000100000000/000000010000000000000001"
	w.put(key, "x")
	w.must(os.Chtimes(filepath.Join(w.dir, key), second, second))
	all, err := w.WAL(t.Context(), "")
	w.must(err)
	if got := all.ForRestore().Files[0].At; !got.Equal(second.Add(time.Second - 1)) {
		t.Errorf("what was stored at %s is of %s", second, got)
	}
}

// archiveOf is a tar archive of files.
func archiveOf(t *testing.T, files map[string]string) string {
	t.Helper()
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(files[name])), Mode: 0o600})
		_, err2 := io.WriteString(tw, files[name])
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestVerify: each kind of damage is found, by the name of the object.
func TestVerify(t *testing.T) {
	control, err := os.ReadFile("../pgcontrol/testdata/18.pg_control")
	if err != nil {
		t.Fatal(err)
	}
	const data, ts = "data.tar", "16384.tar"
	key := func(name string) string { return "main/base/" + string(day(2)) + "/" + name }
	for name, c := range map[string]struct {
		damage func(w *world)
		says   []string
	}{
		"whole":             {nil, nil},
		"cut in a file":     {func(w *world) { w.must(os.Truncate(filepath.Join(w.dir, key(data)), 700)) }, []string{key(data)}},
		"cut behind a file": {func(w *world) { w.must(os.Truncate(filepath.Join(w.dir, key(ts)), 1024)) }, []string{key(ts), "lacks its end"}},
		"empty":             {func(w *world) { w.must(os.Truncate(filepath.Join(w.dir, key(ts)), 0)) }, []string{key(ts)}},
		"another label": {func(w *world) {
			w.put(key("data_0001.tar"), archiveOf(w.t, map[string]string{"backup_label": "START WAL LOCATION: 0/1"}))
		}, []string{"backup_label", "not that of the record"}},
		"no label": {func(w *world) {
			w.put(key(data), archiveOf(w.t, map[string]string{"global/pg_control": string(control)}))
		}, []string{"none of the objects", "backup_label"}},
		"no control file":   {func(w *world) { w.put(key(data), archiveOf(w.t, map[string]string{"backup_label": "label"})) }, []string{"none of the objects", "global/pg_control"}},
		"swapped":           {func(w *world) { w.must(os.Rename(filepath.Join(w.dir, key(data)), filepath.Join(w.dir, key(ts)))) }, []string{key(ts) + ": it holds global/pg_control", "data.tar (with any suffix) is missing"}},
		"deleted":           {func(w *world) { w.must(os.Remove(filepath.Join(w.dir, key(ts)))) }, []string{key("16384.tar") + " (with any suffix) is missing"}},
		"other compression": {func(w *world) { w.must(os.Rename(filepath.Join(w.dir, key(ts)), filepath.Join(w.dir, key(ts+".gz")))) }, []string{key(ts + ".gz"), "not what its name says"}},
		"a torn control file": {func(w *world) {
			w.put(key("data_0001.tar"), archiveOf(w.t, map[string]string{"global/pg_control": "x" + string(control[1:])}))
		}, []string{"global/pg_control", "checksum"}},
		"WAL missing": {func(w *world) { w.archive(3, 4) }, []string{"WAL that the backup needs is missing", "000000010000000000000002"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			info := w.add(2, func(i *backupinfo.Info) {
				i.SystemID, i.BackupLabel = nil, ptr("label\n")
				i.Tablespaces = []backupinfo.Tablespace{{Name: "ts", OID: 16384, Location: "/x"}}
			})
			w.put(key(data), archiveOf(t, map[string]string{"backup_label": "label", "global/pg_control": string(control)}))
			w.put(key(ts), archiveOf(t, map[string]string{"PG_18_202506291/5/1": "x"}))
			if c.damage != nil {
				c.damage(w)
			}
			v, err := w.Verify(t.Context(), info, 2, func(_, _ int64) {})
			w.must(err)
			err = v.Err(string(info.ID))
			if len(c.says) == 0 && err != nil || len(c.says) > 0 && !fault.Is(err, fault.Corrupt) {
				t.Fatalf("got %v", err)
			}
			for _, want := range c.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing in: %v", want, err)
				}
			}
			if len(v.Unproven) == 0 {
				t.Error("what could not be verified is not said")
			}
		})
	}
}

// BenchmarkSurvey lists 1,000 backups of 100 objects.
func BenchmarkSurvey(b *testing.B) {
	dir := b.TempDir()
	record, err := os.ReadFile("../backupinfo/testdata/cloud-ltc-full.backup.info")
	if err != nil {
		b.Fatal(err)
	}
	for n := range 1000 {
		at := filepath.Join(dir, "main/base", string(backup.NewID(time.Date(2026, 1, 1, n, 0, 0, 0, time.UTC))))
		err := os.MkdirAll(at, 0o755)
		for i := range 100 {
			err = errors.Join(err, os.WriteFile(filepath.Join(at, fmt.Sprintf("data_%04d.tar", i)), nil, 0o644))
		}
		if err := errors.Join(err, os.WriteFile(filepath.Join(at, "backup.info"), record, 0o644)); err != nil {
			b.Fatal(err)
		}
	}
	policy := &objstore.Policy{}
	store, err := file.Open(objstore.Location{Provider: objstore.File, Bucket: dir}, policy)
	if err != nil {
		b.Fatal(err)
	}
	at, err := bucket.Open(store, "", "main")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if s, err := at.Survey(b.Context()); err != nil || len(s.Backups) != 1000 {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(policy.Counts.Requests.Load())/float64(cmp.Or(b.N, 1)), "requests/op")
}
