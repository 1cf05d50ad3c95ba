package rsync

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fence"
)

// recorded counts the files in the journal of a backup.
func recorded(t *testing.T, root string) int64 {
	t.Helper()
	f, err := os.Open(filepath.Join(backupDir(root), "holdfast/journal"))
	if os.IsNotExist(err) {
		return 0
	}
	require.NoError(t, err)
	defer f.Close()
	paths := map[string]bool{}
	_, err = readFrames(f, func(_ int64, kind byte, content []byte) error {
		if kind != fileFrame {
			return nil
		}
		rec, err := decodeRecord(content)
		paths[rec.Path] = true
		return err
	})
	require.NoError(t, err)
	return int64(len(paths))
}

// grow adds small files, enough for several batches.
func grow(t *testing.T, root string, files int) {
	t.Helper()
	for i := range files {
		put(t, filepath.Join(clusterDir(root), "base", fmt.Sprint(i%7), fmt.Sprint(100000+i)), fmt.Sprint("more ", i), old)
	}
}

func TestKilledAndResumed(t *testing.T) {
	for name, perAttempt := range map[string]int{"same attempt": 0, "next attempt": 1} {
		if testing.Short() && perAttempt == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			root := cluster(t)
			grow(t, root, 2500)
			// The limit makes batches small.
			const rate = 100
			attempt, activity := 1, 1
			for kill := range 3 {
				before := recorded(t, root)
				cmd := start(t, task{Root: root, Attempt: attempt, Activity: activity, RateKB: rate}, nil)
				if kill > 0 {
					require.Eventually(t, func() bool { return recorded(t, root) != before }, 20*time.Second, time.Millisecond)
				}
				time.Sleep(time.Duration(rand.IntN(80)) * time.Millisecond)
				require.NoError(t, cmd.Process.Kill())
				_ = cmd.Wait()
				attempt, activity = attempt+perAttempt, activity+1
			}
			before := recorded(t, root)
			res, err := copyNow(t, task{Root: root, Attempt: attempt, Activity: activity})
			require.NoError(t, err)
			whole(t, root)
			assert.GreaterOrEqual(t, before, int64(3))
			assert.Less(t, before, res.Files-1, "the kills came in the middle")
			assert.Equal(t, before, res.Kept, "what was recorded stays")
			assert.Equal(t, res.Files-before, res.Sent, "and rsync sends the rest alone")
			left, err := fence.Marked(filepath.Join(backupDir(root), "holdfast"))
			require.NoError(t, err)
			assert.Empty(t, left)
		})
	}
}

func TestChangesBetweenAttempts(t *testing.T) {
	root := cluster(t)
	d, data := clusterDir(root), filepath.Join(backupDir(root), "data")
	put(t, filepath.Join(d, "base/9/1"), "a database that is dropped", old)
	fresh := filepath.Join(d, "base/1/fresh")
	first, err := copyNow(t, task{Root: root, Attempt: 1})
	require.NoError(t, err)
	require.Zero(t, first.Kept)

	// Same size and modification time: only the change time tells.
	put(t, filepath.Join(d, "base/1/16384"), "RELATION 0", old)
	// Another file of the same content, size and time under the same name.
	put(t, filepath.Join(d, "base/1/other"), "relation 1", old)
	require.NoError(t, os.Rename(filepath.Join(d, "base/1/other"), filepath.Join(d, "base/1/16385")))
	require.NoError(t, os.RemoveAll(filepath.Join(d, "base/9")))
	require.NoError(t, os.Remove(filepath.Join(d, "base/1/16386")))
	put(t, fresh, "new", time.Now())
	// What a killed rsync, or somebody else, left at the destination.
	put(t, filepath.Join(data, "base/1/.16387.AbCdEf"), "half", old)
	put(t, filepath.Join(data, "base/1/16388"), "relation 4, but damaged", old)
	require.NoError(t, os.MkdirAll(filepath.Join(data, "base/10/deep/er"), 0o700))

	second, err := copyNow(t, task{Root: root, Attempt: 2})
	require.NoError(t, err)
	whole(t, root)
	assert.Equal(t, int64(5), second.Sent, "two changed, one new, one damaged, and pg_control")
	assert.Equal(t, second.Files-5, second.Kept)

	third, err := copyNow(t, task{Root: root, Attempt: 2, Activity: 1})
	require.NoError(t, err)
	assert.Equal(t, int64(1), third.Sent, "the same attempt sends nothing but pg_control again")
	fourth, err := copyNow(t, task{Root: root, Attempt: 3})
	require.NoError(t, err)
	assert.Equal(t, int64(2), fourth.Sent, "the next one sends what had changed just before it was read")
	for _, other := range []func(*Job){func(j *Job) { j.Boot = "another boot" }, func(j *Job) { j.Host = "another host" }} {
		res, err := copyNow(t, task{Root: root, Attempt: 4}, other)
		require.NoError(t, err)
		assert.Zero(t, res.Kept)
	}
	whole(t, root)
}

