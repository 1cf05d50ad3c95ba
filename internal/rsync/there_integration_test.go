//go:build integration

package rsync

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/ssh"
	"github.com/holdfast-pg/holdfast/internal/sshtest"
)

// over lets a job reach the cluster over ssh.
func over(t testing.TB, s *sshtest.Server) func(*Job) {
	t.Helper()
	return func(j *Job) {
		link, err := ssh.Open(t.Context(), s.Command(), j.Fence.Marker())
		require.NoError(t, err)
		t.Cleanup(link.Close)
		j.From = link
	}
}

// oddNames are of files that a shell, a line or a pattern would break.
var oddNames = []string{" leading and trailing ", "quo'te\"s", "new\nline", "-n", "--delete", "#hash", ";semicolon", "back\\slash", "gl*o[b]?", "bad\xffutf8", "ümlaut", "...", "$(id)", "`id`"}

func TestCopyOverSSH(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	root := cluster(t)
	for _, name := range oddNames {
		put(t, filepath.Join(clusterDir(root), "base", name), "content of "+name, old)
		put(t, filepath.Join(clusterDir(root), "base", "dir "+name, "file"), "below "+name, old)
	}
	require.NoError(t, os.Rename(filepath.Join(clusterDir(root), "PG_VERSION"), filepath.Join(root, "version")))
	require.NoError(t, os.Symlink(filepath.Join(root, "version"), filepath.Join(clusterDir(root), "PG_VERSION")))
	res, err := copyNow(t, task{Root: root, Attempt: 1}, over(t, s), func(j *Job) { j.Compress = true })
	require.NoError(t, err)
	require.NoError(t, os.Rename(filepath.Join(root, "version"), filepath.Join(clusterDir(root), "PG_VERSION")))
	whole(t, root)

	again, err := copyNow(t, task{Root: root, Attempt: 2}, over(t, s))
	require.NoError(t, err)
	assert.Equal(t, res.Files-2, again.Kept, "all but pg_control and the file that was a link")
	assert.Equal(t, int64(2), again.Sent)
	whole(t, root)

	require.NoError(t, os.Rename(backupDir(root), previousDir(root)))
	put(t, filepath.Join(clusterDir(root), "base/1/16384"), "changed", time.Now())
	linked, err := copyNow(t, task{Root: root, Attempt: 1, Reuse: ReuseLink, Horizon: time.Now()}, over(t, s))
	require.NoError(t, err)
	assert.Equal(t, res.Files-2, linked.Reused, "all but pg_control and what has changed")
	whole(t, root)
}

// TestPatternsInThePath: where the cluster lies is no pattern.
func TestPatternsInThePath(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	root := cluster(t)
	odd := filepath.Join(root, "o'd\"d [p]*th\\ ?")
	require.NoError(t, os.Rename(clusterDir(root), odd))
	// A pattern would find it.
	put(t, filepath.Join(root, "o'd\"d pXth\\ Y", "PG_VERSION"), "another cluster", old)
	_, err := copyNow(t, task{Root: root, Attempt: 1}, over(t, s), func(j *Job) {
		j.Trees[1].Source, j.Control.Source = odd, filepath.Join(odd, "global", "pg_control")
	})
	require.NoError(t, err)
	require.NoError(t, os.Rename(odd, clusterDir(root)))
	whole(t, root)
}

// TestBothSidesListTheSame: find and our own walk know the same files by the same
// identities.
func TestBothSidesListTheSame(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	dir := t.TempDir()
	for _, rel := range odd {
		put(t, filepath.Join(dir, rel), rel, old)
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "empty"), 0o711))
	require.NoError(t, os.Chmod(filepath.Join(dir, "PG_VERSION"), 0o4640))
	require.NoError(t, os.Symlink("base", filepath.Join(dir, "link")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	for _, tree := range []Tree{
		{Source: dir}, {Source: dir, Exclude: datadir.Exclusions}, {Source: dir, Only: "PG_*"},
		{Source: dir, Exclude: slices.Concat(datadir.DataExclusions, datadir.Exclusions, []string{datadir.Literal("in side"), datadir.Literal("space[1]*")})},
	} {
		job, err := newJob(t.Context(), task{Root: t.TempDir(), Attempt: 1})
		require.NoError(t, err)
		over(t, s)(&job)
		list := func(from source) map[string]datadir.Attributes {
			f, err := datadir.NewFilter(tree.Only, tree.Exclude)
			require.NoError(t, err)
			at, err := from.survey(t.Context(), tree, f)
			require.NoError(t, err)
			defer at.close()
			out := map[string]datadir.Attributes{}
			require.NoError(t, at.walk(t.Context(), func(dirs []datadir.Directory) error {
				for _, d := range dirs {
					// What is read changes nothing, but the size of a directory is its own business.
					out[d.Rel] = datadir.Attributes{Mode: d.Mode, Identity: datadir.Identity{Dev: d.Dev, Ino: d.Ino}}
				}
				return nil
			}, func(rel string, a datadir.Attributes) error { out[rel] = a; return nil }))
			for rel, want := range out {
				if a, ok := at.stat(rel); !ok || a.Ino != want.Ino || a.Mode != want.Mode {
					t.Errorf("%q is %v, %v by name and %v in the list", rel, a, ok, want)
				}
			}
			_, ok := at.stat("nowhere")
			assert.False(t, ok)
			return out
		}
		there := list(sourceOf(job))
		job.From = nil
		here := list(sourceOf(job))
		assert.Equal(t, here, there)
		assert.NotContains(t, slices.Collect(maps.Keys(here)), "pipe")
	}
}

// TestWhatIsUnreadableThereIsNamed: ssh leads to a user whom modes bind.
func TestWhatIsUnreadableThereIsNamed(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{As: pgtest.Credential(t)})
	for rel, text := range map[string]string{
		"base/1/16384": "permission denied", "base/1": "permission denied", "global/pg_control": "permission denied", "pg_twophase": "permission denied",
		"dangling": "no such file", "base/loop": "loop",
	} {
		t.Run(strings.ReplaceAll(rel, "/", ":"), func(t *testing.T) {
			top := pgtest.Dir(t)
			root := filepath.Join(top, "root")
			require.NoError(t, os.Rename(cluster(t), root))
			require.NoError(t, os.Symlink(filepath.Join(root, "nowhere"), filepath.Join(clusterDir(root), "dangling")))
			require.NoError(t, os.Symlink("..", filepath.Join(clusterDir(root), "base/loop")))
			for _, other := range []string{"dangling", "base/loop"} {
				if rel != other {
					require.NoError(t, os.Remove(filepath.Join(clusterDir(root), other)))
				}
			}
			if c := pgtest.Credential(t); c != nil {
				require.NoError(t, filepath.Walk(root, func(path string, _ os.FileInfo, err error) error {
					if err != nil {
						return err
					}
					return os.Lchown(path, int(c.Uid), int(c.Gid))
				}))
			}
			if text == "permission denied" {
				require.NoError(t, os.Chmod(filepath.Join(clusterDir(root), rel), 0))
			}
			_, err := copyNow(t, task{Root: root, Attempt: 1}, over(t, s))
			require.ErrorContains(t, err, text)
			assert.Contains(t, err.Error(), clusterDir(root))
			assert.NotEmpty(t, fault.HintOf(err))
			assert.NoFileExists(t, filepath.Join(backupDir(root), "holdfast/backup_manifest"))
		})
	}
}

