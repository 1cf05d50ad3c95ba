package rsync

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
)

// content maps the files below a directory to what they hold.
func content(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			out[rel] = fmt.Sprintf("%x", sha256.Sum256(b))
			return err
		}
		out[rel] = d.Type().String()
		return nil
	}))
	return out
}

// whole requires that a backup is the cluster, and its manifest right.
func whole(t testing.TB, root string) {
	t.Helper()
	b := backupDir(root)
	want := content(t, clusterDir(root))
	delete(want, "pg_tblspc/16500")
	for rel := range want {
		if strings.HasPrefix(rel, "pg_wal/") {
			delete(want, rel)
		}
	}
	require.Equal(t, want, content(t, filepath.Join(b, "data")))
	require.Equal(t, content(t, filepath.Join(tablespaceDir(root), "PG_15_202209061")), content(t, filepath.Join(b, "16500", "PG_15_202209061")))
	require.Equal(t, []string{"PG_15_202209061"}, namesIn(t, filepath.Join(b, "16500")))
	report, err := manifest.Verify(t.Context(), filepath.Join(b, "holdfast", "backup_manifest"),
		manifest.Dirs{Data: filepath.Join(b, "data"), Tablespaces: map[uint32]string{16500: filepath.Join(b, "16500")}}, manifest.Options{Jobs: 2})
	require.NoError(t, err)
	require.NoError(t, report.Err(""))
}

func namesIn(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestCopy(t *testing.T) {
	root := cluster(t)
	sparse := filepath.Join(clusterDir(root), "base/1/sparse")
	put(t, sparse, "", old)
	require.NoError(t, os.Truncate(sparse, 100<<20))
	require.NoError(t, os.Chtimes(sparse, old, old))
	for _, name := range []string{" leading and trailing ", "quo'te\"s", "new\nline", "-n", "--delete", "#hash", ";semicolon", "back\\slash", "gl*o[b]?", "bad\xffutf8", "ümlaut", "..."} {
		put(t, filepath.Join(clusterDir(root), "base", name), "content of "+name, old)
	}
	require.NoError(t, os.Chmod(filepath.Join(clusterDir(root), "PG_VERSION"), 0o640))

	res, err := copyNow(t, task{Root: root, Attempt: 1})
	require.NoError(t, err)
	whole(t, root)
	files := int64(2 + 1 + 40 + 40 + 1 + 12)
	assert.Equal(t, files, res.Files)
	assert.Equal(t, files, res.Sent)
	assert.Equal(t, files, res.Manifest.Files)
	assert.Equal(t, res.Bytes, res.DedupBytes)
	assert.Equal(t, res.Bytes, res.Manifest.Bytes)
	assert.Zero(t, res.Kept)
	st, err := os.Stat(filepath.Join(backupDir(root), "data/PG_VERSION"))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o640), st.Mode())
	assert.True(t, st.ModTime().Equal(old), "times are kept to the nanosecond: %s", st.ModTime())
	for _, dir := range []string{"data", "16500"} {
		st, err := os.Stat(filepath.Join(backupDir(root), dir))
		require.NoError(t, err)
		assert.Equal(t, fs.FileMode(0o700), st.Mode().Perm())
	}
	assert.Equal(t, []string{"backup_manifest", "child.lock", "claim.json", "claim.lock", "journal", "write.lock"}, namesIn(t, filepath.Join(backupDir(root), "holdfast")))
}

func TestLinksAreFollowed(t *testing.T) {
	root := cluster(t)
	d := clusterDir(root)
	elsewhere := t.TempDir()
	put(t, filepath.Join(elsewhere, "segment"), "WAL", old)
	put(t, filepath.Join(elsewhere, "db/1"), "a database elsewhere", old)
	put(t, filepath.Join(elsewhere, "server.key"), "secret", old)
	require.NoError(t, os.RemoveAll(filepath.Join(d, "pg_wal")))
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(d, "pg_wal")))
	require.NoError(t, os.Symlink(filepath.Join(elsewhere, "db"), filepath.Join(d, "base/5")))
	require.NoError(t, os.Symlink(filepath.Join(elsewhere, "server.key"), filepath.Join(d, "server.key")))
	_, err := copyNow(t, task{Root: root, Attempt: 1})
	require.NoError(t, err)
	data := filepath.Join(backupDir(root), "data")
	assert.Empty(t, namesIn(t, filepath.Join(data, "pg_wal")))
	assert.Empty(t, namesIn(t, filepath.Join(data, "pg_tblspc")))
	b, err := os.ReadFile(filepath.Join(data, "base/5/1"))
	require.NoError(t, err)
	assert.Equal(t, "a database elsewhere", string(b))
	st, err := os.Lstat(filepath.Join(data, "server.key"))
	require.NoError(t, err)
	assert.True(t, st.Mode().IsRegular())
}

