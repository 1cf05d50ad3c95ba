package disposal_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/flock"
)

func TestApplyDoesWhatThePlanSays(t *testing.T) {
	b := open(t, t.TempDir())
	b.add(2, nil)
	b.add(4, nil)
	b.add(6, nil)
	b.archive(1, 8)
	b.policy(2)
	plan, err := b.Plan(t.Context(), now)
	b.must(err)
	b.want("2:DONE 4:DONE 6:DONE", "1 2 3 4 5 6 7 8")
	for range 2 {
		_, err := b.Apply(t.Context(), plan, now)
		b.must(err)
		b.want("4:DONE 6:DONE", "4 5 6 7 8")
	}
	left, err := filepath.Glob(filepath.Join(b.Catalog.LockDir, ".main-2026*.lock"))
	if err != nil || len(left) > 0 {
		t.Errorf("locks of deleted backups: %v, %v", left, err)
	}
}

// What was not in the plan that somebody has seen does not go.
func TestApplyDeletesNoMoreThanWasPlanned(t *testing.T) {
	b := open(t, t.TempDir())
	b.add(2, nil)
	b.add(4, nil)
	b.archive(1, 8)
	b.policy(1)
	plan, err := b.Plan(t.Context(), now)
	b.must(err)
	b.add(6, nil)
	res, err := b.Apply(t.Context(), plan, now)
	b.must(err)
	if len(res.Deleted) != 1 || res.Deleted[0] != day(2) || res.Files != 3 {
		t.Errorf("%+v", res)
	}
	b.want("4:DONE 6:DONE", "4 5 6 7 8")
}

func TestReadersHoldDeletionsOff(t *testing.T) {
	for name, share := range map[string]func(*catalog.Catalog, backup.ID) (*flock.Lock, error){
		"one of two readers": func(c *catalog.Catalog, id backup.ID) (*flock.Lock, error) {
			first, err := c.ShareID(id)
			if err == nil {
				t.Cleanup(func() { first.Release() })
			}
			return c.ShareID(id)
		},
		"somebody alone": func(c *catalog.Catalog, id backup.ID) (*flock.Lock, error) { return c.LockID(id) },
	} {
		b := open(t, t.TempDir())
		b.add(2, nil)
		b.add(3, dependsOn(2))
		b.add(4, nil)
		b.add(6, nil)
		b.archive(1, 8)
		b.policy(1)
		lock, err := share(b.Catalog, day(3))
		b.must(err)
		if _, err := b.Delete(t.Context(), []backup.ID{day(2)}, nil, now); !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "process") {
			t.Errorf("%s: %v", name, err)
		}
		plan, err := b.Plan(t.Context(), now)
		b.must(err)
		_, err = b.Apply(t.Context(), plan, now)
		b.must(err)
		b.want("2:DONE 3:DONE 6:DONE", "2 3 4 5 6 7 8")
		lock.Release()
	}
}

// A restore of a standalone backup may read on; its WAL stays meanwhile.
func TestAReaderOfAStandaloneBackupKeepsItsLaterWAL(t *testing.T) {
	b := open(t, t.TempDir())
	b.add(2, nil)
	b.add(4, nil)
	b.add(6, nil)
	b.archive(1, 8)
	b.policy(1)
	b.must(b.Catalog.SetKeep(day(2), catalog.KeepStandalone))
	plan, err := b.Plan(t.Context(), now)
	b.must(err)
	lock, err := b.Catalog.ShareID(day(2))
	b.must(err)
	_, err = b.Apply(t.Context(), plan, now)
	b.must(err)
	b.want("2:DONE 6:DONE", "2 3 4 5 6 7 8")
	lock.Release()
	_, err = b.Apply(t.Context(), plan, now)
	b.must(err)
	b.want("2:DONE 6:DONE", "2 6 7 8")
}

func TestABackupThatIsMadeHoldsDeletionsOff(t *testing.T) {
	b := open(t, t.TempDir())
	b.add(2, nil)
	b.add(4, nil)
	lock, err := b.Catalog.LockBackup()
	b.must(err)
	defer lock.Release()
	if _, err := b.Delete(t.Context(), []backup.ID{day(2)}, nil, now); !fault.Is(err, fault.Refused) || !strings.Contains(fault.HintOf(err), "no way to force") {
		t.Errorf("%v, %q", err, fault.HintOf(err))
	}
	b.want("2:DONE 4:DONE", "")
}

// What Barman has begun to delete is finished, with what depends on it.
func TestFinishDeletions(t *testing.T) {
	b := open(t, t.TempDir())
	b.add(2, nil)
	b.add(3, dependsOn(2))
	b.add(6, nil)
	b.archive(1, 8)
	_, err := b.FinishDeletions(t.Context(), now)
	b.must(err)
	b.want("2:DONE 3:DONE 6:DONE", "1 2 3 4 5 6 7 8")
	b.must(b.Catalog.MarkDeleting(day(2)))
	// Of this one only the mark is left.
	b.must(b.Catalog.MarkDeleting(day(1)))
	_, err = b.FinishDeletions(t.Context(), now)
	b.must(err)
	b.want("6:DONE", "6 7 8")
	if marks, err := b.Catalog.Marks(); err != nil || len(marks) > 0 {
		t.Errorf("%v, %v", marks, err)
	}
}

