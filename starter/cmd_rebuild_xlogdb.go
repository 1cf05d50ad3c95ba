package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

func (a *app) cmdRebuildXlogDB() *cobra.Command {
	return &cobra.Command{
		Use: "rebuild-xlogdb SERVER...", Short: "Make the list of archived WAL anew from the files",
		Long: `Replaces xlog.db, the list of archived WAL that Holdfast and Barman share, with one made
from the files in the archive. It is never needed in normal operation: use it after
files were copied into or removed from the archive by hand, or when the list is damaged.
Nothing can be archived meanwhile. WAL files themselves are not touched.`,
		Example: "  holdfast rebuild-xlogdb main", Args: atLeastOne("SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.rebuildXlogDB(cmd.Context(), args) },
	}
}

func (a *app) rebuildXlogDB(ctx context.Context, names []string) error {
	servers, err := a.usable(names)
	if err != nil {
		return err
	}
	for _, s := range servers {
		if err := a.rebuildOne(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) rebuildOne(ctx context.Context, s *config.Server) error {
	archive, err := archiveOf(s)
	if err != nil {
		return err
	}
	a.say("Rebuilding xlogdb for server %s", s.Name)
	n, err := archive.Rebuild(ctx)
	if err != nil {
		return err
	}
	a.say("Done rebuilding xlogdb for server %s (history: %d, backup_labels: %d, wal_file: %d)", s.Name, n[wal.HistoryFile], n[wal.LabelFile], n[wal.SegmentFile]+n[wal.PartialFile])
	return nil
}
