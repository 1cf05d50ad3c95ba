package providers

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/btrfs"
	"github.com/holdfast-pg/holdfast/internal/snapshot/custom"
	"github.com/holdfast-pg/holdfast/internal/snapshot/lvm"
	"github.com/holdfast-pg/holdfast/internal/snapshot/zfs"
)

func TestOpen(t *testing.T) {
	host := snapshot.Here{Env: []string{"A=1"}, PathPrefix: "/opt/bin"}
	tools := snapshot.Tools{Host: host, Prefix: []string{"sudo", "-n"}}
	for provider, want := range map[string]snapshot.Provider{
		"btrfs":   &btrfs.Provider{Tools: tools, Names: []string{"/a"}, Keep: "../k"},
		"zfs":     &zfs.Provider{Tools: tools, Names: []string{"/a"}},
		"lvm":     &lvm.Provider{Tools: tools, Names: []string{"/a"}},
		"command": &custom.Provider{Tools: tools, Names: []string{"/a"}, CreateCmd: "c", ListCmd: "l", DeleteCmd: "d"},
	} {
		var s config.Server
		s.SnapshotProvider, s.SnapshotInstance, s.SnapshotDisks, s.PathPrefix = provider, config.Localhost, []string{"/a"}, "/opt/bin"
		s.HoldfastSnapshotPrefix, s.HoldfastSnapshotDirectory = "sudo -n", "../k"
		s.HoldfastSnapshotCreateCommand, s.HoldfastSnapshotListCommand, s.HoldfastSnapshotDeleteCommand = "c", "l", "d"
		a, err := Open(t.Context(), &s, "A=1")
		require.NoError(t, err)
		a.Close()
		assert.Equal(t, want, a.Provider)
		assert.Equal(t, host, a.Host)
	}
}

func TestRefused(t *testing.T) {
	for name, change := range map[string]func(*config.Server){
		"/a-b":        func(s *config.Server) { s.SnapshotDisks = []string{"/a/b", "/a-b"} },
		"quote":       func(s *config.Server) { s.HoldfastSnapshotPrefix = "sudo 'x" },
		"ssh_command": func(s *config.Server) { s.SnapshotInstance = "pg" },
	} {
		var s config.Server
		s.SnapshotProvider, s.SnapshotInstance, s.SnapshotDisks = "btrfs", config.Localhost, []string{"/a"}
		change(&s)
		_, err := Open(t.Context(), &s)
		assert.Equal(t, fault.Config, fault.KindOf(err), name)
		assert.ErrorContains(t, err, name)
	}
}
