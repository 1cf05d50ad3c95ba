package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/disposal"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/report"
)

const references = `A backup is named by its ID, its name, or one of the words latest (last), oldest
(first), latest-full (last-full) and last-failed.`

func (a *app) cmdShowBackup() *cobra.Command {
	var o from
	cmd := &cobra.Command{
		Use: "show-backup SERVER BACKUP", Aliases: []string{"show-backups"}, Short: "Show everything that is known of a backup",
		Long:    "Shows one backup: its files, its WAL, its neighbours, and how it was proven.\n" + references + "\n" + fromHelp,
		Example: "  holdfast show-backup main latest\n  holdfast -f json show-backup main 20261123T023506\n  holdfast show-backup main latest --from s3://bucket/path",
		Args:    exactly("SERVER", "BACKUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.given() {
				return a.showFrom(cmd.Context(), args[0], args[1], o)
			}
			return a.showBackup(cmd.Context(), args[0], args[1])
		},
	}
	a.fromFlags(cmd, &o)
	return cmd
}

func (a *app) showBackup(ctx context.Context, name, ref string) error {
	s, cat, err := a.catalog(name)
	if err != nil {
		return err
	}
	info, err := cat.Resolve(ref)
	if err != nil {
		return err
	}
	b, err := surroundings(ctx, s, cat, info)
	if err != nil {
		return err
	}
	extra, err := cat.Extra(info.ID)
	if err != nil {
		a.warn("%v", err)
		extra = &catalog.Extra{}
	}
	if extra.Snapshots != nil && b.Snapshots == nil {
		v := extra.Snapshots.Value()
		b.Snapshots = &v
	}
	destinations, err := cat.Destinations(info.ID)
	if err != nil {
		a.warn("%v", err)
	}
	for _, d := range destinations {
		b.Destinations = append(b.Destinations, report.Destination(d))
	}
	a.json[s.Name] = b.JSON()
	if a.format == "json" || a.quiet {
		return nil
	}
	return report.WriteSections(a.stdout, "Backup "+string(info.ID), append(b.Sections(), ourSection(extra)...))
}

// surroundings collects what is told of a backup beside itself.
func surroundings(ctx context.Context, s *config.Server, cat *catalog.Catalog, info *backupinfo.Info) (report.Backup, error) {
	b := report.Backup{Info: info, Retention: "not enforced", Snapshots: info.Snapshots}
	survey, err := cat.Survey()
	if err != nil {
		return b, err
	}
	all, _ := survey.List()
	if !s.RetentionPolicy.IsZero() {
		verdicts, err := disposal.Judge(survey, all, disposal.PolicyOf(s), time.Now())
		if err != nil {
			return b, err
		}
		b.Retention = string(verdicts[info.ID].Word)
	}
	if b.Previous, err = cat.Previous(info.ID); err != nil {
		return b, err
	}
	if b.Next, err = cat.Next(info.ID); err != nil {
		return b, err
	}
	if b.Segments, err = segmentsOf(ctx, s); err != nil {
		return b, err
	}
	archive, err := archiveOf(s)
	if err != nil {
		return b, err
	}
	if b.Histories, err = archive.Histories(ctx); err != nil {
		return b, err
	}
	b.Chain, err = lineage(info, cat.Get)
	return b, err
}

// lineage lists the backups that an incremental one depends on, the full one
// first; it is empty for a full one, and when one of them is not there.
func lineage(info *backupinfo.Info, get func(backup.ID) (*backupinfo.Info, error)) ([]backup.ID, error) {
	if info.Parent == nil {
		return nil, nil
	}
	ids := []backup.ID{info.ID}
	for info.Parent != nil && !slices.Contains(ids, *info.Parent) {
		parent, err := get(*info.Parent)
		if fault.Is(err, fault.NotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		info = parent
		ids = append(ids, info.ID)
	}
	slices.Reverse(ids)
	return ids, nil
}

// readBack is what was compared before the backup was DONE.
func readBack(p *catalog.Proof) string {
	text := fmt.Sprintf("WAL %s to %s", p.WALFrom, p.WALTo)
	switch {
	case p.Objects > 0:
		return text
	case p.Unread:
		return fmt.Sprintf("nothing of %d complete snapshots, %s", p.Snapshots, text)
	case p.Snapshots > 0:
		return fmt.Sprintf("pg_control of %d complete snapshots, %s", p.Snapshots, text)
	}
	return fmt.Sprintf("%d files, %s, %s", p.Files, report.Size(p.Bytes), text)
}

// ourSection is what only Holdfast knows of a backup.
func ourSection(e *catalog.Extra) []report.Section {
	var rows []report.Row
	if e.Proof != nil {
		rows = append(rows,
			report.Row{Label: "Proven", Value: e.Proof.At.In(time.Local).Format("2006-01-02 15:04:05-07:00")},
			report.Row{Label: "Read back", Value: readBack(e.Proof)},
			report.Row{Label: "Manifest SHA-256", Value: e.Proof.ManifestSHA256})
		if e.Proof.Objects > 0 {
			rows = append(rows, report.Row{Label: "In the store", Value: fmt.Sprintf("%s, %s, as they were sent", count(int(e.Proof.Objects), "object"), report.Size(e.Proof.Bytes))},
				report.Row{Label: "Sent", Value: report.Size(e.Sent) + "; the store had or copied the rest"})
		}
	}
	if len(e.BadPages) > 0 {
		rows = append(rows, report.Row{Label: "Damaged pages", Value: strings.Join(e.BadPages, "; ")})
	}
	for _, t := range e.Attempts {
		text := t.Begun.In(time.Local).Format("2006-01-02 15:04:05-07:00")
		if t.Error != "" {
			text += ", ended by: " + t.Error
		}
		rows = append(rows, report.Row{Label: fmt.Sprintf("Attempt %d", t.Number), Value: text})
	}
	rows = append(rows, report.Row{Label: "First error", Value: e.FirstError}, report.Row{Label: "What to do", Value: e.Hint}, report.Row{Label: "Workflow", Value: e.WorkflowID})
	if e.Method == "" && len(e.Attempts) == 0 && e.Proof == nil {
		return nil
	}
	return []report.Section{{Title: "Holdfast information", Rows: rows}}
}
