package rsync

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

func TestVersion(t *testing.T) {
	for text, good := range map[string]bool{
		"rsync  version 3.1.3  protocol version 31\nCopyright":  true,
		"rsync  version 3.2.7  protocol version 31\n":           true,
		"rsync  version v3.4.1-4-g  protocol version 32\n":      true,
		"rsync  version 10.0.0  protocol version 99\n":          true,
		"rsync  version 3.1.2  protocol version 31\n":           false,
		"rsync  version 2.6.9  protocol version 29\n":           false,
		"openrsync: protocol version 29\nrsync version 2.6.9\n": false,
		"": false,
	} {
		err := checkVersion("/x/rsync", text)
		if good {
			require.NoError(t, err, text)
			continue
		}
		require.Equal(t, fault.Tool, fault.KindOf(err), text)
		require.Contains(t, fault.HintOf(err), "path_prefix")
	}
}

func TestTheOldOneOnThePathIsRefused(t *testing.T) {
	path, err := Find(t.Context(), "")
	require.NoError(t, err)
	require.FileExists(t, path)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rsync"), []byte("#!/bin/sh\necho 'rsync  version 3.0.9  protocol version 30'\n"), 0o755))
	_, err = Find(t.Context(), dir)
	require.ErrorContains(t, err, "3.0.9")
}
