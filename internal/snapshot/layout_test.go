package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// tree makes directories, and links "NAME -> TARGET".
func tree(t *testing.T, entries ...string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	for _, e := range entries {
		name, target, link := strings.Cut(e, " -> ")
		path := filepath.Join(root, name)
		if !link {
			require.NoError(t, os.MkdirAll(path, 0o755))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.Symlink(strings.ReplaceAll(target, "$", root), path))
	}
	return root
}

func disksOf(root string, names ...string) (out []snapshot.Disk) {
	for _, n := range names {
		out = append(out, snapshot.Disk{Name: n, Path: filepath.Join(root, n)})
	}
	return out
}

// TestLocate follows links, and takes the deepest disk.
func TestLocate(t *testing.T) {
	root := tree(t, "d 1/pg/pg_wal", "d 1/inner/ts", "d2/ts", "elsewhere", "pg -> $/d 1/pg", "ts -> $/d 1/inner/ts")
	c := snapshot.Cluster{Data: root + "/pg", Tablespaces: map[uint32]snapshot.Tablespace{16384: {Name: "a", Dir: root + "/ts"}, 9: {Name: "b", Dir: root + "/d2/ts"}}}
	l, err := snapshot.Locate(t.Context(), snapshot.Here{}, disksOf(root, "d2", "d 1", "d 1/inner", "elsewhere"), c)
	require.NoError(t, err)
	assert.Equal(t, map[string]snapshot.At{"pgdata": {Disk: "d 1", Path: "pg"}, "16384": {Disk: "d 1/inner", Path: "ts"}, "9": {Disk: "d2", Path: "ts"}}, l.Holds)
	assert.Equal(t, "d 1", l.DataDisk())
	assert.Equal(t, []string{"Nothing of the cluster lies on disk elsewhere."}, l.Notes)
	require.NoError(t, l.Walk(t.Context(), snapshot.Here{}))

	_, err = snapshot.Locate(t.Context(), snapshot.Here{}, disksOf(root, "d 1"), c)
	require.ErrorContains(t, err, "tablespace b: "+root+"/d2/ts lies on none of the disks d 1 (it is on ")
	assert.Equal(t, fault.Refused, fault.KindOf(err))
	assert.Contains(t, fault.HintOf(err), "snapshot_disks")
}

// TestWALElsewhere is fine, and said.
func TestSame(t *testing.T) {
	root := tree(t, "d1/pg/pg_wal", "d1/ts", "d2/ts", "ts -> $/d1/ts")
	c := snapshot.Cluster{Data: root + "/d1/pg", Tablespaces: map[uint32]snapshot.Tablespace{9: {Name: "b", Dir: root + "/ts"}}}
	look := func(options string) *snapshot.Layout {
		disks := disksOf(root, "d1", "d2")
		disks[1].Options = options
		l, err := snapshot.Locate(t.Context(), snapshot.Here{}, disks, c)
		require.NoError(t, err)
		return l
	}
	before := look("rw")
	require.NoError(t, before.Same(look("rw")))
	assert.ErrorContains(t, before.Same(look("ro")), "disk d2: it was at")
	require.NoError(t, os.Remove(root+"/ts"))
	require.NoError(t, os.Symlink(root+"/d2/ts", root+"/ts"))
	err := before.Same(look("rw"))
	assert.ErrorContains(t, err, "tablespace b: it was at "+root+"/d1/ts")
	assert.Equal(t, fault.Refused, fault.KindOf(err))
}

func TestWALElsewhere(t *testing.T) {
	root := tree(t, "d/pg", "wal", "d/pg/pg_wal -> $/wal")
	l, err := snapshot.Locate(t.Context(), snapshot.Here{}, disksOf(root, "d"), snapshot.Cluster{Data: root + "/d/pg"})
	require.NoError(t, err)
	require.Len(t, l.Notes, 1)
	assert.Contains(t, l.Notes[0], "WAL is written to "+root+"/wal, which lies on none of the disks")
	require.NoError(t, l.Walk(t.Context(), snapshot.Here{}))
}

// TestLinksThatMislead: no restored server may be led into the files of another.
func TestLinksThatMislead(t *testing.T) {
	for entry, refused := range map[string]bool{
		"d/pg/base -> $/other": true, "d/pg/global/pg_control -> $/other/file": true, "d/pg/base/5 -> $/other": true,
		"d/pg/log -> $/other": false, "d/pg/pg_tblspc/16384 -> $/other": false, "d/pg/server.key -> $/other/key": false,
	} {
		root := tree(t, "d/pg/pg_wal", "other", entry)
		l, err := snapshot.Locate(t.Context(), snapshot.Here{}, disksOf(root, "d"), snapshot.Cluster{Data: root + "/d/pg"})
		require.NoError(t, err)
		err = l.Walk(t.Context(), snapshot.Here{})
		name, _, _ := strings.Cut(entry, " -> ")
		if refused {
			assert.ErrorContains(t, err, filepath.Join(root, name)+": it is a symbolic link")
		} else {
			assert.NoError(t, err, entry)
		}
	}
}