func TestWhatCannotBeRead(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, root string)
		kind  fault.Kind
		names string
	}{
		"link to nothing": {func(t *testing.T, root string) {
			require.NoError(t, os.Symlink("/nowhere/at/all", filepath.Join(clusterDir(root), "base/77")))
		}, fault.NotFound, "base/77"},
		"link to a directory above": {func(t *testing.T, root string) {
			require.NoError(t, os.Symlink("..", filepath.Join(clusterDir(root), "base/77")))
		}, fault.Refused, "base/77"},
		"tablespace is gone": {func(t *testing.T, root string) {
			require.NoError(t, os.RemoveAll(tablespaceDir(root)))
		}, fault.NotFound, "/space"},
		"no pg_control": {func(t *testing.T, root string) {
			require.NoError(t, os.Remove(filepath.Join(clusterDir(root), "global/pg_control")))
		}, fault.NotFound, "global/pg_control"},
		"another cluster's pg_control": {func(t *testing.T, root string) {
			put(t, filepath.Join(clusterDir(root), "global/pg_control"), string(control(42)), old)
		}, fault.Refused, "global/pg_control"},
	} {
		t.Run(name, func(t *testing.T) {
			root := cluster(t)
			tc.spoil(t, root)
			_, err := copyNow(t, task{Root: root, Attempt: 1})
			require.Error(t, err)
			assert.Equal(t, tc.kind, fault.KindOf(err), "%v", err)
			assert.Contains(t, err.Error(), tc.names)
			assert.NotEmpty(t, fault.HintOf(err))
			assert.NoFileExists(t, filepath.Join(backupDir(root), "holdfast/backup_manifest"))
		})
	}
}

func TestPgControlIsCopiedUntilItIsWhole(t *testing.T) {
	root := cluster(t)
	path := filepath.Join(clusterDir(root), "global/pg_control")
	whole := control(testSystem)
	torn := append([]byte{}, whole...)
	torn[100] = 1
	require.NoError(t, os.WriteFile(path, torn, 0o600))
	done := make(chan error)
	go func() {
		for {
			// It is mended once the first copy of it has arrived.
			if b, err := os.ReadFile(filepath.Join(backupDir(root), "data/global/pg_control")); err == nil && len(b) == len(torn) {
				done <- os.WriteFile(path, whole, 0o600)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	_, err := copyNow(t, task{Root: root, Attempt: 1})
	require.NoError(t, err)
	require.NoError(t, <-done)
	b, err := os.ReadFile(filepath.Join(backupDir(root), "data/global/pg_control"))
	require.NoError(t, err)
	assert.Equal(t, whole, b)
}

func TestSingles(t *testing.T) {
	root := cluster(t)
	etc := t.TempDir()
	put(t, filepath.Join(etc, "postgresql.conf"), "real", old)
	put(t, filepath.Join(clusterDir(root), "postgresql.conf"), "a leftover in the data directory", old)
	data := filepath.Join(backupDir(root), "data")
	singles := func(j *Job) {
		j.Singles = []Single{
			{Source: filepath.Join(etc, "postgresql.conf"), Dest: filepath.Join(data, "postgresql.conf"), Path: "postgresql.conf"},
			{Source: filepath.Join(etc, "pg_ident.conf"), Dest: filepath.Join(data, "pg_ident.conf"), Path: "pg_ident.conf", Optional: true},
		}
		j.Trees[1].Exclude = append(j.Trees[1].Exclude, datadir.Literal("postgresql.conf"))
	}
	for attempt := 1; attempt <= 2; attempt++ {
		_, err := copyNow(t, task{Root: root, Attempt: attempt}, singles)
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(data, "postgresql.conf"))
		require.NoError(t, err)
		assert.Equal(t, "real", string(b))
		assert.NoFileExists(t, filepath.Join(data, "pg_ident.conf"))
	}
	_, err := copyNow(t, task{Root: root, Attempt: 3}, singles, func(j *Job) { j.Singles[1].Optional = false })
	assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
	assert.ErrorContains(t, err, "pg_ident.conf")
}
