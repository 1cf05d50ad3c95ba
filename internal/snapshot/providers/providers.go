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
	prefix, err := shellwords.Split(s.HoldfastSnapshotPrefix)
	if err != nil {
		return nil, fault.New(fault.Config, "read", "holdfast_snapshot_prefix", "%w", err)
	}
	a := &snapshot.Access{Host: snapshot.Here{Env: env, PathPrefix: s.PathPrefix}, Close: func() {}}
	if s.SnapshotInstance != config.Localhost {
		link, err := ssh.Open(ctx, s.SSHCommand, env...)
		if err != nil {
			return nil, err
		}
		a.Host, a.Close = link, link.Close
	}
	tools := snapshot.Tools{Host: a.Host, Prefix: prefix}
	switch s.SnapshotProvider {
	case "btrfs":
		a.Provider = &btrfs.Provider{Tools: tools, Names: s.SnapshotDisks, Keep: s.HoldfastSnapshotDirectory}
	case "zfs":
		a.Provider = &zfs.Provider{Tools: tools, Names: s.SnapshotDisks}
	case "lvm":
		a.Provider = &lvm.Provider{Tools: tools, Names: s.SnapshotDisks}
	case "command":
		a.Provider = &custom.Provider{Tools: tools, Names: s.SnapshotDisks, CreateCmd: s.HoldfastSnapshotCreateCommand, ListCmd: s.HoldfastSnapshotListCommand, DeleteCmd: s.HoldfastSnapshotDeleteCommand}
	case "gcp":
		a.Provider, err = gcp.Open(s, a.Host)
	case "azure":
		a.Provider, err = azure.Open(s, a.Host)
	default:
		err = fault.New(fault.Config, "make snapshots for", s.Name, "%w", fmt.Errorf("snapshot_provider = %s is not implemented", s.SnapshotProvider)).
			WithHint("use azure, gcp, btrfs, zfs, lvm or command")
	}
	if err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}