func TestWhenARecordCounts(t *testing.T) {
	read := time.Unix(1000, 0)
	at := func(before time.Duration) int64 { return read.Add(-before).UnixNano() }
	rec := func(mtime int64) record {
		return record{Source: datadir.Identity{Dev: 1, Ino: 2, Size: 3, Mtime: mtime, Change: mtime}}
	}
	by := run{Attempt: 1, Listed: read}
	for name, tc := range map[string]struct {
		rec     record
		change  func(*datadir.Identity)
		attempt int
		want    bool
	}{
		"unchanged":                       {rec(at(time.Hour)), func(*datadir.Identity) {}, 2, true},
		"exactly two seconds":             {rec(at(2 * time.Second)), func(*datadir.Identity) {}, 2, true},
		"a nanosecond less":               {rec(at(2*time.Second - 1)), func(*datadir.Identity) {}, 2, false},
		"a nanosecond less, same attempt": {rec(at(2*time.Second - 1)), func(*datadir.Identity) {}, 1, true},
		"in the future":                   {rec(at(-time.Hour)), func(*datadir.Identity) {}, 2, false},
		"other device":                    {rec(at(time.Hour)), func(i *datadir.Identity) { i.Dev++ }, 2, false},
		"other inode":                     {rec(at(time.Hour)), func(i *datadir.Identity) { i.Ino++ }, 2, false},
		"other size":                      {rec(at(time.Hour)), func(i *datadir.Identity) { i.Size++ }, 2, false},
		"modified":                        {rec(at(time.Hour)), func(i *datadir.Identity) { i.Mtime++ }, 2, false},
		"changed":                         {rec(at(time.Hour)), func(i *datadir.Identity) { i.Change++ }, 2, false},
		"changed in the same attempt":     {rec(at(time.Hour)), func(i *datadir.Identity) { i.Change++ }, 1, false},
	} {
		now := tc.rec.Source
		tc.change(&now)
		assert.Equal(t, tc.want, tc.rec.counts(by, now, tc.attempt), name)
	}
}

func TestTornJournal(t *testing.T) {
	root := cluster(t)
	_, err := copyNow(t, task{Root: root, Attempt: 1})
	require.NoError(t, err)
	path := filepath.Join(backupDir(root), "holdfast/journal")
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, damage := range []func([]byte) []byte{
		func(b []byte) []byte { return b[:len(b)-3] },
		func(b []byte) []byte { b[len(b)-3] ^= 1; return b },
		func(b []byte) []byte { return append(b, "\xff\xff\xff\xff garbage"...) },
		func(b []byte) []byte { return append(b, make([]byte, 100)...) },
		func([]byte) []byte { return nil },
		func([]byte) []byte { return []byte("no journal") },
	} {
		require.NoError(t, os.WriteFile(path, damage(bytes.Clone(whole)), 0o600))
		kept := recorded(t, root)
		res, err := copyNow(t, task{Root: root, Attempt: 2})
		require.NoError(t, err)
		assert.Equal(t, kept, res.Kept)
		assert.Equal(t, res.Files-kept, res.Sent)
	}
}

// slow is a rate at which the file that it adds takes two seconds.
func slow(t *testing.T, root string) (rateKB int) {
	t.Helper()
	put(t, filepath.Join(clusterDir(root), "base/1/big"), strings.Repeat("large", 1<<20), old)
	return 5 << 10
}

// children waits for processes that write for the backup.
func children(t *testing.T, root string) []int {
	t.Helper()
	var out []int
	require.Eventually(t, func() bool {
		marked, err := fence.Marked(filepath.Join(backupDir(root), "holdfast"))
		out = nil
		for pid := range marked {
			out = append(out, pid)
		}
		return err == nil && len(out) >= 3
	}, 20*time.Second, time.Millisecond)
	return out
}

func TestKilledRsyncIsStartedAgain(t *testing.T) {
	root := cluster(t)
	rate := slow(t, root)
	var out bytes.Buffer
	cmd := start(t, task{Root: root, Attempt: 1, RateKB: rate}, func(c *exec.Cmd) { c.Stdout, c.Stderr = &out, os.Stderr })
	// All processes of every rsync: nobody is left to clear up.
	for _, pid := range children(t, root) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	require.NoError(t, cmd.Wait())
	require.NoError(t, filepath.WalkDir(backupDir(root), func(path string, _ os.DirEntry, err error) error {
		if strings.HasPrefix(filepath.Base(path), ".") {
			t.Errorf("left behind: %s", path)
		}
		return err
	}))
	var res Result
	require.NoError(t, json.Unmarshal(out.Bytes(), &res))
	whole(t, root)
}

func TestWokenZombieChangesNothing(t *testing.T) {
	root := cluster(t)
	zombie := start(t, task{Root: root, Attempt: 1, RateKB: slow(t, root)}, nil)
	children(t, root)
	require.NoError(t, zombie.Process.Signal(unix.SIGSTOP))
	_, err := copyNow(t, task{Root: root, Attempt: 2})
	require.NoError(t, err)
	before := content(t, backupDir(root))
	require.NoError(t, zombie.Process.Signal(unix.SIGCONT))
	assert.Error(t, zombie.Wait())
	assert.Equal(t, before, content(t, backupDir(root)))
	whole(t, root)
}
