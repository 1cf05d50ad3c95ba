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
	"github.com/holdfast-pg/holdfast/internal/snapshot/aws"
	"github.com/holdfast-pg/holdfast/internal/snapshot/azure"
	"github.com/holdfast-pg/holdfast/internal/snapshot/btrfs"
	"github.com/holdfast-pg/holdfast/internal/snapshot/custom"
	"github.com/holdfast-pg/holdfast/internal/snapshot/gcp"
	"github.com/holdfast-pg/holdfast/internal/snapshot/lvm"
	"github.com/holdfast-pg/holdfast/internal/snapshot/zfs"
	"github.com/holdfast-pg/holdfast/internal/ssh"
)

// Open reaches the host of a server's disks, and the provider of its settings.
func Open(ctx context.Context, s *config.Server, env ...string) (*snapshot.Access, error) {
	if err := snapshot.CheckNames(s.SnapshotDisks); err != nil {
		return nil, err
	}
	a := &snapshot.Access{Host: snapshot.Here{Env: env, PathPrefix: s.PathPrefix}, Close: func() {}}
	if s.SnapshotInstance != config.Localhost {
		link, err := ssh.Open(ctx, s.SSHCommand, env...)
		if err != nil {
			return nil, err
		}
		a.Host, a.Close = link, link.Close
	}
	var err error
	if a.Provider, err = On(ctx, s, a.Host); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// On is the provider of a server's settings, for a host that is reached already.
func On(ctx context.Context, s *config.Server, host snapshot.Host) (snapshot.Provider, error) {
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
	case "aws":
		return aws.Open(ctx, s, host)
	case "gcp":
		return gcp.Open(s, host)
	case "azure":
		return azure.Open(s, host)
	}
	return nil, fault.New(fault.Config, "make snapshots for", s.Name, "%w", fmt.Errorf("snapshot_provider = %s is not implemented", s.SnapshotProvider)).
		WithHint("use aws, azure, gcp, btrfs, zfs, lvm or command")
}
