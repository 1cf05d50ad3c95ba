package activities

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/file"
)

// oneBackup is a catalogue with a backup that waits for WAL.
func oneBackup(t *testing.T) (*Catalogue, *catalog.Catalog, Ref) {
	t.Helper()
	home := t.TempDir()
	path := filepath.Join(home, "barman.conf")
	require.NoError(t, os.WriteFile(path, []byte("[barman]\nbarman_home = "+home+"\n[main]\nconninfo = host=pg\nbackup_method = postgres\n"), 0o600))
	cfg, err := config.Load(path)
	require.NoError(t, err)
	s, err := cfg.Server("main")
	require.NoError(t, err)
	layout := catalog.LayoutOf(s)
	require.NoError(t, layout.EnsureDirs())
	cat := catalog.Open(layout)
	mode, wal, id := "postgres", "000000010000000000000001", backup.ID("20261124T193756")
	require.NoError(t, cat.Create(&backupinfo.Info{ID: id, ServerName: "main", Status: backup.WaitingForWALs, Mode: &mode, BeginWAL: &wal, EndWAL: &wal}))
	return &Catalogue{Servers: oneServer{s}}, cat, Ref{Request: Request{Server: "main"}, ID: id, Attempt: 1}
}

// A process that is killed while it writes backup.info leaves the file that it
// would have renamed; the end of the backup removes it.
func TestTheEndOfABackupRemovesWhatKilledWritersLeft(t *testing.T) {
	for name, end := range map[string]func(context.Context, *Catalogue, Ref) error{
		"done": func(ctx context.Context, c *Catalogue, ref Ref) error {
			_, err := c.recordDone(ctx, ref, Proven{At: time.Now()})
			return err
		},
		"failed": func(ctx context.Context, c *Catalogue, ref Ref) error {
			return c.recordFailed(ctx, ref, Failure{Message: "lost"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, cat, ref := oneBackup(t)
			layout, id := cat.Layout, ref.ID
			left := []string{
				filepath.Join(layout.MetaDir, atomicfile.TempPrefix+string(id)+"-backup.info-154241474"),
				filepath.Join(layout.MetaDir, atomicfile.TempPrefix+string(id)+"-holdfast.json-1"),
				filepath.Join(layout.BackupDir, atomicfile.TempPrefix+"identity.json-2"),
			}
			other := filepath.Join(layout.MetaDir, atomicfile.TempPrefix+"20261124T193757-backup.info-3")
			for _, path := range append(left, other) {
				require.NoError(t, os.WriteFile(path, []byte("half"), 0o600))
			}
			require.NoError(t, end(t.Context(), c, ref))
			for _, path := range left {
				assert.NoFileExists(t, path)
			}
			assert.FileExists(t, other, "another backup's writer may be at work")
		})
	}
}

// Only the first good backup of a server is followed by a purge.
func TestABackupKnowsWhetherItFollowsAnother(t *testing.T) {
	c, cat, ref := oneBackup(t)
	older := backup.ID("20261123T193756")
	for status, follows := range map[backup.Status]bool{backup.Failed: false, backup.Done: true} {
		require.NoError(t, cat.Save(&backupinfo.Info{ID: older, ServerName: "main", Status: status}))
		got, err := c.recordDone(t.Context(), ref, Proven{At: time.Now()})
		require.NoError(t, err)
		assert.Equal(t, follows, got.Follows, status)
	}
}

// A proof that ends after somebody has begun to delete the backup makes no
// backup of what is left.
func TestABackupThatIsDeletedDoesNotBecomeDone(t *testing.T) {
	c, cat, ref := oneBackup(t)
	require.NoError(t, cat.MarkDeleting(ref.ID))
	require.NoError(t, cat.Condemn(ref.ID))
	_, err := c.recordDone(t.Context(), ref, Proven{At: time.Now()})
	assert.Equal(t, fault.Refused, fault.KindOf(err))
	require.NoError(t, c.recordFailed(t.Context(), ref, Failure{Message: "lost"}))
	info, err := cat.Get(ref.ID)
	require.NoError(t, err)
	assert.Equal(t, backup.Failed, info.Status)
	assert.Contains(t, *info.Error, "deletion")
}

// A backup that nobody works for any more is recorded as FAILED in the store that it goes to, too.
func TestAnAbandonedBackupIsFailedInItsStore(t *testing.T) {
	home, store := t.TempDir(), t.TempDir()
	path := filepath.Join(home, "barman.conf")
	require.NoError(t, os.WriteFile(path, []byte("[barman]\nbarman_home = "+home+"\n[main]\nconninfo = host=pg\nbackup_method = local-to-cloud\nbasebackups_directory = file://"+store+"\n"), 0o600))
	cfg, err := config.Load(path)
	require.NoError(t, err)
	s, err := cfg.Server("main")
	require.NoError(t, err)
	require.NoError(t, catalog.LayoutOf(s).EnsureDirs())
	cat, id := catalog.Open(catalog.LayoutOf(s)), backup.ID("20261124T193756")
	require.NoError(t, cat.Create(&backupinfo.Info{ID: id, ServerName: "main", Status: backup.Started}))
	m := &Maintenance{Servers: oneServer{s}, Stores: func(_ context.Context, at objstore.Location, _ config.CloudOptions, p *objstore.Policy) (objstore.Store, error) {
		return file.Open(at, p)
	}}
	done, err := m.giveUp(t.Context(), s, cat, id, &catalog.Extra{})
	require.NoError(t, err)
	assert.True(t, done)
	record, err := os.ReadFile(filepath.Join(store, "main", "base", string(id), "backup.info"))
	require.NoError(t, err)
	assert.Contains(t, string(record), "status=FAILED")
}
