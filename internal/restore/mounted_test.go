package restore_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/restore"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// mounted is a data directory as a running server left it, and its backup.
func mounted(t *testing.T) (restore.Source, *restoreplan.Plan) {
	t.Helper()
	src, arch, root := shown(t)
	control, err := os.ReadFile("../pgcontrol/testdata/18.pg_control")
	require.NoError(t, err)
	write(t, filepath.Join(src.Data, "global/pg_control"), string(control))
	dest := filepath.Join(root, "mounted")
	require.NoError(t, os.Rename(src.Data, dest))
	id := "0"
	src.Info.SystemID = &id
	src.Info.Tablespaces = src.Info.Tablespaces[:1]
	write(t, filepath.Join(src.Info.Tablespaces[0].Location, "PG_18_1/5/6"), "x")
	src.Snapshot.Mounted = true
	plan, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: dest, Mounted: true}, arch)
	require.NoError(t, err)
	return src, plan
}

// TestMounted completes what disks have brought, and again after it failed in the middle.
func TestMounted(t *testing.T) {
	src, plan := mounted(t)
	_, err := restore.Run(t.Context(), src, plan, restore.Options{})
	require.ErrorContains(t, err, "system identifier")
	assert.Equal(t, fault.Refused, fault.KindOf(err))
	src.Info.SystemID = nil
	control := filepath.Join(plan.Dest, "global/pg_control")
	src.WAL = archive{fail: true}
	require.NotEmpty(t, plan.WAL)
	_, err = restore.Run(t.Context(), src, plan, restore.Options{})
	require.ErrorContains(t, err, "gone")
	assert.NoFileExists(t, control, "no server starts on a half")
	src.WAL = archive{}
	for range 2 {
		_, err = restore.Run(t.Context(), src, plan, restore.Options{})
		require.NoError(t, err)
		label, err := os.ReadFile(filepath.Join(plan.Dest, "backup_label"))
		require.NoError(t, err)
		assert.Equal(t, "the label of the record", string(label))
		assert.FileExists(t, control)
		for _, gone := range []string{"postmaster.pid", "tablespace_map", "standby.signal", "pg_replslot/standby", "pg_wal/x"} {
			assert.NoFileExists(t, filepath.Join(plan.Dest, gone))
		}
		to, err := os.Readlink(filepath.Join(plan.Dest, "pg_tblspc/16384"))
		require.NoError(t, err)
		assert.Equal(t, src.Info.Tablespaces[0].Location, to)
		assert.FileExists(t, filepath.Join(plan.Dest, plan.WALDir, plan.WAL[0]))
	}
	assert.FileExists(t, filepath.Join(filepath.Dir(plan.Dest), "of the source/wal/x"), "what a link led to stays")
}

// TestMountedLabel: an exclusive backup of Barman's has it on the disk.
func TestMountedLabel(t *testing.T) {
	src, plan := mounted(t)
	src.Info.SystemID, src.Snapshot.Label = nil, nil
	mode := "snapshot-exclusive"
	_, err := restore.Run(t.Context(), src, plan, restore.Options{})
	require.ErrorContains(t, err, "has no backup_label")
	src.Info.Mode = &mode
	_, err = restore.Run(t.Context(), src, plan, restore.Options{})
	require.NoError(t, err)
	label, err := os.ReadFile(filepath.Join(plan.Dest, "backup_label"))
	require.NoError(t, err)
	assert.Equal(t, "label", string(label))
}

// TestNotMounted: what is no data directory, or has no tablespace, is refused as it is.
func TestNotMounted(t *testing.T) {
	for name, spoil := range map[string]func(restore.Source, *restoreplan.Plan) error{
		"it is no data directory": func(_ restore.Source, p *restoreplan.Plan) error {
			return os.RemoveAll(filepath.Join(p.Dest, "global"))
		},
		"no such file": func(_ restore.Source, p *restoreplan.Plan) error { return os.RemoveAll(p.Dest) },
		"no files of a tablespace": func(s restore.Source, _ *restoreplan.Plan) error {
			return os.RemoveAll(filepath.Join(s.Info.Tablespaces[0].Location, "PG_18_1"))
		},
	} {
		src, plan := mounted(t)
		src.Info.SystemID = nil
		require.NoError(t, spoil(src, plan))
		_, err := restore.Run(t.Context(), src, plan, restore.Options{})
		require.ErrorContains(t, err, name)
		assert.Equal(t, fault.Refused, fault.KindOf(err))
		assert.NoFileExists(t, filepath.Join(plan.Dest, "global/pg_control.holdfast-restore"))
	}
}
