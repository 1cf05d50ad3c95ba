package rsync

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// asNobody runs a copying process as a user whom modes bind, and returns its
// exit code and what it says.
func asNobody(t *testing.T, root string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	binary := filepath.Join(root, "copy.test")
	in, err := os.Open(os.Args[0])
	require.NoError(t, err)
	defer in.Close()
	f, err := os.OpenFile(binary, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(f, in)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	cmd := start(t, task{Root: root, Attempt: 1}, func(c *exec.Cmd) {
		c.Stdout, c.Stderr, c.Path, c.Dir = &out, &out, binary, root
		if os.Getuid() == 0 {
			const nobody = 65534
			require.NoError(t, filepath.Walk(root, func(path string, _ os.FileInfo, err error) error {
				if err != nil {
					return err
				}
				return os.Lchown(path, nobody, nobody)
			}))
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
	})
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), out.String()
}

func TestWhatIsUnreadableIsNamed(t *testing.T) {
	for _, rel := range []string{"base/1/16384", "base/1", "global/pg_control", "pg_twophase"} {
		t.Run(strings.ReplaceAll(rel, "/", ":"), func(t *testing.T) {
			// What t.TempDir returns lies below a directory of ours alone.
			top, err := os.MkdirTemp("/tmp", "holdfast-rsync-*")
			require.NoError(t, err)
			t.Cleanup(func() { os.RemoveAll(top) })
			require.NoError(t, os.Chmod(top, 0o755))
			root := filepath.Join(top, "root")
			require.NoError(t, os.Rename(cluster(t), root))
			// The link of the tablespace names the old place.
			require.NoError(t, os.Remove(filepath.Join(clusterDir(root), "pg_tblspc/16500")))
			require.NoError(t, os.Chmod(filepath.Join(clusterDir(root), rel), 0))
			code, out := asNobody(t, root)
			assert.Equal(t, 1, code, out)
			assert.Contains(t, out, filepath.Join(clusterDir(root), rel))
			assert.Contains(t, out, "permission denied")
			assert.NoFileExists(t, filepath.Join(backupDir(root), "holdfast/backup_manifest"))
		})
	}
}

func TestFullDisk(t *testing.T) {
	root := cluster(t)
	base := filepath.Dir(backupDir(root))
	require.NoError(t, os.MkdirAll(base, 0o700))
	require.NoError(t, unix.Mount("tmpfs", base, "tmpfs", 0, "size=16m"), "this test needs to be root")
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(base, unix.MNT_DETACH)) })
	for i, rel := range []string{"base/1/a", "base/1/b", "base/1/c"} {
		path := filepath.Join(clusterDir(root), rel)
		put(t, path, strings.Repeat("x", (7+i)<<20), old)
	}
	_, err := copyNow(t, task{Root: root, Attempt: 1})
	require.Error(t, err)
	assert.True(t, fault.Is(err, fault.Disk), "%v", err)
	assert.Contains(t, err.Error(), backupDir(root))
	assert.Regexp(t, `\d{7,} bytes are still to be copied, \d+ bytes are free`, err.Error())
	assert.Contains(t, fault.HintOf(err), "free space")
	assert.NoFileExists(t, filepath.Join(backupDir(root), "holdfast/backup_manifest"))

	require.NoError(t, unix.Mount("tmpfs", base, "tmpfs", unix.MS_REMOUNT, "size=64m"))
	_, err = copyNow(t, task{Root: root, Attempt: 2})
	require.NoError(t, err)
	whole(t, root)
}

// rsyncDoing puts a program before rsync.
func rsyncDoing(t *testing.T, script string) func(*Job) {
	return func(j *Job) {
		path := filepath.Join(t.TempDir(), "rsync")
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+strings.ReplaceAll(script, "RSYNC", j.Program)+"\n"), 0o755))
		j.Program = path
	}
}

func TestVanishedFiles(t *testing.T) {
	for name, when := range map[string]string{
		"before rsync looks": `rm -f DATA/base/1/16384; rm -rf DATA/base/1/dir; exec RSYNC "$@"`,
		// Rsync has listed the file when it waits for the reading end.
		"while rsync runs": `RSYNC "$@"; code=$?; rm -rf DATA/base/1/16384 DATA/base/1/dir DEST/base/1/16384 DEST/base/1/dir/file; [ $code = 0 ] && exit 24; exit $code`,
	} {
		t.Run(name, func(t *testing.T) {
			root := cluster(t)
			d := clusterDir(root)
			put(t, filepath.Join(d, "base/1/dir/file"), "x", old)
			script := strings.NewReplacer("DATA", d, "DEST", filepath.Join(backupDir(root), "data")).Replace(when)
			res, err := copyNow(t, task{Root: root, Attempt: 1}, rsyncDoing(t, script))
			require.NoError(t, err)
			assert.Equal(t, int64(2+1+39+40), res.Files)
			require.NoError(t, os.MkdirAll(filepath.Join(d, "base/1/dir"), 0o700), "a directory that vanished is an empty one")
			whole(t, root)
		})
	}
}

func TestFailingRsync(t *testing.T) {
	root := cluster(t)
	// Exit code 23 without a reason that can be seen is a failure.
	half := `RSYNC "$@" >/dev/null; rm -f DEST/base/1/16384; echo 'rsync: [sender] read errors mapping "x": Input/output error (5)' >&2; exit 23`
	half = strings.ReplaceAll(half, "DEST", filepath.Join(backupDir(root), "data"))
	_, err := copyNow(t, task{Root: root, Attempt: 1}, rsyncDoing(t, half))
	require.Error(t, err)
	assert.True(t, fault.Is(err, fault.Tool), "%v", err)
	assert.Contains(t, err.Error(), filepath.Join(clusterDir(root), "base/1/16384"))
	assert.Contains(t, err.Error(), "Input/output error")

	// It fails once, and then works: what is there already is not sent again.
	flag := filepath.Join(t.TempDir(), "failed")
	once := `if [ -e FLAG ]; then exec RSYNC "$@"; fi; touch FLAG; ` + half
	_, err = copyNow(t, task{Root: root, Attempt: 2}, rsyncDoing(t, strings.ReplaceAll(once, "FLAG", flag)), func(j *Job) {
		j.Jobs, j.RetryTimes, j.RetrySleep = 1, 1, 10*time.Millisecond
	})
	require.NoError(t, err)
	whole(t, root)

	_, err = copyNow(t, task{Root: root, Attempt: 3}, rsyncDoing(t, `kill -9 $$`))
	assert.True(t, fault.Is(err, fault.Crashed), "%v", err)
	_, err = copyNow(t, task{Root: root, Attempt: 4}, func(j *Job) { j.Program = "/nowhere/rsync" })
	assert.True(t, fault.Is(err, fault.Tool) || fault.Is(err, fault.NotFound), "%v", err)
}
