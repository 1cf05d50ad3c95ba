package main

import (
	"context"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

func (a *app) cmdCheckBackup() *cobra.Command {
	return &cobra.Command{
		Use: "check-backup SERVER BACKUP", Short: "Check that the WAL which makes a backup consistent is archived and whole",
		Long: `Reads every WAL segment from the begin to the end of a backup: it must be archived, be
whole after expansion, and be of this cluster. It changes nothing. A backup that waits
for WAL becomes DONE by the next maintenance after its WAL arrived (holdfast cron).
` + references,
		Example:     "  holdfast check-backup main latest\n  holdfast -f json check-backup main 20261123T023506",
		Args:        exactly("SERVER", "BACKUP"),
		Annotations: exitCodes("0 the WAL is there and whole, or the newest of it is still awaited", "1 segments are missing or damaged", "3 no such server or backup"),
		RunE:        func(cmd *cobra.Command, args []string) error { return a.checkBackup(cmd.Context(), args[0], args[1]) },
	}
}

func (a *app) checkBackup(ctx context.Context, server, ref string) error {
	s, cat, err := a.catalog(server)
	if err != nil {
		return err
	}
	info, err := cat.Resolve(ref)
	if err != nil {
		return err
	}
	object := report.Object{"backup_id": info.ID, "status": info.Status, "missing_wals": []string{}}
	a.json[s.Name] = object
	if info.BeginWAL == nil || info.EndWAL == nil || info.SegmentSize == nil {
		a.warn("backup %s is %s and has no end: there is no WAL to look for", info.ID, info.Status)
		return nil
	}
	object["begin_wal"], object["end_wal"] = *info.BeginWAL, *info.EndWAL
	archive, err := archiveOf(s)
	if err != nil {
		return err
	}
	missing, err := archive.Missing(ctx, *info.BeginWAL, *info.EndWAL, *info.SegmentSize)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		object["missing_wals"] = missing
		return a.tellMissing(ctx, s, archive, info, missing)
	}
	var system uint64
	if info.SystemID != nil {
		if system, err = strconv.ParseUint(*info.SystemID, 10, 64); err != nil {
			return fault.Wrap(fault.Corrupt, "read", "systemid of backup "+string(info.ID), err)
		}
	}
	v, err := archive.Verify(ctx, *info.BeginWAL, *info.EndWAL, *info.SegmentSize, system)
	if err != nil {
		return err
	}
	a.say("Backup %s of server %s (%s): all WAL from %s to %s is archived and whole, %s.", info.ID, s.Name, info.Status, *info.BeginWAL, *info.EndWAL, count(v.Segments, "segment"))
	if info.Status == backup.WaitingForWALs {
		a.say("The next maintenance reads the backup back and makes it DONE: holdfast cron %s", s.Name)
	}
	return nil
}

// tellMissing tells a hole from WAL that may still arrive.
func (a *app) tellMissing(ctx context.Context, s *config.Server, archive *walarchive.Archive, info *backupinfo.Info, missing []string) error {
	names, err := archive.Names(ctx)
	if err != nil {
		return err
	}
	later := slices.ContainsFunc(names, func(name string) bool {
		return wal.Classify(name) == wal.SegmentFile && name > missing[0]
	})
	if info.Status == backup.WaitingForWALs && !later {
		a.warn("backup %s of server %s waits for %s of WAL: %s; see that archive_command works: holdfast check %s", info.ID, s.Name, count(len(missing), "segment"), some(missing), s.Name)
		return nil
	}
	return fault.New(fault.Corrupt, "check backup", string(info.ID), "%s missing from its WAL, %s to %s: %s", isOrAre(len(missing), "segment"), *info.BeginWAL, *info.EndWAL, some(missing)).
		WithHint("the backup cannot be restored without them: look for them in pg_wal of the server and on standbys, and archive them with holdfast wal-archive %s FILE; else take another backup", s.Name)
}

// some is a list that may be long.
func some(names []string) string {
	const most = 20
	if len(names) <= most {
		return join(names)
	}
	return join(names[:most]) + ", and " + strconv.Itoa(len(names)-most) + " more up to " + names[len(names)-1]
}

func isOrAre(n int, what string) string {
	if n == 1 {
		return count(n, what) + " is"
	}
	return count(n, what) + " are"
}
