package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
	"github.com/holdfast-pg/holdfast/internal/walcommand"
)

func (a *app) cmdArchiveWAL() *cobra.Command {
	return &cobra.Command{
		Use: "archive-wal SERVER", Short: "Archive the WAL that arrived, once, now",
		Long: `Archives what was put into the incoming directory and, with streaming_archiver = on, the
segments that were streamed completely. "holdfast up" does it by itself every
holdfast_maintenance_interval, and every backup while it waits for its WAL. It needs no
engine.`,
		Example: "  holdfast archive-wal main", Args: exactly("SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.archiveWAL(cmd.Context(), args[0]) },
	}
}

func (a *app) archiveWAL(ctx context.Context, server string) error {
	s, err := a.server(server)
	if err != nil {
		return err
	}
	arrived, err := archiveArrived(ctx, s)
	a.print("Processing WAL of server %s", s.Name)
	for _, name := range arrived.Archived {
		a.print("\t%s", name)
	}
	for _, w := range arrived.Unfinished {
		a.warn("%s stays: %s", w.Name, w.Reason)
	}
	for what, names := range map[string][]string{"another file of its name is archived": arrived.Conflicts, "it is no WAL": arrived.Unknown} {
		for _, name := range names {
			a.warn("%s was moved to %s: %s", name, s.ErrorsDirectory, what)
		}
	}
	a.json[s.Name] = map[string]any{"archived": append([]string{}, arrived.Archived...)}
	return err
}

// archiveArrived archives what arrived for a server.
func archiveArrived(ctx context.Context, s *config.Server) (walarchive.Arrived, error) {
	archive, err := archiveOf(s)
	if err != nil {
		return walarchive.Arrived{}, err
	}
	if err := walcommand.Ensure(catalog.LayoutOf(s), s); err != nil {
		return walarchive.Arrived{}, err
	}
	return archive.ArchiveArrived(ctx, time.Now())
}
