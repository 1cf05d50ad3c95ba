// Package providers is the one list of who makes snapshots. The mains hand Open to
// whoever needs one.
package providers

import (
	"context"
	"fmt"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/shellwords"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/btrfs"
	"github.com/holdfast-pg/holdfast/internal/snapshot/clouds"
	"github.com/holdfast-pg/holdfast/internal/snapshot/custom"
	"github.com/holdfast-pg/holdfast/internal/snapshot/lvm"
	"github.com/holdfast-pg/holdfast/internal/snapshot/zfs"
)

// Open reaches the host of a server's disks, and the provider of its settings.
func Open(ctx context.Context, s *config.Server, env ...string) (*snapshot.Access, error) {
	return open(ctx, s, false, env)
}

// OpenHere is Open where the disks are this host's, whatever the settings call it.
func OpenHere(ctx context.Context, s *config.Server) (*snapshot.Access, error) {
	return open(ctx, s, true, nil)
}

func open(ctx context.Context, s *config.Server, here bool, env []string) (*snapshot.Access, error) {
	if err := snapshot.CheckNames(s.SnapshotDisks); err != nil {
		return nil, err
	}
	host, leave, err := snapshot.Reach(ctx, s, here, env...)
	if err != nil {
		return nil, err
	}
	a := &snapshot.Access{Host: host, Close: leave}
	switch s.SnapshotProvider {
	case "aws", "azure", "gcp":
		var end func()
		if a.Provider, end, err = clouds.Start(ctx, s, here, env...); err == nil {
			a.Close = func() { end(); leave() }
		}
	default:
		a.Provider, err = fileSystem(s, host)
	}
	if err != nil {
		leave()
		return nil, err
	}
	return a, nil
}

// fileSystem is the provider of a server's settings that runs programs on a host.
func fileSystem(s *config.Server, host snapshot.Host) (snapshot.Provider, error) {
	prefix, err := shellwords.Split(s.HoldfastSnapshotPrefix)
	if err != nil {
		return nil, fault.New(fault.Config, "read", "holdfast_snapshot_prefix", "%w", err)
	}
	tools := snapshot.Tools{Host: host, Prefix: prefix}
	switch s.SnapshotProvider {
	case "btrfs":
		return &btrfs.Provider{Tools: tools, Names: s.SnapshotDisks, Keep: s.HoldfastSnapshotDirectory}, nil
	case "zfs":
		return &zfs.Provider{Tools: tools, Names: s.SnapshotDisks}, nil
	case "lvm":
		return &lvm.Provider{Tools: tools, Names: s.SnapshotDisks}, nil
	case "command":
		return &custom.Provider{Tools: tools, Names: s.SnapshotDisks, CreateCmd: s.HoldfastSnapshotCreateCommand, ListCmd: s.HoldfastSnapshotListCommand, DeleteCmd: s.HoldfastSnapshotDeleteCommand}, nil
	}
	return nil, fault.New(fault.Config, "make snapshots for", s.Name, "%w", fmt.Errorf("snapshot_provider = %s is not implemented", s.SnapshotProvider)).
		WithHint("use aws, azure, gcp, btrfs, zfs, lvm or command")
}
