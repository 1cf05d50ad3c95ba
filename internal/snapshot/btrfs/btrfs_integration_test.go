//go:build integration

package btrfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/snapshottest"
)

// mounted is a new btrfs with two subvolumes.
func mounted(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "mount ed")
	out, err := exec.Command("sh", "-ec", `truncate -s 256M "$1"; mkfs.btrfs -q "$1"; mkdir "$2"; mount -o loop "$1" "$2"; cd "$2"
for v in "a's" b; do btrfs -q subvolume create "$v"; echo "$v" > "$v/file"; done; mkdir plain`, "sh", filepath.Join(dir, "image"), root).CombinedOutput()
	require.NoError(t, err, "a btrfs cannot be mounted (the tests run as root): %s", out)
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(root, unix.MNT_DETACH)) })
	return root
}

func TestSuite(t *testing.T) {
	t.Parallel()
	for name, keep := range map[string]string{"beside": "../.holdfast-snapshots", "inside": ".kept here"} {
		t.Run(name, func(t *testing.T) {
			root := mounted(t)
			snapshottest.Suite{Host: snapshot.Here{}, Open: func(_ *testing.T, h snapshot.Host) snapshot.Provider {
				return &Provider{Tools: snapshot.Tools{Host: h}, Names: []string{filepath.Join(root, "a's"), filepath.Join(root, "b")}, Keep: keep}
			}}.Run(t)
		})
	}
}

// TestReadOnly: a snapshot has the content of its moment and cannot be changed.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	root := mounted(t)
	p := &Provider{Tools: snapshot.Tools{Host: snapshot.Here{}}, Names: []string{filepath.Join(root, "b")}, Keep: filepath.Join(root, "plain")}
	disks, err := p.Disks(t.Context())
	require.NoError(t, err)
	s, err := p.Create(t.Context(), snapshot.Tag{Owner: "main", ID: "20260101T000000", Attempt: 1}, disks[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, "b/file"), []byte("later"), 0o644))
	text, err := os.ReadFile(filepath.Join(s.Path, "file"))
	require.NoError(t, err)
	assert.Equal(t, "b\n", string(text))
	assert.ErrorIs(t, os.WriteFile(filepath.Join(s.Path, "file"), nil, 0o644), unix.EROFS)
	require.NoError(t, p.Delete(t.Context(), s))
	assert.NoDirExists(t, filepath.Dir(s.Path), "nothing is left")
}

// TestWithoutWAL: a snapshot has no WAL, and one whose maker was killed on the way is failed,
// and finished by whoever asks for the same.
func TestWithoutWAL(t *testing.T) {
	t.Parallel()
	root := mounted(t)
	p := &Provider{Tools: snapshot.Tools{Host: snapshot.Here{}}, Names: []string{filepath.Join(root, "a's")}, Keep: "../.kept"}
	disks, err := p.Disks(t.Context())
	require.NoError(t, err)
	disks[0].WAL = "da ta/pg_wal"
	files := filepath.Join(disks[0].Path, disks[0].WAL)
	require.NoError(t, os.MkdirAll(filepath.Join(files, "archive_status"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(files, "000000010000000000000001"), nil, 0o644))
	tag := snapshot.Tag{Owner: "main", ID: "20260101T000000", Attempt: 1}
	unfinished := made(tag, filepath.Join(root, ".kept/main", tag.String()), snapshot.NameOf(disks[0].Name, tag.ID))
	require.NoError(t, os.MkdirAll(filepath.Dir(unfinished.Path), 0o755))
	require.NoError(t, exec.Command("btrfs", "-q", "subvolume", "snapshot", disks[0].Path, unfinished.Path).Run())
	all, err := p.List(t.Context(), "main")
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.Equal(t, snapshot.Failed, all[0].Phase)

	s, err := p.Create(t.Context(), tag, disks[0])
	require.NoError(t, err)
	left, err := os.ReadDir(filepath.Join(s.Path, disks[0].WAL))
	require.NoError(t, err)
	assert.Empty(t, left)
	assert.ErrorIs(t, os.WriteFile(filepath.Join(s.Path, "file"), nil, 0o644), unix.EROFS)
	all, err = p.List(t.Context(), "main")
	require.NoError(t, err)
	assert.Equal(t, []snapshot.Snapshot{s}, all)
	assert.FileExists(t, filepath.Join(files, "000000010000000000000001"), "the source has it")

	p.Tools.Prefix = []string{"env"}
	tag.Attempt = 2
	s, err = p.Create(t.Context(), tag, disks[0])
	require.NoError(t, err)
	assert.FileExists(t, filepath.Join(s.Path, disks[0].WAL, "000000010000000000000001"), "the files may be another user's")
}

// TestWrongDisks are told with what to do.
func TestWrongDisks(t *testing.T) {
	t.Parallel()
	root := mounted(t)
	for _, c := range []struct {
		name, keep string
		kind       fault.Kind
		text       string
	}{
		{"missing", "../k", fault.NotFound, "there is no such directory"},
		{"plain", "../k", fault.Refused, "it is not the root of a btrfs subvolume"},
		{"b", t.TempDir(), fault.Refused, "disk " + root + "/b is on"},
		{"b", "file/x", fault.Permission, root + "/b/file: Permission denied"},
	} {
		p := &Provider{Tools: snapshot.Tools{Host: snapshot.Here{}}, Names: []string{filepath.Join(root, c.name)}, Keep: c.keep}
		_, err := p.Disks(t.Context())
		assert.Equal(t, c.kind, fault.KindOf(err), "%v", err)
		assert.ErrorContains(t, err, c.text)
		assert.NotEmpty(t, fault.HintOf(err))
		assert.NoDirExists(t, filepath.Join(root, "k"), "looking makes nothing")
	}
}

// TestNestedSubvolume below the data directory is refused, unless it is a tablespace's.
func TestNestedSubvolume(t *testing.T) {
	t.Parallel()
	root := mounted(t)
	data := filepath.Join(root, "b")
	require.NoError(t, os.MkdirAll(filepath.Join(data, "pg_wal"), 0o755))
	require.NoError(t, exec.Command("btrfs", "-q", "subvolume", "create", filepath.Join(data, "nested")).Run())
	p := &Provider{Tools: snapshot.Tools{Host: snapshot.Here{}}, Names: []string{data, filepath.Join(data, "nested")}, Keep: "../k"}
	disks, err := p.Disks(t.Context())
	require.NoError(t, err)
	l, err := snapshot.Locate(t.Context(), snapshot.Here{}, disks, snapshot.Cluster{Data: data})
	require.NoError(t, err)
	assert.ErrorContains(t, l.Walk(t.Context(), snapshot.Here{}), filepath.Join(data, "nested")+": it is a subvolume or a mount of its own")
	c := snapshot.Cluster{Data: data, Tablespaces: map[uint32]snapshot.Tablespace{1: {Name: "t", Dir: filepath.Join(data, "nested")}}}
	l, err = snapshot.Locate(t.Context(), snapshot.Here{}, disks, c)
	require.NoError(t, err)
	assert.NoError(t, l.Walk(t.Context(), snapshot.Here{}))
	_, err = snapshot.Locate(t.Context(), snapshot.Here{}, disks[:1], c)
	assert.ErrorContains(t, err, "tablespace t: "+filepath.Join(data, "nested")+" lies on none of the disks "+data)
}
