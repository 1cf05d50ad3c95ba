//go:build integration

package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// family is a chain on a bed, the full backup first.
type family struct {
	*bed
	ids    []backup.ID
	hashes map[backup.ID]string
}

// TestIncremental: a chain is taken under writes, looks to Barman as its own, is
// restored in every way, and outlives what kills and fails.
func TestIncremental(t *testing.T) {
	t.Parallel()
	for _, version := range pgtest.Versions()[1:] { // a chain on 17 is in TestMatrix
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			f := &family{bed: newBedAt(t, cloningDisk(t), config.MethodPostgres, version, "summarize_wal = on"), hashes: map[backup.ID]string{}}
			f.grow(t)
			f.Cluster.Exec(t, "UPDATE plain SET payload = 'first' WHERE id % 100 = 0; CREATE TABLE born AS SELECT * FROM elsewhere LIMIT 500")
			f.grow(t, "--incremental", "latest-full")
			f.Cluster.Exec(t, "DELETE FROM plain WHERE id > 8000; TRUNCATE born; INSERT INTO born SELECT * FROM elsewhere LIMIT 100")
			f.Cluster.Exec(t, "VACUUM plain")
			f.grow(t, "--incremental", "latest")
			t.Run("records", f.records)
			for _, mode := range []string{"copy", "link", "clone", "copy-file-range"} {
				t.Run(mode, func(t *testing.T) { f.combined(t, mode) })
			}
			if version == barmantest.PostgreSQL {
				t.Run("Barman", f.barmanAgrees)
				t.Run("wrong parents", f.wrongParents)
				t.Run("killed restore", f.killedRestore)
				for _, victim := range []string{"child", "copy"} {
					t.Run("killed "+victim, func(t *testing.T) { f.killed(t, victim, duringCopy) })
				}
				// The child has its record, and its parent's does not list it yet.
				t.Run("killed between two records", func(t *testing.T) { f.killed(t, "workflow", "file:rename:"+string(f.newestID())+"-backup.info") })
			}
			t.Run("mixed with tar", f.mixed)
			t.Run("missing summaries", f.missingSummaries)
			t.Run("half recorded", f.halfRecorded)
			t.Run("deleted as a whole", f.deleted)
		})
	}
}

// grow takes the next backup of the chain; the rows are those that it holds.
func (f *family) grow(t *testing.T, args ...string) {
	t.Helper()
	f.rows = f.Cluster.Fingerprint(t)
	id := f.backup(t, args...).ID
	f.ids = append(f.ids, id)
	f.hashes[id] = f.hash(t, id)
}

func (f *family) newestID() backup.ID { return f.ids[len(f.ids)-1] }

// untouched makes sure that nothing of the chain has changed.
func (f *family) untouched(t *testing.T) {
	t.Helper()
	for _, id := range f.ids {
		if f.hash(t, id) != f.hashes[id] {
			t.Errorf("the files of backup %s have changed", id)
		}
	}
}

// kin compares the records of the chain with each other.
func (f *family) kin(t *testing.T) {
	t.Helper()
	for i, id := range f.ids {
		info, err := f.cat.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && (info.Parent == nil || *info.Parent != f.ids[i-1]) {
			t.Errorf("backup %s has the parent %v, not %s", id, info.Parent, f.ids[i-1])
		}
		if want := f.ids[i+1 : min(i+2, len(f.ids))]; !slices.Equal(info.Children, want) {
			t.Errorf("backup %s has the children %v, not %v", id, info.Children, want)
		}
	}
}

func (f *family) records(t *testing.T) {
	f.kin(t)
	list := f.Must(t, "list-backups", stacktest.Server).Stdout
	if strings.Count(list, " - I - ") != 2 || strings.Count(list, " - F - ") != 1 {
		t.Errorf("the types are wrong: %s", list)
	}
	full, last := f.sizeOf(t, f.ids[0]), f.sizeOf(t, f.newestID())
	if last*2 > full {
		t.Errorf("the incremental backup has %d bytes, the full one %d", last, full)
	}
}

func (f *family) sizeOf(t *testing.T, id backup.ID) int64 {
	t.Helper()
	info, err := f.cat.Get(id)
	if err != nil || info.Size == nil {
		t.Fatalf("%v, %v", info, err)
	}
	return *info.Size
}

// started runs what was restored, writes to all of it, and stops it.
func (f *family) started(t *testing.T, dest string) {
	t.Helper()
	c := pgtest.NewFromDataDir(t, f.Cluster.Version, dest)
	if rows := c.Fingerprint(t); rows != f.rows {
		t.Error("the restored rows are not those of the source")
	}
	c.AmCheck(t)
	c.Exec(t, "UPDATE plain SET payload = 'restored'; UPDATE elsewhere SET payload = 'restored'; UPDATE born SET payload = 'restored'; CHECKPOINT")
	c.Stop(t, pgtest.Immediate)
}

func (f *family) restoring(dest string, id backup.ID, args ...string) []string {
	return append([]string{"restore", stacktest.Server, string(id), dest, "--tablespace", "odd name's:" + dest + "-ts"}, args...)
}

