package disposal_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/disposal"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pylit"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/snapshottest"
)

// TestSnapshotsGoFirst: a backup whose snapshots cannot be removed keeps its record,
// and the next deletion finishes it.
func TestSnapshotsGoFirst(t *testing.T) {
	b := open(t, t.TempDir())
	mode := "snapshot-concurrent"
	b.archive(1, 5)
	b.add(1, func(i *backupinfo.Info) { i.Mode = &mode })
	b.add(3, nil)
	m := &snapshottest.Memory{Names: []string{"d"}}
	s := config.Server{}
	s.Name, s.BackupMethod, s.SnapshotProvider, s.SnapshotInstance, s.BackupDirectory = "main", config.MethodSnapshot, "btrfs", "localhost", b.Catalog.BackupDir
	made, err := m.Create(t.Context(), snapshot.Tag{Owner: snapshot.OwnerOf(&s), ID: day(1), Attempt: 1}, snapshot.Disk{Name: "d"})
	b.must(err)
	record := &snapshot.Record{Provider: "btrfs", Info: snapshot.RecordInfo{Instance: "localhost"}, Snapshots: []snapshot.RecordedDisk{{Provider: snapshot.RecordedSnapshot{ID: made.ID, Name: made.Name}}}}
	b.must(b.Catalog.SaveExtra(day(1), &catalog.Extra{Snapshots: record}))
	b.Snapshots = disposal.SnapshotsOf(&s, func(context.Context, *config.Server, ...string) (*snapshot.Access, error) {
		return &snapshot.Access{Provider: m, Close: func() {}}, nil
	})

	m.Hook = func(op, _ string) error {
		if op == "delete" {
			return fault.New(fault.Permission, "delete snapshot", "d", "no")
		}
		return nil
	}
	if _, err := b.Delete(t.Context(), []backup.ID{day(1)}, nil, time.Now()); !fault.Is(err, fault.Permission) {
		t.Errorf("%v", err)
	}
	b.want("1:FAILED 3:DONE", "1 2 3 4 5")
	s.SnapshotProvider = "zfs"
	m.Hook = nil
	if _, err := b.FinishDeletions(t.Context(), time.Now()); !fault.Is(err, fault.Refused) {
		t.Errorf("snapshots of another provider: %v", err)
	}
	s.SnapshotProvider = "btrfs"
	_, err = b.FinishDeletions(t.Context(), time.Now())
	b.must(err)
	if left := m.IDs(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	b.want("3:DONE", "3 4 5")
}

// TestLockedSnapshots: a backup with one is neither deleted nor touched, and is named
// with the moment from which on it can be.
func TestLockedSnapshots(t *testing.T) {
	b := open(t, t.TempDir())
	mode := "snapshot-concurrent"
	info := pylit.D(pylit.P("provider", pylit.Str("aws")))
	b.archive(1, 5)
	b.add(1, func(i *backupinfo.Info) { i.Mode, i.Snapshots = &mode, &info })
	b.add(3, nil)
	m := &snapshottest.Memory{Names: []string{"d"}, LockFor: time.Hour}
	s := config.Server{}
	s.Name, s.BackupMethod, s.SnapshotProvider, s.SnapshotInstance, s.BackupDirectory = "main", config.MethodSnapshot, "aws", "pg", b.Catalog.BackupDir
	if _, err := b.Delete(t.Context(), []backup.ID{day(1)}, nil, time.Now()); !fault.Is(err, fault.Refused) {
		t.Errorf("a backup of Barman's: %v", err)
	}
	made, err := m.Create(t.Context(), snapshot.Tag{Owner: snapshot.OwnerOf(&s), ID: day(1), Attempt: 1}, snapshot.Disk{Name: "d"})
	b.must(err)
	_, err = m.Lock(t.Context(), made)
	b.must(err)
	record := &snapshot.Record{Provider: "aws", Info: snapshot.RecordInfo{Instance: "pg"}, Snapshots: []snapshot.RecordedDisk{{Provider: snapshot.RecordedSnapshot{ID: made.ID, Name: made.Name}}}}
	b.must(b.Catalog.SaveExtra(day(1), &catalog.Extra{Snapshots: record}))
	open := func(context.Context, *config.Server, ...string) (*snapshot.Access, error) {
		return &snapshot.Access{Provider: m, Close: func() {}}, nil
	}
	b.Snapshots, b.Unlocked = disposal.SnapshotsOf(&s, open), disposal.UnlockedOf(&s, open)
	if _, err := b.Delete(t.Context(), []backup.ID{day(1)}, nil, time.Now()); !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "it is locked (governance) until ") {
		t.Errorf("a locked one: %v", err)
	}
	b.want("1:DONE 3:DONE", "1 2 3 4 5")
	if ids := m.IDs(); len(ids) != 1 {
		t.Errorf("the snapshots are %v", ids)
	}
	m.Expire()
	_, err = b.Delete(t.Context(), []backup.ID{day(1)}, nil, time.Now())
	b.must(err)
	b.want("3:DONE", "3 4 5")
	if ids := m.IDs(); len(ids) > 0 {
		t.Errorf("left: %v", ids)
	}
}
