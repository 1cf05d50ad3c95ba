package doctor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/file"
)

// TestWhoseUploads: only those that no backup here can still finish, and no other host, are leftovers.
func TestWhoseUploads(t *testing.T) {
	const ofBackup, day = "main/base/" + string(id) + "/data_0001.tar.zst", 25 * time.Hour
	for name, c := range map[string]struct {
		key      string
		status   backup.Status // "" for no record
		running  bool
		deleting bool
		age      time.Duration
		leftover bool
		doubt    string
	}{
		"its backup is made":                       {key: ofBackup, status: backup.Started, running: true, age: day},
		"its backup is abandoned":                  {key: ofBackup, status: backup.Started, age: day},
		"its backup failed":                        {key: ofBackup, status: backup.Failed, leftover: true},
		"its backup is done":                       {key: ofBackup, status: backup.Done, leftover: true},
		"its backup is deleted":                    {key: ofBackup, status: backup.Failed, deleting: true},
		"a young one of a backup that is not here": {key: ofBackup, doubt: "another host"},
		"an old one of a backup that is not here":  {key: ofBackup, age: day, leftover: true},
		"a young one of WAL":                       {key: "main/wals/0000000100000000/000000010000000000000001", doubt: "another host"},
		"an old one of WAL":                        {key: "main/wals/0000000100000000/000000010000000000000001", age: day, leftover: true},
		"of another server":                        {key: "main2/base/" + string(id) + "/data.tar", age: day},
	} {
		t.Run(name, func(t *testing.T) {
			d := patient(t, func() (bool, error) { return c.running, nil })
			s, err := file.Open(objstore.Location{Provider: objstore.File, Bucket: t.TempDir()}, &objstore.Policy{})
			require.NoError(t, err)
			d.Stores = map[string]Uploads{"file:///x": s}
			_, err = s.Begin(t.Context(), c.key)
			require.NoError(t, err)
			if c.status != "" {
				d.has(t, c.status, "r")
			}
			if c.deleting {
				require.NoError(t, d.Catalog.MarkDeleting(id))
			}
			list, err := d.Examine(t.Context(), time.Now().Add(c.age))
			require.NoError(t, err)
			list = only(list, Upload)
			if !c.leftover && c.doubt == "" {
				assert.Empty(t, list)
				return
			}
			require.Len(t, list, 1)
			assert.Equal(t, "file:///x/"+c.key, list[0].Subject)
			if c.doubt != "" {
				assert.Contains(t, list[0].Doubt, c.doubt)
				assert.False(t, list[0].Removable())
				return
			}
			lock, err := d.Catalog.LockBackup()
			require.NoError(t, err)
			assert.Equal(t, fault.Refused, fault.KindOf(list[0].Remove(t.Context())), "not while a backup is made")
			require.NoError(t, lock.Release())
			require.NoError(t, list[0].Remove(t.Context()))
			for u, err := range s.Uploads(t.Context(), "") {
				t.Errorf("left: %+v, %v", u, err)
			}
		})
	}
}
