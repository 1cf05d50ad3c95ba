package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/aws"
	"github.com/holdfast-pg/holdfast/internal/snapshot/azure"
	"github.com/holdfast-pg/holdfast/internal/snapshot/gcp"
)

// TestOpen: a provider is opened with the settings of the server.
func TestOpen(t *testing.T) {
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	host := snapshot.Here{PathPrefix: "/opt/bin"}
	var s config.Server
	s.SnapshotInstance, s.SnapshotDisks, s.AWSRegion = "pg", []string{"data"}, "eu-west-1"
	s.GCPProject, s.GCPZone, s.AzureSubscriptionID, s.AzureResourceGroup = "prod", "europe-west1-b", "0000-1111", "group"
	of := func(provider string) snapshot.Provider {
		s.SnapshotProvider = provider
		p, err := open(t.Context(), &s, host)
		require.NoError(t, err)
		return p
	}
	amazon, is := of("aws").(*aws.Provider)
	require.True(t, is)
	assert.Equal(t, []string{"pg", "data"}, []string{amazon.Instance, amazon.Names[0]})
	assert.Equal(t, host, amazon.Host)
	google, is := of("gcp").(*gcp.Provider)
	require.True(t, is)
	assert.Equal(t, []string{"prod", "europe-west1-b", "pg", "data"}, []string{google.Project, google.Zone, google.Instance, google.Names[0]})
	assert.Equal(t, host, google.Host)
	microsoft, is := of("azure").(*azure.Provider)
	require.True(t, is)
	assert.Equal(t, []string{"0000-1111", "group", "pg", "data"}, []string{microsoft.Subscription, microsoft.Group, microsoft.Instance, microsoft.Names[0]})
	assert.Equal(t, host, microsoft.Host)
}

func TestRefused(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	for name, change := range map[string]func(*config.Server){
		"region":               func(s *config.Server) { s.SnapshotProvider = "aws" },
		"gcp_project":          func(s *config.Server) { s.SnapshotProvider, s.GCPZone = "gcp", "europe-west1-b" },
		"azure_resource_group": func(s *config.Server) { s.SnapshotProvider, s.AzureSubscriptionID = "azure", "0000-1111" },
	} {
		var s config.Server
		s.SnapshotInstance, s.SnapshotDisks = "pg", []string{"data"}
		change(&s)
		_, err := open(t.Context(), &s, snapshot.Here{})
		assert.Equal(t, fault.Config, fault.KindOf(err), name)
		assert.ErrorContains(t, err, name)
	}
}
