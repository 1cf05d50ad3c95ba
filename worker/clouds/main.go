// Command holdfast-clouds asks the clouds for snapshots of disks, for holdfast and
// holdfast-worker, which start it where snapshot_provider is aws, azure or gcp.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/aws"
	"github.com/holdfast-pg/holdfast/internal/snapshot/azure"
	"github.com/holdfast-pg/holdfast/internal/snapshot/clouds"
	"github.com/holdfast-pg/holdfast/internal/snapshot/gcp"
)

func main() {
	if err := clouds.Serve(open); err != nil {
		fmt.Fprintln(os.Stderr, clouds.Program+":", err)
		if hint := fault.HintOf(err); hint != "" {
			fmt.Fprintln(os.Stderr, "hint:", hint)
		}
		os.Exit(fault.KindOf(err).ExitCode())
	}
}

func open(ctx context.Context, s *config.Server, host snapshot.Host) (snapshot.Provider, error) {
	switch s.SnapshotProvider {
	case "aws":
		return aws.Open(ctx, s, host)
	case "azure":
		return azure.Open(s, host)
	case "gcp":
		return gcp.Open(s, host)
	}
	return nil, fault.New(fault.Internal, "make snapshots for", s.Name, "%s is no cloud", s.SnapshotProvider)
}