// TestHostIsChecked: what a copy would miss is said before there is one.
func TestHostIsChecked(t *testing.T) {
	t.Parallel()
	root := cluster(t)
	check := func(s *sshtest.Server, pgdata string) error {
		link, err := ssh.Open(t.Context(), s.Command())
		require.NoError(t, err)
		defer link.Close()
		return CheckHost(t.Context(), link, pgdata)
	}
	s := sshtest.Start(t, sshtest.Options{})
	require.NoError(t, check(s, clusterDir(root)))
	err := check(s, filepath.Join(root, "nowhere"))
	require.ErrorContains(t, err, "pg_control")
	assert.Contains(t, fault.HintOf(err), "conninfo")

	few := filepath.Join(t.TempDir(), "few")
	require.NoError(t, os.Mkdir(few, 0o755))
	for _, name := range []string{"sh", "id", "find"} {
		require.NoError(t, os.Symlink(filepath.Join("/usr/bin", name), filepath.Join(few, name)))
	}
	err = check(sshtest.Start(t, sshtest.Options{Path: few}), clusterDir(root))
	require.ErrorContains(t, err, "not in PATH ("+few+")")
	assert.True(t, fault.Is(err, fault.Tool))

	if pgtest.Credential(t) != nil { // else every file of the test is ours
		err = check(sshtest.Start(t, sshtest.Options{As: pgtest.Credential(t)}), clusterDir(root))
		require.ErrorContains(t, err, "user postgres may not")
		assert.True(t, fault.Is(err, fault.Permission))
	}
}

// marked are the processes of a copy on the host of the cluster.
func marked(t *testing.T, root string) (out []string) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(t, err)
	for _, path := range paths {
		if env, err := os.ReadFile(path); err == nil && bytes.Contains(env, []byte(markOf("here", filepath.Join(backupDir(root), "holdfast")))) {
			out = append(out, path)
		}
	}
	return out
}

// inodes are those of the files that have arrived in a backup.
func inodes(t *testing.T, dir string) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() == "holdfast" {
			return filepath.SkipDir
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				out[path] = st.Ino
			}
		}
		return nil
	})
	return out
}

// TestCutLink: the same copy goes on, and sends nothing twice that was there.
func TestCutLink(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*testing.T, *sshtest.Server){
		"connections end": func(t *testing.T, s *sshtest.Server) { assert.Positive(t, s.Cut(t)) },
		// Both ends are left alone; the far one with an rsync that nobody reads from.
		"nothing comes through": func(t *testing.T, s *sshtest.Server) { assert.Positive(t, s.Freeze(t)) },
		"sshd is killed": func(t *testing.T, s *sshtest.Server) {
			s.Kill(t)
			time.Sleep(1500 * time.Millisecond) // longer than the copy waits before it asks again
			s.Up(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sshtest.Start(t, sshtest.Options{Config: []string{"ServerAliveInterval 1", "ServerAliveCountMax 1"}})
			root := cluster(t)
			put(t, filepath.Join(clusterDir(root), "base/1/large"), strings.Repeat("x", 8<<20), old)
			p := &Progress{}
			done := make(chan struct{})
			var before map[string]uint64
			go func() {
				defer close(done)
				for deadline := time.Now().Add(time.Minute); p.Files.Load() < 40; time.Sleep(5 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Error("nothing is copied")
						return
					}
				}
				before = inodes(t, backupDir(root))
				cut(t, s)
			}()
			// One of two processes is done with the tablespace while the other is in the middle of the large file.
			res, err := copyNow(t, task{Root: root, Attempt: 1, RateKB: 4000}, over(t, s), func(j *Job) { j.Progress = p })
			<-done
			require.NoError(t, err)
			assert.LessOrEqual(t, res.Sent, res.Files, "no file was sent twice")
			assert.GreaterOrEqual(t, len(before), 40)
			after := inodes(t, backupDir(root))
			for path, inode := range before {
				assert.Equal(t, inode, after[path], path)
			}
			whole(t, root)
			assert.Empty(t, marked(t, root))
		})
	}
}
