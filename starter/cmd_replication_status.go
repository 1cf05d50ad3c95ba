package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/report"
)

type replicationOptions struct {
	minimal        bool
	target, source string
}

func (a *app) cmdReplicationStatus() *cobra.Command {
	var o replicationOptions
	cmd := &cobra.Command{
		Use: "replication-status SERVER...", Short: "Show who streams WAL from a server",
		Long: `Shows the standbys of a server and the programs that receive its WAL, and how far behind
each of them is.`,
		Example: "  holdfast replication-status main\n  holdfast replication-status main --target wal-streamer --minimal", Args: atLeastOne("SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.replicationStatus(cmd.Context(), args, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.minimal, "minimal", false, "a line for each client")
	f.StringVar(&o.target, "target", string(report.AllClients), "`clients` to show: hot-standby, wal-streamer or all")
	f.StringVar(&o.source, "source", "backup-host", "`server` to ask: backup-host (conninfo), or wal-host (wal_conninfo)")
	offer(cmd, "target", string(report.Standbys), string(report.WALStreamer), string(report.AllClients))
	offer(cmd, "source", "backup-host", "wal-host")
	return cmd
}

func (a *app) replicationStatus(ctx context.Context, names []string, o replicationOptions) error {
	target := report.Target(o.target)
	switch target {
	case report.AllClients, report.Standbys, report.WALStreamer:
	default:
		return fault.New(fault.Usage, "read", "--target "+o.target, "it is hot-standby, wal-streamer or all")
	}
	if o.source != "backup-host" && o.source != "wal-host" {
		return fault.New(fault.Usage, "read", "--source "+o.source, "it is backup-host or wal-host")
	}
	servers, err := a.usable(names)
	if err != nil {
		return err
	}
	failed := false
	for _, s := range servers {
		found, err := replicationOf(ctx, s, o.source)
		if err != nil {
			failed = true
			a.warnOf(err)
			continue
		}
		r := report.Replication{Server: s.Name, Target: target, Replication: found}
		lines := r.Lines()
		if o.minimal {
			lines = r.Minimal()
		}
		for _, line := range lines {
			a.print("%s", line)
		}
		a.json[s.Name] = r.JSON(o.minimal)
	}
	if failed {
		return exitError(1)
	}
	return nil
}

func replicationOf(ctx context.Context, s *config.Server, source string) (found postgres.Replication, err error) {
	dsn := s.Conninfo
	if source == "wal-host" {
		dsn, _ = s.WALSource()
	}
	ctx, cancel := context.WithTimeout(ctx, max(s.CheckTimeout, 5*time.Second))
	defer cancel()
	c, err := pg.Connect(ctx, dsn.Reveal())
	if err != nil {
		return found, err
	}
	defer c.Close()
	return c.Replication(ctx)
}