func TestHardLinkedFilesOfOtherBackupsSurvive(t *testing.T) {
	b := open(t, t.TempDir())
	linked := func(i *backupinfo.Info) {
		mode, size, own := "rsync-concurrent", int64(filesOfABackup), int64(filesOfABackup-1)
		i.Mode, i.Size, i.DeduplicatedSize = &mode, &size, &own
	}
	b.add(2, linked)
	b.add(4, linked)
	b.add(6, linked)
	old, shared := filepath.Join(b.Catalog.DataDir(day(2)), "base/0/0"), filepath.Join(b.Catalog.DataDir(day(4)), "base/0/0")
	b.must(os.Remove(shared))
	b.must(os.Link(old, shared))
	b.archive(1, 8)
	_, err := b.Delete(t.Context(), []backup.ID{day(2)}, nil, now)
	b.must(err)
	if text, err := os.ReadFile(shared); err != nil || string(text) != "x" {
		t.Errorf("%q, %v", text, err)
	}
	b.whole()
	for n, want := range map[int]int64{4: filesOfABackup, 6: filesOfABackup - 1} {
		if info, err := b.Catalog.Get(day(n)); err != nil || *info.DeduplicatedSize != want {
			t.Errorf("backup %d takes %d bytes by itself, not %d (%v)", n, *info.DeduplicatedSize, want, err)
		}
	}
}

func TestNothingIsDeletedBesideARecordThatNobodyUnderstands(t *testing.T) {
	b := open(t, t.TempDir())
	b.add(2, nil)
	b.add(4, nil)
	b.archive(1, 8)
	b.policy(1)
	b.must(os.WriteFile(filepath.Join(b.Catalog.MetaDir, string(day(1))+"-backup.info"), []byte("status=BROKEN\n"), 0o600))
	if _, err := b.Plan(t.Context(), now); !fault.Is(err, fault.Corrupt) {
		t.Errorf("%v", err)
	}
	if _, err := b.Delete(t.Context(), []backup.ID{day(2)}, nil, now); !fault.Is(err, fault.Corrupt) {
		t.Errorf("%v", err)
	}
}

// Fault 5 of the reference: a failed first backup empties the archive.
func TestAFailedFirstBackupPurgesNothing(t *testing.T) {
	b := open(t, t.TempDir())
	b.add(5, func(i *backupinfo.Info) { i.Status, i.BeginLSN, i.BeginWAL = backup.Failed, nil, nil })
	b.archive(1, 8)
	if names, err := b.PurgeAfterFirst(t.Context(), day(5), now); err != nil || len(names) > 0 {
		t.Errorf("%v, %v", names, err)
	}
	b.want("5:FAILED", "1 2 3 4 5 6 7 8")
	b.add(6, nil)
	names, err := b.PurgeAfterFirst(t.Context(), day(6), now)
	b.must(err)
	if len(names) != 5 {
		t.Errorf("%v", names)
	}
	b.want("5:FAILED 6:DONE", "6 7 8")
}

// Fault 6 of the reference: without the last backup all WAL goes.
func TestDeletingTheLastBackupLeavesWhatFollowsItsBegin(t *testing.T) {
	b := open(t, t.TempDir())
	b.add(5, nil)
	b.archive(1, 8)
	_, err := b.Delete(t.Context(), []backup.ID{day(5)}, nil, now)
	b.must(err)
	b.want("", "5 6 7 8")
}

// Fault 25 of the reference: with its last annotation the meta directory goes.
func TestTheMetaDirectoryStays(t *testing.T) {
	b := open(t, t.TempDir())
	b.add(5, nil)
	b.must(b.Catalog.SetKeep(day(5), catalog.KeepFull))
	b.must(b.Catalog.Release(day(5)))
	_, err := b.Delete(t.Context(), []backup.ID{day(5)}, nil, now)
	b.must(err)
	entries, err := os.ReadDir(b.Catalog.MetaDir)
	if err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

// Fault 27 of the reference: with a stuck archive, newer copies do not count
// and nobody says so. They neither displace a proven backup nor stay unmentioned.
func TestBackupsThatWaitForWALAreMentionedAndKept(t *testing.T) {
	b := open(t, t.TempDir())
	b.add(2, nil)
	b.add(3, nil)
	waiting := func(i *backupinfo.Info) { i.Status = backup.WaitingForWALs }
	b.add(4, waiting)
	b.add(5, waiting)
	b.archive(1, 8)
	b.policy(1)
	plan, err := b.Plan(t.Context(), now)
	b.must(err)
	if text := strings.Join(plan.Warnings, "\n"); !strings.Contains(text, string(day(4))) || !strings.Contains(text, string(day(5))) {
		t.Errorf("%q", plan.Warnings)
	}
	_, err = b.Apply(t.Context(), plan, now)
	b.must(err)
	b.want("3:DONE 4:WAITING_FOR_WALS 5:WAITING_FOR_WALS", "3 4 5 6 7 8")
}