// TestMountOf reads what findmnt says, blanks and all.
func TestMountOf(t *testing.T) {
	m, err := snapshot.MountOf(t.Context(), snapshot.Here{}, "/proc")
	require.NoError(t, err)
	assert.Equal(t, "/proc", m.Target)
	assert.Equal(t, "proc", m.Type)
	_, err = snapshot.MountOf(t.Context(), snapshot.Here{}, "/no/such/directory")
	require.Error(t, err)
	for said, want := range map[string]string{
		`{"filesystems": [{"target":"/mnt/a b","source":"/dev/vda[/@pg]","fstype":"btrfs","options":"rw,noatime"}]}`: "/mnt/a b", `{}`: "", "x": "",
	} {
		m, err := snapshot.MountOf(t.Context(), saying(said), "/x")
		assert.Equal(t, want == "", err != nil)
		assert.Equal(t, want, m.Target)
	}
}

// saying is a host whose scripts all print the same.
type saying string

func (s saying) Run(_ context.Context, _ string, out io.Writer) error {
	_, err := io.WriteString(out, string(s))
	return err
}

func TestPrefix(t *testing.T) {
	tools := snapshot.Tools{Host: snapshot.Here{PathPrefix: t.TempDir()}, Prefix: []string{"sudo", "-n"}}
	assert.Equal(t, `'sudo' '-n' 'btrfs' 'it'\''s'`, tools.Command("btrfs", "it's"))
	_, err := tools.Script(t.Context(), "do", "it", tools.Command("true"))
	if err != nil { // there need not be a sudo
		assert.NotEmpty(t, fault.HintOf(err))
	}
	_, err = snapshot.Tools{Host: snapshot.Here{}}.Script(t.Context(), "do", "it", "no-such-program-at-all")
	assert.Equal(t, fault.Tool, fault.KindOf(err))
	assert.Contains(t, fault.HintOf(err), "install")
	var out bytes.Buffer
	require.NoError(t, snapshot.Here{Env: []string{"HOLDFAST_TRY=1 2"}}.Run(t.Context(), `printf %s "$HOLDFAST_TRY"`, &out))
	assert.Equal(t, "1 2", out.String())
	assert.Equal(t, fault.Connection, fault.KindOf(errOf(fault.New(fault.Connection, "reach", "pg", "away"))))
}

// errOf is what a script's error becomes.
func errOf(err error) error {
	_, err = snapshot.Tools{Host: broken{err}}.Script(context.Background(), "do", "it", "true")
	return err
}

type broken struct{ err error }

func (b broken) Run(context.Context, string, io.Writer) error { return errors.Join(b.err) }

// TestRecord: what is kept leads back to the files.
func TestRecord(t *testing.T) {
	l := &snapshot.Layout{Disks: []snapshot.Disk{{Name: "/a", Mount: "/m 1", Options: "rw"}, {Name: "vg/b", Mount: "/m2", Options: "rw"}},
		Holds: map[string]snapshot.At{"pgdata": {Disk: "/a", Path: "pg"}, "16384": {Disk: "/a", Path: "."}, "9": {Disk: "vg/b", Path: "x"}}}
	r := snapshot.NewRecord("btrfs", "localhost", l, []snapshot.Snapshot{{Name: "a-1", ID: "/k/a-1", Path: "/k/a-1"}, {Name: "b-1", ID: "vg/b-1"}})
	_, dir := r.Data()
	assert.Equal(t, "/k/a-1/pg", dir)
	_, dir = r.Tablespace(16384)
	assert.Equal(t, "/k/a-1", dir)
	s, dir := r.Tablespace(9)
	assert.Equal(t, "b-1", s.Name)
	assert.Empty(t, dir, "no directory shows it")
	assert.Equal(t, "{'provider': 'btrfs', 'provider_info': {'instance': 'localhost'}, 'snapshots': [{'mount': {'mount_options': 'rw', 'mount_point': '/m 1'}, "+
		"'provider': {'device_name': '/a', 'snapshot_name': 'a-1', 'snapshot_id': '/k/a-1', 'snapshot_path': '/k/a-1', 'holds': {'16384': '.', 'pgdata': 'pg'}}}, "+
		"{'mount': {'mount_options': 'rw', 'mount_point': '/m2'}, 'provider': {'device_name': 'vg/b', 'snapshot_name': 'b-1', 'snapshot_id': 'vg/b-1', 'holds': {'9': 'x'}}}]}", r.Value().String())
}
