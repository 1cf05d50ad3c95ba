package providers

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/azure"
	"github.com/holdfast-pg/holdfast/internal/snapshot/btrfs"
	"github.com/holdfast-pg/holdfast/internal/snapshot/custom"
	"github.com/holdfast-pg/holdfast/internal/snapshot/gcp"
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

// TestClouds: a provider of a cloud is opened with the settings of the server.
func TestClouds(t *testing.T) {
	var s config.Server
	s.SnapshotInstance, s.SnapshotDisks = config.Localhost, []string{"data"}
	s.GCPProject, s.GCPZone, s.AzureSubscriptionID, s.AzureResourceGroup = "prod", "europe-west1-b", "0000-1111", "group"
	open := func(provider string) *snapshot.Access {
		s.SnapshotProvider = provider
		a, err := Open(t.Context(), &s)
		require.NoError(t, err)
		a.Close()
		return a
	}
	a := open("gcp")
	google, is := a.Provider.(*gcp.Provider)
	require.True(t, is)
	assert.Equal(t, []string{"prod", "europe-west1-b", config.Localhost, "data"}, []string{google.Project, google.Zone, google.Instance, google.Names[0]})
	assert.Equal(t, a.Host, google.Host)
	a = open("azure")
	microsoft, is := a.Provider.(*azure.Provider)
	require.True(t, is)
	assert.Equal(t, []string{"0000-1111", "group", config.Localhost, "data"}, []string{microsoft.Subscription, microsoft.Group, microsoft.Instance, microsoft.Names[0]})
	assert.Equal(t, a.Host, microsoft.Host)
}

func TestRefused(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	for name, change := range map[string]func(*config.Server){
		"region":               func(s *config.Server) { s.SnapshotProvider = "aws" },
		"gcp_zone":             func(s *config.Server) { s.SnapshotProvider, s.GCPProject = "gcp", "prod" },
		"azure_resource_group": func(s *config.Server) { s.SnapshotProvider, s.AzureSubscriptionID = "azure", "0000-1111" },
		"/a-b":                 func(s *config.Server) { s.SnapshotDisks = []string{"/a/b", "/a-b"} },
		"quote":                func(s *config.Server) { s.HoldfastSnapshotPrefix = "sudo 'x" },
		"ssh_command":          func(s *config.Server) { s.SnapshotInstance = "pg" },
	} {
		var s config.Server
		s.SnapshotProvider, s.SnapshotInstance, s.SnapshotDisks = "btrfs", config.Localhost, []string{"/a"}
		change(&s)
		_, err := Open(t.Context(), &s)
		assert.Equal(t, fault.Config, fault.KindOf(err), name)
		assert.ErrorContains(t, err, name)
	}
}
