package volumes

import (
	"encoding/binary"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// control is a pg_control of PostgreSQL 15 with a right checksum.
func control(systemID uint64) []byte {
	b := make([]byte, 8192)
	binary.LittleEndian.PutUint64(b, systemID)
	binary.LittleEndian.PutUint32(b[8:], 1300)
	binary.LittleEndian.PutUint32(b[288:], crc32.Checksum(b[:288], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func TestPlainArchive(t *testing.T) {
	t.Parallel()
	root, etc := t.TempDir(), t.TempDir()
	for _, dir := range []string{"base/5", "global", "pg_wal", "odd\xff\n"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, dir), 0o750))
	}
	require.NoError(t, os.Chmod(root, 0o750))
	put(t, filepath.Join(root, "global/pg_control"), string(control(4711)))
	put(t, filepath.Join(etc, "main.conf"), "port = 1")
	trees, err := List(t.Context(), Cluster{DataDir: root})
	require.NoError(t, err)
	trees[0].Dirs = append(trees[0].Dirs, "pg_gone")

	pgControl, read, err := ReadControl(t.Context(), root, 4711)
	require.NoError(t, err)
	assert.Equal(t, uint64(4711), read.SystemID)
	label, err := Label(root, "START WAL", time.Unix(99, 1))
	require.NoError(t, err)
	r := &Reader{Buffers: NewBuffers(2)}
	singles := []Single{{Path: "postgresql.conf", Source: filepath.Join(etc, "main.conf")}, {Path: "pg_ident.conf", Source: filepath.Join(etc, "none"), Optional: true}}
	var a archived
	a.Result, err = r.Plain(t.Context(), trees[0], singles, []Inline{pgControl, label}, collect(t, &a, nil))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"./": "", "base/": "", "base/5/": "", "global/": "", "pg_wal/": "", "odd\xff\n/": "",
		"postgresql.conf": "port = 1", "global/pg_control": string(control(4711)), "backup_label": "START WAL"}, contents(t, a))
	assert.Equal(t, []string{"pg_gone"}, a.Vanished)
	assert.Len(t, a.Members, 3)

	dest := t.TempDir()
	unpack(t, dest, a)
	for path, want := range map[string]fs.FileMode{"": 0o750 | fs.ModeDir, "pg_wal": 0o750 | fs.ModeDir, "backup_label": 0o600, "global/pg_control": 0o600} {
		st, err := os.Stat(filepath.Join(dest, path))
		require.NoError(t, err)
		assert.Equal(t, want, st.Mode(), path)
	}

	t.Run("a missing file", func(t *testing.T) {
		singles[1].Optional = false
		_, err := r.Plain(t.Context(), trees[0], singles, nil, collect(t, &archived{}, nil))
		assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
		assert.ErrorContains(t, err, filepath.Join(etc, "none"))
	})
	t.Run("the cluster of another", func(t *testing.T) {
		_, _, err := ReadControl(t.Context(), root, 5)
		assert.True(t, fault.Is(err, fault.Refused), "%v", err)
	})
	t.Run("written while it was read", func(t *testing.T) {
		half := control(4711)
		half[20] ^= 1
		put(t, filepath.Join(root, "global/pg_control"), string(half))
		time.AfterFunc(120*time.Millisecond, func() {
			assert.NoError(t, os.WriteFile(filepath.Join(root, "global/pg_control"), control(4711), 0o600))
		})
		got, _, err := ReadControl(t.Context(), root, 4711)
		require.NoError(t, err)
		assert.Equal(t, control(4711), got.Content)
	})
	t.Run("damaged", func(t *testing.T) {
		put(t, filepath.Join(root, "global/pg_control"), "short")
		_, _, err := ReadControl(t.Context(), root, 4711)
		assert.True(t, fault.Is(err, fault.Corrupt), "%v", err)
		assert.ErrorContains(t, err, filepath.Join(root, "global/pg_control"))
	})
	t.Run("gone", func(t *testing.T) {
		require.NoError(t, os.RemoveAll(root))
		_, _, err := ReadControl(t.Context(), root, 4711)
		assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
		_, err = r.Plain(t.Context(), trees[0], nil, nil, collect(t, &archived{}, nil))
		assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
	})
}
