package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/disposal"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

func (a *app) cmdListBackups() *cobra.Command {
	var minimal, window bool
	var o from
	cmd := &cobra.Command{
		Use: "list-backups SERVER...", Aliases: []string{"list-backup"}, Short: "List the backups of a server",
		Long: `Lists the backups of a server, newest first, whoever took them. "Size" is that of the
files and of the WAL that makes them consistent, "WAL Size" that of the WAL up to
the next backup. F is a full backup, R one by rsync, I an incremental one, S a
snapshot. On a terminal, or with --window, it goes on with what can be restored: from
when to when on each timeline, and the WAL that is missing in between; in JSON that
is under _recoverable. The engine need not run.
` + fromHelp + `
With --from, "all", or no SERVER, is every server that has backups below URL.`,
		Example: "  holdfast list-backups main\n  holdfast list-backups --from s3://bucket/path\n  holdfast -f json list-backups all\n  holdfast list-backups main --window",
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("from") {
				return nil
			}
			return atLeastOne("SERVER")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.given() {
				return a.listFrom(cmd.Context(), args, minimal, window, o)
			}
			return a.listBackups(cmd.Context(), args, minimal, window)
		},
	}
	cmd.Flags().BoolVar(&window, "window", false, "tell what can be restored, too")
	cmd.Flags().BoolVar(&minimal, "minimal", false, "IDs only")
	a.fromFlags(cmd, &o)
	return cmd
}

func (a *app) listBackups(ctx context.Context, names []string, minimal, window bool) error {
	// Thousands of records stay until the end: collecting what is little garbage
	// again and again would take a tenth of the time.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	servers, err := a.usable(names)
	if err != nil {
		return err
	}
	for _, s := range servers {
		if minimal {
			err = a.listIDs(s)
		} else {
			err = a.listEntries(ctx, s, window)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) listIDs(s *config.Server) error {
	backups, warnings, err := catalog.Open(catalog.LayoutOf(s)).List()
	if err != nil {
		return err
	}
	a.warnAll(warnings)
	ids := make([]backup.ID, 0, len(backups))
	for _, b := range slices.Backward(backups) {
		ids = append(ids, b.ID)
	}
	a.json[s.Name] = ids
	return printLines(a, ids)
}

func (a *app) listEntries(ctx context.Context, s *config.Server, window bool) error {
	survey, err := catalog.Open(catalog.LayoutOf(s)).Survey()
	if err != nil {
		return err
	}
	var segments report.Segments
	var g errgroup.Group
	g.Go(func() (err error) {
		segments, err = segmentsOf(ctx, s)
		return err
	})
	backups, warnings := survey.List()
	if err := g.Wait(); err != nil {
		return err
	}
	a.warnAll(warnings)
	var entries []report.Entry
	g.Go(func() error {
		entries = report.List(backups, segments, time.Local)
		return nil
	})
	verdicts, err := disposal.Judge(survey, backups, disposal.PolicyOf(s), time.Now())
	if err := errors.Join(g.Wait(), err); err != nil {
		return err
	}
	for i := range entries {
		entries[i].Server, entries[i].Retention = s.Name, verdicts[entries[i].ID].Word
	}
	if a.format == "json" {
		objects := make([]report.Object, len(entries))
		for i, e := range entries {
			objects[i] = e.JSON()
		}
		a.json[s.Name] = objects
	}
	if err := printLines(a, entries); err != nil || !window {
		return err
	}
	w, err := windowOf(ctx, s, backups)
	if err != nil {
		return err
	}
	a.printWindow(s.Name, report.Recoverable{Zone: time.Local, Backups: backups, Window: w}.Rows())
	return nil
}

// printWindow prints what a server can be restored to.
func (a *app) printWindow(server string, rows []report.StatusRow) {
	a.print("Server %s:", server)
	all, _ := a.json[recoverableKey].(report.Object)
	if all == nil {
		all = report.Object{}
		a.json[recoverableKey] = all
	}
	all[server] = a.printRows(rows)
}

// recoverableKey is no name of a server.
const recoverableKey = "_recoverable"

// printLines prints an answer of many lines at once.
func printLines[T any](a *app, lines []T) error {
	if a.format == "json" || a.quiet {
		return nil
	}
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	for _, line := range lines {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return fault.Wrap(fault.Internal, "print", "", err)
		}
	}
	return fault.Wrap(fault.Internal, "print", "", out.Flush())
}

// segmentsOf reads which segments of a server are archived. A server that has
// never archived has none.
func segmentsOf(ctx context.Context, s *config.Server) (report.Segments, error) {
	if _, err := os.Stat(catalog.LayoutOf(s).XlogDB()); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	archive, err := archiveOf(s)
	if err != nil {
		return nil, err
	}
	var all []report.WAL
	err = archive.Each(ctx, func(e walarchive.Entry) error {
		all = append(all, report.WAL{Name: e.Name, Size: e.Size, Time: e.Time})
		return nil
	})
	return report.Sorted(all), err
}
