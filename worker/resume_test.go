//go:build integration

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/converter"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// manyFiles are enough tables for several of rsync's batches. A kill costs no
// more than the batches that are under way.
const manyFiles = 2500

// TestResume: what was copied before a kill and has not changed is not copied
// again, and what an older backup shares with a new one does not change.
func TestResume(t *testing.T) {
	t.Parallel()
	b := newBed(t, config.MethodLocalRsync, pgtest.Versions()[1], "autovacuum = off")
	b.Cluster.Fill(t, "plain", "", 20000)
	b.Cluster.Exec(t, fmt.Sprintf(`do $$ begin for i in 1..%d loop
		execute format('create table many_%%s as select %%s as i', i, i);
		if i %% 500 = 0 then commit; end if;
		end loop; end $$`, manyFiles))
	b.rows = b.Cluster.Fingerprint(t)
	b.age(t)
	t.Run("copy process killed", func(t *testing.T) { b.keepsWhatIsThere(t, "copy", 1) })
	t.Run("session lost", func(t *testing.T) { b.keepsWhatIsThere(t, "session", 2) })
	t.Run("session lost, files linked", b.sharesNothingThatChanges)
}

func (b *bed) keepsWhatIsThere(t *testing.T, victim string, attempts int) {
	before := b.count(t)
	var there map[string]file
	// Of two processes, one is done with the small files while the other still copies the large ones.
	got := took(t, b.duringWhen(t, b.recorded, func() {
		there = b.newestFiles(t)
		b.Kill(t, victim)
	}, "--jobs", "2", "--bwlimit", "8000"))
	if got.Attempts != attempts {
		t.Errorf("%d attempts", got.Attempts)
	}
	copied := b.lastCopy(t)
	if copied.ReusedFiles < manyFiles/3 || copied.SentFiles != copied.Files-copied.ReusedFiles {
		t.Errorf("of %d files, %d were kept and %d sent", copied.Files, copied.ReusedFiles, copied.SentFiles)
	}
	same := int64(0)
	for path, now := range b.newestFiles(t) {
		if was, ok := there[path]; ok && was == now {
			same++
		}
	}
	t.Logf("%d files were there at the kill, %d of them stayed; of %d files, %d were kept and %d sent", len(there), same, copied.Files, copied.ReusedFiles, copied.SentFiles)
	// Some may have arrived between our look and the kill.
	if same < manyFiles/3 || same > copied.ReusedFiles {
		t.Errorf("%d files are those of before the kill, %d were kept", same, copied.ReusedFiles)
	}
	b.verify(t, got, before)
}

// sharesNothingThatChanges loses the session when files of an older backup are
// linked and others are still copied, and changes a linked one before the next
// attempt.
func (b *bed) sharesNothingThatChanges(t *testing.T) {
	older := b.backup(t)
	sum := b.hash(t, older.ID)
	b.Cluster.Exec(t, "update plain set payload = upper(payload)")
	b.age(t)
	path := filepath.Base(b.Cluster.Value(t, "select pg_relation_filepath('elsewhere')"))
	changed := func() (out file) {
		for name, f := range b.newestFiles(t) {
			if filepath.Base(name) == path {
				out = f
			}
		}
		return out
	}
	before := b.count(t)
	next := make(chan struct{})
	middle, done := whenCopied(func() bool { return changed().links > 1 }, func() {
		defer close(next)
		b.Kill(t, "session")
		b.Cluster.Exec(t, "update elsewhere set payload = 'changed' where id = 1")
		b.Cluster.Exec(t, "checkpoint")
	})
	var starts atomic.Int32
	b.on(t, func(t testing.TB, pid int, point string) {
		middle(t, pid, point)
		if point == "before:StartBackup" && starts.Add(1) > 1 {
			<-next
		}
	})
	// One of two processes makes links while the other copies.
	got := b.backup(t, "--reuse-backup", "link", "--jobs", "2", "--bwlimit", "4000")
	await(t, done, "nothing was linked")
	if got.Attempts != 2 {
		t.Errorf("%d attempts", got.Attempts)
	}
	if now := b.hash(t, older.ID); now != sum {
		t.Errorf("the older backup has changed: %s, it was %s", now, sum)
	}
	if f := changed(); f.links != 1 {
		t.Errorf("what has changed has %d links", f.links)
	}
	linked := 0
	for _, f := range b.newestFiles(t) {
		if f.links > 1 {
			linked++
		}
	}
	if linked < manyFiles/3 {
		t.Errorf("%d files are linked", linked)
	}
	b.rows = b.Cluster.Fingerprint(t)
	b.verify(t, got, before)
}

// age lets every file of the cluster become so old that its times tell whether
// it changes, which takes two seconds.
func (b *bed) age(t *testing.T) {
	t.Helper()
	b.Cluster.Exec(t, "checkpoint")
	time.Sleep(2100 * time.Millisecond)
}

// recorded reports whether the newest backup's journal has a batch of small files.
func (b *bed) recorded() bool {
	id, ok := b.newest()
	if !ok {
		return false
	}
	st, err := os.Stat(filepath.Join(b.cat.WorkDir(id), "run-files"))
	return err == nil && st.Size() > 64<<10
}

// file tells a file from another one with its name and content.
type file struct {
	inode, links uint64
	changed      syscall.Timespec
}

// newestFiles are those of the newest backup, except our own.
func (b *bed) newestFiles(t *testing.T) map[string]file {
	t.Helper()
	out := map[string]file{}
	id, ok := b.newest()
	if !ok {
		return out
	}
	_ = filepath.WalkDir(b.cat.BackupDirOf(id), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && d.Name() == "holdfast" {
				return fs.SkipDir
			}
			return nil // what is gone again
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			out[path] = file{inode: st.Ino, links: st.Nlink, changed: st.Ctim}
		}
		return nil
	})
	return out
}

// lastCopy is what the last copy of the last backup has reported.
func (b *bed) lastCopy(t *testing.T) (out activities.Copied) {
	t.Helper()
	names := map[int64]string{}
	found := false
	for _, e := range b.history(t).Events {
		if s := e.GetActivityTaskScheduledEventAttributes(); s != nil {
			names[e.EventId] = s.ActivityType.Name
		}
		if c := e.GetActivityTaskCompletedEventAttributes(); c != nil && strings.HasPrefix(names[c.ScheduledEventId], "Copy") {
			found = true
			if err := converter.GetDefaultDataConverter().FromPayloads(c.Result, &out); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !found {
		t.Fatal("no copy was completed")
	}
	return out
}
