package doctor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/snapshottest"
)

// TestWhoseSnapshots: only those that no backup has, or can still have, are leftovers.
func TestWhoseSnapshots(t *testing.T) {
	for name, c := range map[string]struct {
		status   backup.Status // "" for no record
		running  bool
		named    bool // by the record
		deleting bool
		leftover bool
	}{
		"there is no record":         {leftover: true},
		"its backup is made":         {status: backup.Started, running: true},
		"its backup is abandoned":    {status: backup.Started},
		"its backup waits for WAL":   {status: backup.WaitingForWALs},
		"its backup has it":          {status: backup.Done, named: true},
		"its backup has another one": {status: backup.Done, leftover: true},
		"its backup failed":          {status: backup.Failed, leftover: true},
		"its backup is deleted":      {status: backup.Failed, deleting: true},
	} {
		t.Run(name, func(t *testing.T) {
			d := patient(t, func() (bool, error) { return c.running, nil })
			m := &snapshottest.Memory{Names: []string{"d"}}
			d.Snapshots, d.Owner = m, "main-1"
			s, err := m.Create(t.Context(), snapshot.Tag{Owner: "main-1", ID: id, Attempt: 1}, snapshot.Disk{Name: "d"})
			require.NoError(t, err)
			_, err = m.Create(t.Context(), snapshot.Tag{Owner: "another", ID: "20250101T000000", Attempt: 1}, snapshot.Disk{Name: "d"})
			require.NoError(t, err)
			if c.status != "" {
				d.has(t, c.status, "r")
			}
			if c.named {
				require.NoError(t, d.Catalog.SaveExtra(id, &catalog.Extra{RunID: "r", Snapshots: &snapshot.Record{Snapshots: []snapshot.RecordedDisk{{Provider: snapshot.RecordedSnapshot{ID: s.ID, Name: s.Name}}}}}))
			}
			if c.deleting {
				require.NoError(t, d.Catalog.MarkDeleting(id))
			}
			list, err := d.Examine(t.Context(), time.Now())
			require.NoError(t, err)
			list = only(list, Snapshot)
			if !c.leftover {
				assert.Empty(t, list)
				return
			}
			require.Len(t, list, 1)
			assert.Contains(t, list[0].Subject, s.Name)
			lock, err := d.Catalog.LockBackup()
			require.NoError(t, err)
			assert.Equal(t, fault.Refused, fault.KindOf(list[0].Remove(t.Context())), "not while a backup is made")
			lock.Release()
			require.NoError(t, list[0].Remove(t.Context()))
			assert.Len(t, m.IDs(), 1)
		})
	}
}
