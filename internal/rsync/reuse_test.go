package rsync

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
)

// previous makes a backup and calls it the previous one. It returns when that began.
func previous(t *testing.T, root string) time.Time {
	t.Helper()
	began := time.Now()
	_, err := copyNow(t, task{Root: root, Attempt: 1})
	require.NoError(t, err)
	require.NoError(t, os.Rename(backupDir(root), previousDir(root)))
	return began
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	st, err := os.Stat(path)
	require.NoError(t, err)
	sys, _ := st.Sys().(*syscall.Stat_t)
	return sys.Ino
}

func TestReuse(t *testing.T) {
	for _, how := range []Reuse{ReuseOff, ReuseCopy, ReuseLink} {
		for _, withManifest := range []bool{true, false} {
			t.Run(string(how), func(t *testing.T) {
				root := cluster(t)
				base := filepath.Join(clusterDir(root), "base/1")
				late := time.Now().Add(time.Minute)
				put(t, filepath.Join(base, "doubtful"), "the same", late)
				put(t, filepath.Join(base, "deceitful"), "one text", late)
				began := previous(t, root)
				if !withManifest {
					require.NoError(t, os.RemoveAll(filepath.Join(previousDir(root), "holdfast")))
				}
				put(t, filepath.Join(base, "deceitful"), "another.", late)
				put(t, filepath.Join(base, "16384"), "changed", time.Now())
				put(t, filepath.Join(base, "new"), "new", old)
				require.NoError(t, os.Chmod(filepath.Join(base, "16385"), 0o640))
				require.NoError(t, os.Remove(filepath.Join(base, "16386")))
				require.NoError(t, os.Remove(filepath.Join(previousDir(root), "data/base/1/16387")))
				before := content(t, previousDir(root))

				res, err := copyNow(t, task{Root: root, Attempt: 1, Reuse: how, Horizon: began})
				require.NoError(t, err)
				whole(t, root)
				assert.Equal(t, before, content(t, previousDir(root)))
				now, prev := filepath.Join(backupDir(root), "data/base/1"), filepath.Join(previousDir(root), "data/base/1")
				st, err := os.Stat(filepath.Join(now, "16390"))
				require.NoError(t, err)
				assert.True(t, st.ModTime().Equal(old))
				assert.Equal(t, os.FileMode(0o600), st.Mode())
				switch how {
				case ReuseOff:
					assert.Equal(t, res.Files, res.Sent)
				case ReuseCopy:
					assert.Equal(t, res.Bytes, res.DedupBytes)
					assert.NotEqual(t, inode(t, filepath.Join(prev, "16390")), inode(t, filepath.Join(now, "16390")))
				case ReuseLink:
					assert.Less(t, res.DedupBytes, res.Bytes)
					for _, name := range []string{"16390", "doubtful", "empty"} {
						assert.Equal(t, inode(t, filepath.Join(prev, name)), inode(t, filepath.Join(now, name)), name)
					}
					for _, name := range []string{"16384", "16385", "deceitful"} {
						assert.NotEqual(t, inode(t, filepath.Join(prev, name)), inode(t, filepath.Join(now, name)), name)
					}
				}
				if how != ReuseOff {
					assert.Equal(t, int64(6), res.Sent, "changed, new, other mode, deceitful, missing in the previous backup, pg_control")
					assert.Equal(t, res.Files-7, res.Reused, "all but those and the doubtful one")
				}
			})
		}
	}
}

func TestOlderBackupNeverChanges(t *testing.T) {
	root := cluster(t)
	began := previous(t, root)
	before := content(t, previousDir(root))
	rel := filepath.Join(clusterDir(root), "base/1/16384")
	for attempt := 1; attempt <= 4; attempt++ {
		// The session is lost after everything was linked; then the server writes
		// into a linked file, with and without a new time, and truncates another.
		_, err := copyNow(t, task{Root: root, Attempt: attempt, Reuse: ReuseLink, Horizon: began})
		require.NoError(t, err)
		whole(t, root)
		require.Equal(t, before, content(t, previousDir(root)))
		f, err := os.OpenFile(rel, os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteString(string(rune('A' + attempt)))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.NoError(t, os.Truncate(filepath.Join(clusterDir(root), "base/1/16390"), int64(attempt)))
	}
	assert.Equal(t, before, content(t, previousDir(root)))
}

func TestClassify(t *testing.T) {
	begun := time.Unix(1000, 0)
	file := func(mtime time.Time) unix.Stat_t {
		return unix.Stat_t{Mode: unix.S_IFREG | 0o600, Size: 5, Mtim: unix.NsecToTimespec(mtime.UnixNano())}
	}
	at := begun.Add(-2 * time.Second)
	for name, tc := range map[string]struct {
		mtime  time.Time
		change func(*unix.Stat_t)
		want   class
	}{
		"settled":            {at, func(*unix.Stat_t) {}, reuse},
		"doubtful":           {at.Add(1), func(*unix.Stat_t) {}, check},
		"later":              {begun.Add(time.Hour), func(*unix.Stat_t) {}, check},
		"other size":         {at, func(s *unix.Stat_t) { s.Size++ }, send},
		"a nanosecond later": {at, func(s *unix.Stat_t) { s.Mtim.Nsec++ }, send},
		"other mode":         {at, func(s *unix.Stat_t) { s.Mode |= 0o040 }, send},
		"not a file":         {at, func(s *unix.Stat_t) { s.Mode = unix.S_IFLNK | 0o600 }, send},
	} {
		now, prev := file(tc.mtime), file(tc.mtime)
		tc.change(&prev)
		assert.Equal(t, tc.want, classify(datadir.AttributesOf(&now), datadir.AttributesOf(&prev), begun), name)
	}
}
