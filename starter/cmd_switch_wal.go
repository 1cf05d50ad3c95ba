package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/walcommand"
)

type switchOptions struct {
	force, archive bool
	timeout        int
}

func (a *app) cmdSwitchWAL() *cobra.Command {
	var o switchOptions
	cmd := &cobra.Command{
		Use: "switch-wal SERVER", Aliases: []string{"switch-xlog"}, Short: "End the current WAL segment of a server",
		Long: `Makes the server end its current WAL segment, so that it is archived. An idle server has
nothing to end unless --force writes a checkpoint first.`,
		Example: "  holdfast switch-wal main --force --archive", Args: exactly("SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.switchWAL(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.force, "force", false, "write a checkpoint first, so that an idle server switches too")
	f.BoolVar(&o.archive, "archive", false, "wait until the segment is archived")
	f.IntVar(&o.timeout, "archive-timeout", 30, "`seconds` to wait for that")
	return cmd
}

func (a *app) switchWAL(ctx context.Context, server string, o switchOptions) error {
	if o.timeout < 1 {
		return fault.New(fault.Usage, "read", "--archive-timeout", "%d is not at least 1", o.timeout)
	}
	s, err := a.server(server)
	if err != nil {
		return err
	}
	name, err := endSegment(ctx, s, o.force)
	if err != nil {
		return err
	}
	a.json["wal"] = name
	a.say("The WAL file %s has been closed on server %s.", name, s.Name)
	if !o.archive {
		return nil
	}
	if err := awaitArchived(ctx, s, name, time.Duration(o.timeout)*time.Second); err != nil {
		return err
	}
	a.say("The WAL file %s is archived.", name)
	return nil
}

func endSegment(ctx context.Context, s *config.Server, force bool) (string, error) {
	c, err := pg.Connect(ctx, s.Conninfo.Reveal())
	if err != nil {
		return "", err
	}
	defer c.Close()
	name, err := c.SwitchWAL(ctx, force)
	if fault.Is(err, fault.Permission) && fault.HintOf(err) == "" {
		return "", &fault.Error{Op: "switch WAL of", Subject: s.Name, Kind: fault.Permission, Err: err,
			Hint: "as a superuser: GRANT EXECUTE ON FUNCTION pg_switch_wal() TO the user of conninfo; for --force also GRANT pg_checkpoint (PostgreSQL 15 and later)"}
	}
	return name, err
}

// awaitArchived archives what arrives until a segment is there.
func awaitArchived(ctx context.Context, s *config.Server, name string, within time.Duration) error {
	archive, err := archiveOf(s)
	if err != nil {
		return err
	}
	if err := walcommand.Ensure(catalog.LayoutOf(s), s); err != nil {
		return err
	}
	deadline := time.Now().Add(within)
	for {
		// Another archiver may be at work: then it delivers.
		if _, err := archive.ArchiveArrived(ctx, time.Now()); err != nil && !fault.Is(err, fault.Refused) {
			return err
		}
		if stored, err := archive.Has(ctx, name); err != nil || stored {
			return err
		}
		if time.Now().After(deadline) {
			return fault.New(fault.Internal, "wait for WAL", name, "it was not archived within %s", within).
				WithHint("holdfast check %s and the log of PostgreSQL say why", s.Name)
		}
		select {
		case <-ctx.Done():
			return fault.New(fault.Cancelled, "wait for WAL", name, "it was interrupted")
		case <-time.After(200 * time.Millisecond):
		}
	}
}
