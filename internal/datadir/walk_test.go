package datadir_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

func put(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, nil, 0o644))
}

type walked struct{ dirs, files, links []string }

func walk(w datadir.Walk) (out walked, err error) {
	w.Dirs = func(dirs []datadir.Directory) error {
		for _, d := range dirs {
			out.dirs = append(out.dirs, d.Rel)
		}
		return nil
	}
	w.File = func(rel string, _ datadir.Attributes) error {
		out.files = append(out.files, rel)
		return nil
	}
	w.Link = func(rel string) { out.links = append(out.links, rel) }
	err = w.Run(context.Background())
	for _, list := range [][]string{out.dirs, out.files, out.links} {
		slices.Sort(list)
	}
	return out, err
}

func TestUnloggedRelationsAreTheirInitForks(t *testing.T) {
	root := t.TempDir()
	for _, rel := range []string{
		"base/5/100", "base/5/100.1", "base/5/100_fsm", "base/5/100_vm", "base/5/100_init", // unlogged
		"base/5/1001", "base/5/10", "base/5/100x", "base/5/PG_VERSION", "base/5/0100",
		"base/6/100", "global/100", "global/100_init", "base/100", "base/100_init",
		"PG_15_1/5/100", "PG_15_1/5/100_init", "sub/base/5/100", "sub/base/5/100_init", "base/x5/100", "base/x5/100_init",
	} {
		put(t, filepath.Join(root, rel))
	}
	got, err := walk(datadir.Walk{Root: root, SkipUnlogged: true})
	require.NoError(t, err)
	assert.Equal(t, []string{
		"PG_15_1/5/100_init", "base/100", "base/100_init", "base/5/0100", "base/5/10", "base/5/1001", "base/5/100_init", "base/5/100x", "base/5/PG_VERSION",
		"base/6/100", "base/x5/100", "base/x5/100_init", "global/100", "global/100_init", "sub/base/5/100", "sub/base/5/100_init",
	}, got.files)
	all, err := walk(datadir.Walk{Root: root})
	require.NoError(t, err)
	assert.Len(t, all.files, 21)
}

func TestLinksAreFollowedAndTold(t *testing.T) {
	root, elsewhere := t.TempDir(), t.TempDir()
	put(t, filepath.Join(elsewhere, "conf"))
	put(t, filepath.Join(elsewhere, "dir/file"))
	require.NoError(t, os.Symlink(filepath.Join(elsewhere, "conf"), filepath.Join(root, "postgresql.conf")))
	require.NoError(t, os.Symlink(filepath.Join(elsewhere, "dir"), filepath.Join(root, "pg_xact")))
	got, err := walk(datadir.Walk{Root: root})
	require.NoError(t, err)
	assert.Equal(t, walked{[]string{"pg_xact"}, []string{"pg_xact/file", "postgresql.conf"}, []string{"pg_xact", "postgresql.conf"}}, got)
}

func TestWhatCannotBeListedIsNamed(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, root string) string{
		"a loop": func(t *testing.T, root string) string {
			require.NoError(t, os.Symlink(filepath.Join(root, "base"), filepath.Join(root, "base/5/up")))
			return "base/5/up"
		},
		"a loop to the root": func(t *testing.T, root string) string {
			require.NoError(t, os.Symlink("../..", filepath.Join(root, "base/5/up")))
			return "base/5/up"
		},
		"a link to itself": func(t *testing.T, root string) string {
			require.NoError(t, os.Symlink("self", filepath.Join(root, "self")))
			return "self"
		},
		"a link that leads nowhere": func(t *testing.T, root string) string {
			require.NoError(t, os.Symlink("/nowhere/at/all", filepath.Join(root, "log")))
			return "log"
		},
		"a directory without permission": func(t *testing.T, root string) string {
			require.NoError(t, os.Chmod(filepath.Join(root, "base/5"), 0))
			t.Cleanup(func() { require.NoError(t, os.Chmod(filepath.Join(root, "base/5"), 0o700)) })
			return "base/5"
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := filepath.Join(shared(t), "root")
			put(t, filepath.Join(root, "base/5/1"))
			rel := spoil(t, root)
			var err error
			asNobody(t, func() { _, err = walk(datadir.Walk{Root: root, SkipUnlogged: true}) })
			require.Error(t, err)
			assert.Contains(t, err.Error(), filepath.Join(root, rel))
			assert.NotEmpty(t, fault.HintOf(err))
		})
	}
	_, err := walk(datadir.Walk{Root: "/nowhere"})
	assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
	_, err = walk(datadir.Walk{Root: os.Args[0]})
	assert.ErrorIs(t, err, unix.ENOTDIR)
}

// shared is a directory that every user can enter.
func shared(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "holdfast-datadir-*")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// asNobody runs f, which starts no goroutines, as a user whom modes bind.
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
		if err := errors.Join(unix.Setfsgid(nobody), unix.Setfsuid(nobody)); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

func TestTheWalkEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	w := datadir.Walk{Root: t.TempDir(), Dirs: func([]datadir.Directory) error { return nil }}
	err := w.Run(ctx)
	assert.True(t, fault.Is(err, fault.Cancelled), "%v", err)
	assert.ErrorContains(t, err, "enough")
}

func TestRelationNames(t *testing.T) {
	for name, want := range map[string]datadir.Relation{
		"16384": {Number: 16384}, "16384.1": {Number: 16384, Segment: 1}, "1_fsm": {Number: 1, Fork: "fsm"}, "4294967295_vm.131071": {Number: 4294967295, Fork: "vm", Segment: 131071},
		"12_init": {Number: 12, Fork: "init"},
	} {
		got, ok := datadir.ParseRelation(name)
		assert.True(t, ok, name)
		assert.Equal(t, want, got, name)
	}
	for _, name := range []string{"", "0", "01", "x", "1x", "1_", "1_main", "1_fsm_vm", "1.", "1.0", "1.01", "1.1.1", "1.x", "t3_16384", "4294967296", "1_vm.-1", "PG_VERSION", "pg_filenode.map", "1\n", "1_init."} {
		_, ok := datadir.ParseRelation(name)
		assert.False(t, ok, name)
	}
	for path, want := range map[string]bool{
		"base/5/1": true, "global/1_vm": true, "PG_18_202506291/5/1.3": true, "1": false, "base/1": false, "base/05/1": false, "base/5/x/1": false,
		"pg_xact/0000": false, "pg_xact/1": false, "base/5/PG_VERSION": false, "x/PG_18_1/5/1": false, "global/x/1": false,
	} {
		assert.Equal(t, want, datadir.IsRelation(path), path)
	}
}

func TestSettled(t *testing.T) {
	read := time.Unix(1000, 0)
	at := func(before time.Duration) datadir.Identity {
		return datadir.Identity{Mtime: read.Add(-before).UnixNano()}
	}
	assert.True(t, at(datadir.Settled).SettledAt(read))
	assert.True(t, at(time.Hour).SettledAt(read))
	assert.False(t, at(datadir.Settled-1).SettledAt(read))
	assert.False(t, at(-time.Hour).SettledAt(read))
}
