package restore_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/restore"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// shown is a backup whose files are those of a running server's disk, with a
// tablespace below the data directory.
func shown(t *testing.T) (restore.Source, restoreplan.Archive, string) {
	t.Helper()
	src, arch, root := sample(t)
	elsewhere := filepath.Join(root, "of the source")
	for name, content := range map[string]string{
		"recovery.signal": "", "postmaster.opts": "x", "pg_replslot/standby/state": "slot", "pg_stat_tmp/db_0.stat": "x", "log/pg.log": "x",
		"pg_notify/0000": "x", "base/1/pg_internal.init": "x", "base/1/t3_16384": "temporary", "inside/PG_18_1/7": "inner", "inside/PG_17_1/7": "of another version",
	} {
		write(t, filepath.Join(src.Data, name), content)
	}
	write(t, filepath.Join(elsewhere, "wal", "x"), "wal of the source")
	write(t, filepath.Join(elsewhere, "server.key"), "key")
	require.NoError(t, os.RemoveAll(filepath.Join(src.Data, "pg_wal")))
	for name, target := range map[string]string{"pg_wal": "wal", "server.key": "server.key"} {
		require.NoError(t, os.Symlink(filepath.Join(elsewhere, target), filepath.Join(src.Data, name)))
	}
	socket, err := net.Listen("unix", filepath.Join(src.Data, ".s.PGSQL.1"))
	require.NoError(t, err)
	t.Cleanup(func() { socket.Close() })
	src.Info.Tablespaces = append(src.Info.Tablespaces, backupinfo.Tablespace{Name: "inner", OID: 9, Location: filepath.Join(src.Data, "inside")})
	src.TableDirs[9] = filepath.Join(src.Data, "inside")
	src.Snapshot = &restore.Snapshot{Label: []byte("the label of the record")}
	return src, arch, root
}

// TestSnapshotIsNobodyElses: nothing of the running server comes along, and no link
// leads back to it.
func TestSnapshotIsNobodyElses(t *testing.T) {
	src, arch, root := shown(t)
	dest := filepath.Join(root, "clone")
	plan, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: dest, Tablespaces: map[string]string{"inner": filepath.Join(dest, "in"), src.Info.Tablespaces[0].Name: filepath.Join(root, "ts")}}, arch)
	require.NoError(t, err)
	_, err = restore.Run(t.Context(), src, plan, restore.Options{Jobs: 2})
	require.NoError(t, err)
	var got []string
	require.NoError(t, filepath.WalkDir(dest, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got = append(got, strings.TrimPrefix(path, dest+"/"))
		}
		return err
	}))
	assert.Equal(t, []string{".barman-recover.info", "backup_label", "base/1/2", "global/pg_control", "in/PG_18_1/7", "pg_tblspc/16384", "pg_tblspc/9",
		"pg_wal/00000001000000000000000C", "pg_wal/archive_status/00000001000000000000000C.done", "postgresql.auto.conf", "postgresql.conf", "postgresql.conf.origin", "server.key"}, got)
	for name, want := range map[string]string{"backup_label": "the label of the record", "in/PG_18_1/7": "inner"} {
		text, err := os.ReadFile(filepath.Join(dest, name))
		require.NoError(t, err)
		assert.Equal(t, want, string(text))
	}
	for _, dir := range []string{"pg_wal", "pg_replslot", "pg_stat_tmp", "log", "pg_notify"} {
		st, err := os.Lstat(filepath.Join(dest, dir))
		require.NoError(t, err, dir)
		assert.True(t, st.IsDir(), dir)
	}
	to, err := os.Readlink(filepath.Join(dest, "pg_tblspc/9"))
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(dest, "in"), to)
}

// TestSnapshotWithALinkThatMisleads is refused, and leaves nothing.
func TestSnapshotWithALinkThatMisleads(t *testing.T) {
	for _, name := range []string{"pg_xact", "base/5", "global/pg_filenode.map"} {
		src, arch, root := shown(t)
		require.NoError(t, os.Symlink(filepath.Join(root, "of the source"), filepath.Join(src.Data, name)))
		dest := filepath.Join(root, "clone")
		plan, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: dest, Tablespaces: map[string]string{"inner": filepath.Join(dest, "in"), src.Info.Tablespaces[0].Name: filepath.Join(root, "ts")}}, arch)
		require.NoError(t, err)
		_, err = restore.Run(t.Context(), src, plan, restore.Options{Jobs: 2})
		assert.ErrorContains(t, err, filepath.Join(src.Data, name)+" is a link")
		assert.NoDirExists(t, dest)
	}
}
