package volumes

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

func put(t testing.TB, path, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
}

func paths(files []File) []string {
	out := []string{}
	for _, f := range files {
		out = append(out, f.Path)
	}
	return out
}

// odd are names that a line, a shell, a number or an encoding would break.
var odd = []string{"new\nline", "quo'te\"", `back\slash`, "bad\xff\xfe", "ünï", " spaced ", "-dash", "a=b", "12 path=x"}

func TestList(t *testing.T) {
	top := t.TempDir()
	data, outer, wal := filepath.Join(top, "data"), filepath.Join(top, "outer"), filepath.Join(top, "wal")
	for _, rel := range []string{
		"PG_VERSION", "base/5/1", "base/5/1.1", "base/5/t3_16384", "base/5/7", "base/5/7_init", "base/pgsql_tmp/pgsql_tmp1.0", "global/pg_control", "global/1262",
		"global/pg_internal.init", "postmaster.pid", "postmaster.opts", "log/a/b", "pg_replslot/s/state", "pg_stat_tmp/x", "pg_notify/0", "pg_subtrans/0",
		"pg_serial/0", "pg_snapshots/0", "pg_dynshmem/0", "backup_label", "backup_label.old", "tablespace_map", "pg_xact/0000", "pg_hba.conf",
		"in side[1]/PG_15_202209061/5/9", "pg_tblspc/README", "standby.signal", "recovery.signal", "postgresql.auto.conf", "postgresql.auto.conf.tmp",
	} {
		put(t, filepath.Join(data, rel), rel)
	}
	for _, name := range odd {
		put(t, filepath.Join(data, "odd", name), name)
	}
	put(t, filepath.Join(wal, "000000010000000000000001"), "wal")
	for _, rel := range []string{"PG_15_202209061/5/9", "PG_15_202209061/5/t1_9", "PG_15_202209061/pgsql_tmp/x", "PG_14_1/5/9", "PG_15_202209062/5/9", "stray"} {
		put(t, filepath.Join(outer, rel), rel)
	}
	require.NoError(t, os.Mkdir(filepath.Join(top, "empty"), 0o700))
	require.NoError(t, os.Symlink(wal, filepath.Join(data, "pg_wal")))
	require.NoError(t, os.Symlink(outer, filepath.Join(data, "pg_tblspc/17001")))
	require.NoError(t, os.Symlink(data, filepath.Join(top, "link")))

	trees, err := List(t.Context(), Cluster{DataDir: filepath.Join(top, "link"), Major: 15, CatalogVersion: 202209061, Replaced: []string{"pg_hba.conf"},
		Tablespaces: []Tablespace{{17003, filepath.Join(top, "empty")}, {17002, filepath.Join(data, "in side[1]")}, {17001, outer}}})
	require.NoError(t, err)
	require.Len(t, trees, 4)

	main := trees[0]
	assert.Equal(t, DataTree, main.Name)
	assert.Equal(t, data, main.Root)
	want := []string{"PG_VERSION", "backup_label.old", "base/5/1", "base/5/1.1", "base/5/7_init", "global/1262", "pg_xact/0000", "postgresql.auto.conf", "recovery.signal"}
	for _, name := range odd {
		want = append(want, "odd/"+name)
	}
	slices.Sort(want)
	assert.Equal(t, want, paths(main.Files))
	assert.Equal(t, []string{"base", "base/5", "global", "log", "odd", "pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp",
		"pg_subtrans", "pg_tblspc", "pg_wal", "pg_xact"}, main.Dirs)
	assert.Equal(t, []string{"pg_wal"}, main.Links)
	assert.Equal(t, int64(len("base/5/1.1")), main.Files[slices.Index(want, "base/5/1.1")].Size)

	assert.Equal(t, "17001", trees[1].Name)
	assert.Equal(t, []string{"PG_15_202209061/5/9"}, paths(trees[1].Files))
	assert.Equal(t, []string{"PG_15_202209061", "PG_15_202209061/5"}, trees[1].Dirs)
	assert.Equal(t, []string{"PG_15_202209061/5/9"}, paths(trees[2].Files), "one inside of the data directory")
	assert.Equal(t, Tree{Name: "17003", Root: filepath.Join(top, "empty")}, trees[3])
	assert.Equal(t, int64(len("PG_15_202209061/5/9")), trees[1].Size())
}

func TestWhatIsUnreadableIsNamed(t *testing.T) {
	top := sharedDir(t)
	data := filepath.Join(top, "data")
	put(t, filepath.Join(data, "base/5/1"), "x")
	require.NoError(t, os.Chmod(data, 0o755))
	require.NoError(t, os.Chmod(filepath.Join(data, "base"), 0o755))
	require.NoError(t, os.Chmod(filepath.Join(data, "base/5"), 0o700))
	var listErr, readErr error
	asNobody(t, func() { _, listErr = List(t.Context(), Cluster{DataDir: data, Major: 15}) })
	if os.Getuid() == 0 {
		require.NoError(t, os.Chmod(filepath.Join(data, "base/5"), 0o755))
	}
	require.NoError(t, os.Chmod(filepath.Join(data, "base/5/1"), 0))
	asNobody(t, func() {
		_, readErr = (&Reader{Buffers: NewBuffers(2)}).Volume(t.Context(), data, Volume{Tree: DataTree, Files: []File{{"base/5/1", 1}}}, func(s Segment) error {
			s.Release()
			return nil
		})
	})
	if os.Getuid() == 0 {
		assert.ErrorContains(t, listErr, "base/5")
		assert.True(t, fault.Is(listErr, fault.Permission), "%v", listErr)
	}
	assert.ErrorContains(t, readErr, "base/5/1")
	assert.True(t, fault.Is(readErr, fault.Permission), "%v", readErr)
	assert.NotEmpty(t, fault.HintOf(readErr))

	_, err := List(t.Context(), Cluster{DataDir: data, Major: 15, Tablespaces: []Tablespace{{1, filepath.Join(top, "nowhere")}}})
	assert.ErrorContains(t, err, filepath.Join(top, "nowhere"))
}

// sharedDir is a directory that every user can enter.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "holdfast-volumes-*")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// asNobody runs f as a user whom modes bind.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and the thread ends with the goroutine
		const nobody = 65534
		assert.NoError(t, unix.Setfsgid(nobody))
		assert.NoError(t, unix.Setfsuid(nobody))
		f()
	}()
	<-done
}