// combined restores the newest backup; the server that is started on it changes
// nothing in the catalogue.
func (f *family) combined(t *testing.T, mode string) {
	home := pgtest.Dir(t)
	if mode == "clone" || mode == "copy-file-range" {
		f.refusedElsewhere(t, mode, home)
		home = filepath.Join(filepath.Dir(f.Home), mode) // where the backups are
		if err := errors.Join(os.Mkdir(home, 0o777), os.Chmod(home, 0o777)); err != nil {
			t.Fatal(err)
		}
	}
	dest := filepath.Join(home, "restored")
	r := f.Holdfast(t, f.restoring(dest, f.newestID(), "--combine-mode", mode)...)
	if r.Code != 0 || mode == "copy" && !strings.Contains(r.Stdout, "is restored to") {
		t.Fatalf("exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if left, err := filepath.Glob(filepath.Join(home, "restored*", ".holdfast*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, name := range []string{"backup_manifest." + string(f.newestID()), ".barman-recover.info"} {
		if _, err := os.Stat(filepath.Join(dest, name)); err != nil {
			t.Error(err)
		}
	}
	f.started(t, dest)
	f.untouched(t)
}

// refusedElsewhere: what is on another file system than the backups can neither
// share blocks with them nor keep anything of the attempt.
func (f *family) refusedElsewhere(t *testing.T, mode, home string) {
	t.Helper()
	r := f.Holdfast(t, f.restoring(filepath.Join(home, "restored"), f.newestID(), "--combine-mode", mode)...)
	if r.Code != 4 || !strings.Contains(r.Stderr, "--combine-mode copy") {
		t.Errorf("exit code %d: %s", r.Code, r.Stderr)
	}
	if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// cloningDisk is a file system that can clone files.
func cloningDisk(t *testing.T) string {
	t.Helper()
	dir := pgtest.Dir(t)
	image, at := filepath.Join(dir, "xfs"), filepath.Join(dir, "mounted")
	if out, err := exec.Command("sh", "-ec", `truncate -s 2G "$1"; mkfs.xfs -q -m reflink=1 "$1"; mkdir "$2"; mount -o loop "$1" "$2"; chmod 777 "$2"`, "sh", image, at).CombinedOutput(); err != nil {
		t.Fatalf("a file system that clones files cannot be mounted (the tests run as root): %v: %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	home := filepath.Join(at, "backups")
	if err := errors.Join(os.Mkdir(home, 0o777), os.Chmod(home, 0o777)); err != nil {
		t.Fatal(err)
	}
	return home
}

// barmanAgrees: Barman lists and shows the chain as we do, and restores it.
func (f *family) barmanAgrees(t *testing.T) {
	dest := filepath.Join(pgtest.Dir(t), "restored")
	for _, args := range [][]string{{"list-backups", stacktest.Server}, {"show-backup", stacktest.Server, string(f.ids[0])}, {"show-backup", stacktest.Server, string(f.ids[1])}, {"show-backup", stacktest.Server, string(f.newestID())}} {
		args = append([]string{"-f", "json"}, args...)
		var theirs, ours map[string]any
		for text, into := range map[string]*map[string]any{f.barman(t, dest, args...): &theirs, f.Must(t, args...).Stdout: &ours} {
			if err := json.Unmarshal([]byte(text), into); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
		}
		if !reflect.DeepEqual(theirs, ours) {
			t.Errorf("%v: Barman says %v, we say %v", args, theirs, ours)
		}
	}
	f.judge(t, taken{ID: f.newestID()})
	f.untouched(t)
	child := f.recordsAsBarman(t, f.newestID(), "--incremental", string(f.newestID()))
	dest = filepath.Join(pgtest.Dir(t), "restored")
	f.Must(t, f.restoring(dest, child)...)
	f.started(t, dest)
	f.Must(t, "delete", stacktest.Server, string(child))
	f.kin(t)
}

// wrongParents are refused before anything is entered.
func (f *family) wrongParents(t *testing.T) {
	before := f.count(t)
	refused := func(says string, args ...string) {
		t.Helper()
		if r := f.Holdfast(t, append([]string{"backup", stacktest.Server}, args...)...); r.Code == 0 || !strings.Contains(r.Stderr, says) {
			t.Errorf("exit code %d, without %q: %s%s", r.Code, says, r.Stdout, r.Stderr)
		}
	}
	refused("no backup has this ID or name", "--incremental", "nonesuch")
	refused("no backup has failed", "--incremental", "last-failed")
	info, err := f.cat.Get(f.newestID())
	if err != nil {
		t.Fatal(err)
	}
	off, good := "off", info.DataChecksums
	info.DataChecksums = &off
	if err := f.cat.Save(info); err != nil {
		t.Fatal(err)
	}
	refused("data_checksums was off", "--incremental", "latest")
	info.DataChecksums = good
	if err := f.cat.Save(info); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.cat.DataDir(f.newestID()), "backup_manifest")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	refused("needs the manifest of a backup to build on it", "--incremental", "latest")
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	f.Configure(t, config.MethodLocalRsync)
	refused("backup_method = local-rsync takes no incremental backups", "--incremental", "latest")
	f.Configure(t, config.MethodPostgres)
	f.Cluster.Exec(t, "ALTER SYSTEM SET summarize_wal = off")
	f.Cluster.Exec(t, "SELECT pg_reload_conf()")
	refused("ALTER SYSTEM SET summarize_wal = on", "--incremental", "latest")
	f.Cluster.Exec(t, "ALTER SYSTEM RESET summarize_wal")
	f.Cluster.Exec(t, "SELECT pg_reload_conf()")
	if n := f.count(t); n != before {
		t.Errorf("%d backups were entered", n-before)
	}
}

// mixed: archives on plain files, and plain files on archives.
func (f *family) mixed(t *testing.T) {
	f.Configure(t, config.MethodPostgres, "backup_compression = zstd")
	f.Cluster.Exec(t, "UPDATE plain SET payload = 'tar' WHERE id % 7 = 0")
	f.grow(t, "--incremental", "latest")
	for _, mode := range []string{"copy", "link"} {
		dest := filepath.Join(pgtest.Dir(t), "restored")
		f.Must(t, f.restoring(dest, f.newestID(), "--combine-mode", mode)...)
		f.started(t, dest)
	}
	if f.Cluster.Version == barmantest.PostgreSQL {
		f.judge(t, taken{ID: f.newestID()})
	}
	f.Configure(t, config.MethodPostgres)
	f.Cluster.Exec(t, "UPDATE plain SET payload = 'plain' WHERE id % 11 = 0")
	f.grow(t, "--incremental", "latest")
	dest := filepath.Join(pgtest.Dir(t), "restored")
	f.Must(t, f.restoring(dest, f.newestID(), "--staging-path", f.scratch(t))...)
	f.started(t, dest)
	f.untouched(t)
	f.kin(t)
}

// scratch is a directory that everybody may write to.
func (f *family) scratch(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(pgtest.Dir(t), "scratch")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// missingSummaries: the child fails with what to do, and is no child any more.
func (f *family) missingSummaries(t *testing.T) {
	// The server writes no summary anew for WAL before the newest one that it made.
	summaries, err := filepath.Glob(filepath.Join(f.Cluster.DataDir, "pg_wal", "summaries", "*.summary"))
	if err != nil || len(summaries) == 0 {
		t.Fatalf("%v, %v", summaries, err)
	}
	for _, path := range summaries {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	r := f.Holdfast(t, "backup", stacktest.Server, "--incremental", string(f.ids[0]))
	if r.Code != 4 || !strings.Contains(r.Stderr, "WAL summaries are required") || !strings.Contains(r.Stderr, "take a full backup") {
		t.Errorf("exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	id, _ := f.newest()
	info, err := f.cat.Get(id)
	if err != nil || info.Status != backup.Failed || info.Parent == nil {
		t.Errorf("%+v, %v", info, err)
	}
	f.kin(t)
	r = f.Holdfast(t, "backup", stacktest.Server, "--incremental", "last-failed")
	if r.Code != 4 || !strings.Contains(r.Stderr, "it is FAILED, not DONE") {
		t.Errorf("exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	dest := filepath.Join(pgtest.Dir(t), "restored")
	if list := f.barman(t, dest, "list-backups", stacktest.Server); !strings.Contains(list, string(id)+" - I - FAILED") {
		t.Errorf("Barman lists %s", list)
	}
}

// halfRecorded: maintenance makes the lists of children what the children say.
func (f *family) halfRecorded(t *testing.T) {
	failed, _ := f.newest()
	for id, children := range map[backup.ID][]backup.ID{f.ids[0]: {f.ids[1], failed}, f.ids[1]: nil} {
		info, err := f.cat.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		info.Children = children
		if err := f.cat.Save(info); err != nil {
			t.Fatal(err)
		}
	}
	f.Must(t, "cron", stacktest.Server)
	f.kin(t)
}

// deleted: what builds on a backup goes with it, by Barman's hand too. Barman
// leaves a failed child behind, which is in nobody's way.
func (f *family) deleted(t *testing.T) {
	f.Must(t, "delete", stacktest.Server, string(f.ids[2]))
	f.ids = f.ids[:2]
	f.kin(t)
	if f.Cluster.Version == barmantest.PostgreSQL {
		dest := filepath.Join(pgtest.Dir(t), "none")
		f.barman(t, dest, "delete", stacktest.Server, string(f.ids[0]))
		failed, _ := f.newest()
		if n := f.count(t); n != 1 || failed == f.ids[1] {
			t.Errorf("Barman left %d backups, the newest is %s", n, failed)
		}
		f.barman(t, dest, "list-backups", stacktest.Server)
		f.Must(t, "list-backups", stacktest.Server)
		f.Must(t, "show-backup", stacktest.Server, string(failed))
		f.Must(t, "cron", stacktest.Server)
		f.ids[0] = failed
	}
	f.Must(t, "delete", stacktest.Server, string(f.ids[0]))
	if n := f.count(t); n != 0 {
		t.Errorf("%d backups are left: %s", n, f.Must(t, "list-backups", stacktest.Server).Stdout)
	}
}
