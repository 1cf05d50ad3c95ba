//go:build integration

package custom

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/snapshottest"
)

// example makes the provider of deploy/snapshot/reflink on a new XFS.
func example(t *testing.T) func(*testing.T, snapshot.Host) snapshot.Provider {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "mount ed")
	out, err := exec.Command("sh", "-ec", `truncate -s 400M "$1"; mkfs.xfs -q -m reflink=1 "$1"; mkdir "$2"; mount -o loop "$1" "$2"; cd "$2"; mkdir -p a/global b keep; echo 1 > a/global/pg_control; echo 2 > b/file`,
		"sh", filepath.Join(dir, "image"), root).CombinedOutput()
	require.NoError(t, err, "an XFS cannot be mounted (the tests run as root): %s", out)
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(root, unix.MNT_DETACH)) })
	program, err := filepath.Abs("../../../deploy/snapshot/reflink")
	require.NoError(t, err)
	return func(_ *testing.T, h snapshot.Host) snapshot.Provider {
		of := func(verb string) string { return snapshot.Words(program, verb, dir, filepath.Join(root, "keep")) }
		return &Provider{Tools: snapshot.Tools{Host: h}, Names: []string{filepath.Join(root, "a"), filepath.Join(root, "b")},
			CreateCmd: of("create"), ListCmd: of("list"), DeleteCmd: of("delete")}
	}
}

// TestReflinkExample: the example of the manual is a provider like any other.
func TestReflinkExample(t *testing.T) {
	t.Parallel()
	snapshottest.Suite{Host: snapshot.Here{}, Open: example(t)}.Run(t)
}

// TestUnfinished: what a killed cp has left is listed as failed, and can be removed.
func TestUnfinished(t *testing.T) {
	t.Parallel()
	p := example(t)(t, snapshot.Here{})
	disks, err := p.Disks(t.Context())
	require.NoError(t, err)
	tag := snapshot.Tag{Owner: "main", ID: "20260101T000000", Attempt: 1}
	s, err := p.Create(t.Context(), tag, disks[0])
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(s.Path, "global/pg_control"))
	require.NoError(t, os.Rename(s.Path, s.Path+".partial"))
	all, err := p.List(t.Context(), "main")
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.Equal(t, snapshot.Failed, all[0].Phase)
	assert.Equal(t, s.Name, all[0].Name)
	made, err := snapshot.Take(t.Context(), p, snapshot.Job{Tag: tag, Disks: disks, Until: snapshot.Completed})
	require.NoError(t, err)
	assert.Equal(t, s, made[0])
	require.NoError(t, snapshot.RemoveAll(t.Context(), p, "main", tag.ID, nil))
	all, err = p.List(t.Context(), "main")
	require.NoError(t, err)
	assert.Empty(t, all)
}
