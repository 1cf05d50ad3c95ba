package catalog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

func newCatalog(t testing.TB) *catalog.Catalog {
	t.Helper()
	d := filepath.Join(t.TempDir(), "main")
	l := catalog.Layout{Server: "main", BackupDir: d, BaseDir: d + "/base", MetaDir: d + "/meta", WALDir: d + "/wals", XlogDBDir: d + "/wals",
		IncomingDir: d + "/incoming", StreamingDir: d + "/streaming", ErrorsDir: d + "/errors", LockDir: filepath.Dir(d)}
	if err := l.EnsureDirs(); err != nil {
		t.Fatal(err)
	}
	return catalog.Open(l)
}

func add(t testing.TB, c *catalog.Catalog, id string, status backup.Status, change func(*backupinfo.Info)) *backupinfo.Info {
	t.Helper()
	mode := "postgres"
	info := &backupinfo.Info{ID: backup.ID(id), ServerName: "main", Status: status, Mode: &mode}
	if change != nil {
		change(info)
	}
	if err := c.Create(info); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(c.BackupDirOf(info.ID), "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	return info
}

const (
	first  = "20260101T000000"
	second = "20260102T000000"
	third  = "20260103T000000"
	fourth = "20260104T000000"
)

func TestListKeepsGoodEntriesBesideBadOnes(t *testing.T) {
	c := newCatalog(t)
	add(t, c, second, backup.Done, nil)
	add(t, c, third, backup.Done, nil)
	write(t, filepath.Join(c.MetaDir, fourth+"-backup.info"), "status=BROKEN\n")
	write(t, filepath.Join(c.MetaDir, third+"-backup.info.tmp"), "status=")
	write(t, filepath.Join(c.MetaDir, "x-backup.info"), "status=DONE\n")
	write(t, filepath.Join(c.BackupDirOf(first), "backup.info"), "status=DONE\nmode=rsync-concurrent\nfuture=1\n")
	all, warnings, err := c.List()
	if err != nil || len(all) != 3 || all[0].ID != first || all[2].ID != third {
		t.Fatalf("%v, %v", all, err)
	}
	if len(warnings) != 2 || !strings.Contains(warnings[0], "future") || !strings.Contains(warnings[1], fourth) {
		t.Errorf("warnings %q", warnings)
	}
	survey, err := c.Survey()
	if err != nil {
		t.Fatal(err)
	}
	if orphans, err := survey.Orphans(all); err != nil || !orphans[first] || len(orphans) != 1 {
		t.Errorf("a directory with nothing but backup.info: %v, %v", orphans, err)
	}
	// The next save moves a legacy record, with what is unknown in it.
	if err := c.Save(all[0]); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(c.MetaDir, first+"-backup.info")); err != nil || !bytes.Contains(text, []byte("future=1\n")) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestAPipeIsNoRecord: reading one would wait for a writer that never comes.
func TestAPipeIsNoRecord(t *testing.T) {
	c := newCatalog(t)
	add(t, c, second, backup.Done, nil)
	legacy := c.BackupDirOf(first)
	if err := os.Mkdir(legacy, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, pipe := range []string{filepath.Join(c.MetaDir, third+"-backup.info"), filepath.Join(legacy, "backup.info")} {
		if err := unix.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var all []*backupinfo.Info
	var warnings []string
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		all, warnings, err = c.List()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the list waits")
	}
	if err != nil || len(all) != 1 || all[0].ID != second {
		t.Errorf("%v, %v", all, err)
	}
	if len(warnings) != 2 || !strings.Contains(warnings[0], first) || !strings.Contains(warnings[1], third) {
		t.Errorf("warnings %q", warnings)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCreateTakesAnIDOnce(t *testing.T) {
	c := newCatalog(t)
	info := add(t, c, first, backup.Started, nil)
	info.Status = backup.Done
	if err := c.Create(info); !fault.Is(err, fault.Conflict) || !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	if got, err := c.Get(first); err != nil || got.Status != backup.Started {
		t.Errorf("%v, %v", got, err)
	}
	info.ID = "../x"
	if c.Create(info) == nil || c.Save(info) == nil || c.Remove(info.ID) == nil {
		t.Error("an ID that is a path was accepted")
	}
}

func TestResolve(t *testing.T) {
	c := newCatalog(t)
	if _, err := c.Resolve("latest"); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.HintOf(err), "holdfast backup main") {
		t.Errorf("%v, %s", err, fault.HintOf(err))
	}
	name, twice := "before-upgrade", "twice"
	add(t, c, first, backup.Done, func(i *backupinfo.Info) { i.BackupName = &name })
	add(t, c, second, backup.Failed, func(i *backupinfo.Info) { i.BackupName = &twice })
	parent := backup.ID(first)
	add(t, c, third, backup.WaitingForWALs, func(i *backupinfo.Info) { i.Parent = &parent })
	add(t, c, fourth, backup.Started, func(i *backupinfo.Info) { i.BackupName = &twice })
	for ref, want := range map[string]backup.ID{
		"latest": third, "last": third, "oldest": first, "first": first, "last-failed": second,
		"latest-full": first, "last-full": first, first: first, fourth: fourth, name: first,
	} {
		if info, err := c.Resolve(ref); err != nil || info.ID != want {
			t.Errorf("%s: %v, %v", ref, info, err)
		}
	}
	for _, ref := range []string{"20260105T000000", "nobody", "auto", ""} {
		if _, err := c.Resolve(ref); !fault.Is(err, fault.NotFound) || !strings.Contains(fault.HintOf(err), first+" (DONE, named before-upgrade)") {
			t.Errorf("%s: %v, hint %q", ref, err, fault.HintOf(err))
		}
	}
	if _, err := c.Resolve(twice); !fault.Is(err, fault.Usage) || !strings.Contains(fault.HintOf(err), second+", "+fourth) {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", " x", "a\nb", first, "latest", "last-full", "auto", name} {
		if err := c.CheckName(bad); !fault.Is(err, fault.Usage) {
			t.Errorf("name %q: %v", bad, err)
		}
	}
	if err := c.CheckName("weekly 1"); err != nil {
		t.Error(err)
	}
	if p, err := c.Previous(fourth); err != nil || p.ID != third {
		t.Errorf("%v, %v", p, err)
	}
	if p, err := c.Previous(first); err != nil || p != nil {
		t.Errorf("%v, %v", p, err)
	}
	if p, err := c.Next(first); err != nil || p.ID != third {
		t.Errorf("%v, %v", p, err)
	}
}

func TestKeep(t *testing.T) {
	c := newCatalog(t)
	add(t, c, first, backup.Done, nil)
	add(t, c, second, backup.Failed, nil)
	if err := c.SetKeep(first, "forever"); !fault.Is(err, fault.Usage) {
		t.Error(err)
	}
	if err := c.SetKeep(second, catalog.KeepFull); !fault.Is(err, fault.Refused) {
		t.Error(err)
	}
	if err := c.SetKeep(first, catalog.KeepStandalone); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(c.MetaDir, first+"-keep")); err != nil || string(text) != "standalone" {
		t.Errorf("%q, %v", text, err)
	}
	if err := c.Release(first); err != nil {
		t.Fatal(err)
	}
	if k, err := c.Keep(first); err != nil || k != "" {
		t.Errorf("%q, %v", k, err)
	}
	old := filepath.Join(c.BackupDirOf(first), "annotations", "keep")
	write(t, old, "full")
	if k, err := c.Keep(first); err != nil || k != catalog.KeepFull {
		t.Errorf("legacy: %q, %v", k, err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the old annotation is still there")
	}
}

// The sample was written by Barman 3.20.1.
func TestIdentity(t *testing.T) {
	c := newCatalog(t)
	want, err := os.ReadFile("testdata/identity.json")
	if err != nil {
		t.Fatal(err)
	}
	id := catalog.Identity{SystemID: "7711189373537911368", Version: "18"}
	for range 2 {
		if err := c.EnsureIdentity(id); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(c.BackupDir, "identity.json")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	id.SystemID = "1"
	if err := c.EnsureIdentity(id); !fault.Is(err, fault.Refused) || fault.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	write(t, filepath.Join(c.BackupDir, "identity.json"), "{")
	if err := c.EnsureIdentity(id); !fault.Is(err, fault.Corrupt) {
		t.Errorf("%v", err)
	}
}

func TestExtraKeepsWhatItDoesNotKnow(t *testing.T) {
	c := newCatalog(t)
	e, err := c.Extra(first)
	if err != nil || e.Version != catalog.ExtraVersion {
		t.Fatal(e, err)
	}
	e.Method, e.Attempts = "postgres", []catalog.Attempt{{Number: 1, Begun: time.Unix(1, 0).UTC(), Error: "lost"}}
	e.Proof = &catalog.Proof{Files: 7, ManifestSHA256: "ab"}
	if err := c.SaveExtra(first, e); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.MetaDir, first+"-holdfast.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, strings.Replace(string(text), `"version": 1`, `"version": 9, "colour": {"a": [1]}, "first_error": "e"`, 1))
	e, err = c.Extra(first)
	if err != nil || e.FirstError != "e" || e.Proof.Files != 7 || e.Attempts[0].Error != "lost" {
		t.Fatal(e, err)
	}
	e.FirstError = ""
	if err := c.SaveExtra(first, e); err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	text, err = os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &all) != nil || all["version"] != 9.0 || all["colour"] == nil || all["first_error"] != nil {
		t.Errorf("%s, %v", text, err)
	}
}

func TestRemove(t *testing.T) {
	c := newCatalog(t)
	child, parent := backup.ID(second), backup.ID(first)
	add(t, c, first, backup.Done, func(i *backupinfo.Info) { i.Children = []backup.ID{child} })
	add(t, c, second, backup.Done, func(i *backupinfo.Info) { i.Parent = &parent })
	if err := c.SaveExtra(second, &catalog.Extra{}); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(first); !fault.Is(err, fault.Refused) {
		t.Errorf("%v", err)
	}
	if err := c.Remove(second); err != nil {
		t.Fatal(err)
	}
	if p, err := c.Get(first); err != nil || len(p.Children) > 0 {
		t.Errorf("%v, %v", p, err)
	}
	// An interrupted deletion left the annotation, and is finished.
	if err := c.MarkDeleting(second); err != nil {
		t.Fatal(err)
	}
	for _, want := range []fault.Kind{"", fault.NotFound} {
		if err := c.Remove(second); fault.KindOf(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
	left, err := filepath.Glob(c.BackupDir + "/*/" + second + "*")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A backup whose deletion has begun is no backup to anybody.
func TestStepsOfADeletion(t *testing.T) {
	c := newCatalog(t)
	add(t, c, first, backup.Done, nil)
	add(t, c, second, backup.Done, nil)
	if err := c.SetKeep(second, catalog.KeepFull); err != nil {
		t.Fatal(err)
	}
	if err := c.MarkDeleting(first); err != nil {
		t.Fatal(err)
	}
	want := map[backup.ID]catalog.Marks{first: {Deleting: true}, second: {Keep: catalog.KeepFull}}
	if marks, err := c.Marks(); err != nil || !maps.Equal(marks, want) {
		t.Errorf("%v, %v", marks, err)
	}
	for range 2 {
		if err := errors.Join(c.Condemn(first), c.RemoveFiles(first)); err != nil {
			t.Fatal(err)
		}
		if info, err := c.Get(first); err != nil || info.Status != backup.Failed || info.Error == nil {
			t.Errorf("%+v, %v", info, err)
		}
	}
	if err := errors.Join(c.Forget(first), c.Condemn(first), c.RemoveFiles(first), c.Forget(first)); err != nil {
		t.Fatal(err)
	}
	all, err := c.All()
	if err != nil || len(all) != 1 || all[0].ID != second {
		t.Errorf("%v, %v", all, err)
	}
	write(t, filepath.Join(c.MetaDir, fourth+"-backup.info"), "status=BROKEN\n")
	if _, err := c.All(); !fault.Is(err, fault.Corrupt) || fault.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
}

func TestMeasureCountsSharedFilesOnce(t *testing.T) {
	d := t.TempDir()
	write(t, d+"/old/f", "12345")
	write(t, d+"/new/sub/g", "123")
	if err := os.Link(d+"/old/f", d+"/new/f"); err != nil {
		t.Fatal(err)
	}
	size, own, err := catalog.Measure(t.Context(), d+"/new")
	if err != nil || size != 8 || own != 3 {
		t.Errorf("%d, %d, %v", size, own, err)
	}
}

func TestOldLayout(t *testing.T) {
	c := newCatalog(t)
	if c.DataDir(first) != c.BaseDir+"/"+first+"/data" || c.TablespaceDir(first, 5) != c.BaseDir+"/"+first+"/5" {
		t.Error(c.DataDir(first), c.TablespaceDir(first, 5))
	}
	write(t, c.BaseDir+"/"+first+"/pgdata/PG_VERSION", "9.1\n")
	if c.DataDir(first) != c.BaseDir+"/"+first+"/pgdata" || c.TablespaceDir(first, 5) != c.BaseDir+"/"+first+"/pgdata/pg_tblspc/5" {
		t.Error(c.DataDir(first), c.TablespaceDir(first, 5))
	}
}

func TestLocksAreBarmans(t *testing.T) {
	c := newCatalog(t)
	l, err := c.LockBackup()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if _, err := os.Stat(filepath.Join(c.LockDir, ".main-backup.lock")); err != nil {
		t.Error(err)
	}
	if _, err := c.LockBackup(); !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "catalog.test") {
		t.Errorf("%v", err)
	}
}

func FuzzExtra(f *testing.F) {
	f.Add([]byte(`{"version": 2, "proof": {"files": 1}, "x": [1, {"y": null}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e catalog.Extra
		if json.Unmarshal(data, &e) != nil {
			return
		}
		out, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var again catalog.Extra
		if err := json.Unmarshal(out, &again); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
	})
}

// TestABackupBearsWithAMaintenance that has the lock for a moment.
func TestABackupBearsWithAMaintenance(t *testing.T) {
	c := catalog.Open(catalog.Layout{Server: "main", LockDir: t.TempDir()})
	held, err := c.LockBackup()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.LockBackup(); !fault.Is(err, fault.Refused) {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = held.Release() })
	lock, err := c.AwaitBackup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(nil)
	if _, err := c.AwaitBackup(ctx); !fault.Is(err, fault.Refused) {
		t.Errorf("it was taken twice, or the wait did not end: %v", err)
	}
}

// TestLatestFullIsNoSnapshot: nothing can build on a backup of snapshots.
func TestLatestFullIsNoSnapshot(t *testing.T) {
	all := []*backupinfo.Info{{ID: "20260101T000000", Status: backup.Done}, {ID: "20260102T000000", Status: backup.Done}}
	mode := "snapshot-concurrent"
	all[1].Mode = &mode
	for ref, want := range map[string]backup.ID{"latest": all[1].ID, "latest-full": all[0].ID} {
		got, err := catalog.Choose("main", ref, all)
		if err != nil || got.ID != want {
			t.Errorf("%s: %v, %v", ref, got, err)
		}
	}
}
