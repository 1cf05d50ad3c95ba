package main

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/window"
)

// listFrom is list-backups of a store.
func (a *app) listFrom(ctx context.Context, names []string, minimal, window bool, o from) error {
	if len(names) == 0 || slices.Contains(names, allServers) {
		store, _, err := o.open(ctx, checkPatience)
		if err != nil {
			return err
		}
		if names, err = bucket.Servers(ctx, store); err != nil {
			return err
		}
		if len(names) == 0 {
			a.warn("no server has backups below %s: it is what comes before SERVER/base", o.url)
		}
	}
	for _, name := range names {
		b, err := o.bucket(ctx, name, checkPatience)
		if err == nil {
			err = a.listBucket(ctx, b, minimal, window)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) listBucket(ctx context.Context, b *bucket.Bucket, minimal, window bool) error {
	survey, err := b.Survey(ctx)
	if err != nil {
		return err
	}
	a.warnAll(survey.Warnings)
	for _, err := range survey.Unreadable {
		a.warnOf(err)
	}
	if minimal {
		ids := make([]backup.ID, 0, len(survey.Backups))
		for _, info := range slices.Backward(survey.Backups) {
			ids = append(ids, info.ID)
		}
		a.json[b.Server] = ids
		return printLines(a, ids)
	}
	for _, id := range survey.Leftovers {
		a.warn("%s/%s/base/%s has no backup.info: it failed, is being made, or was deleted by half", b.URL, b.Server, id)
	}
	if err := b.Measure(ctx, survey.Backups); err != nil {
		return err
	}
	w, err := b.WAL(ctx, "")
	if err != nil {
		return err
	}
	entries := report.List(survey.Backups, segmentsIn(w), time.Local)
	objects := make([]report.Object, len(entries))
	for i, e := range entries {
		objects[i] = e.JSON()
	}
	a.json[b.Server] = objects
	if err := printLines(a, entries); err != nil || !window {
		return err
	}
	return a.windowIn(ctx, b, survey.Backups, w)
}

// segmentsIn are the listed segments, as reports want them.
func segmentsIn(w *bucket.WAL) report.Segments {
	var all []report.WAL
	w.Each(func(name string, o objstore.Object) {
		all = append(all, report.WAL{Name: name, Size: o.Size, Time: float64(o.Modified.Unix())})
	})
	return report.Sorted(all)
}

// windowIn tells what can be restored.
func (a *app) windowIn(ctx context.Context, b *bucket.Bucket, backups []*backupinfo.Info, w *bucket.WAL) error {
	in := window.Input{Backups: backups, Standalone: map[backup.ID]bool{}, Segments: window.NewSegments(window.SegmentSize(backups)), Histories: w.Histories}
	written := map[string]time.Time{}
	w.Each(func(name string, o objstore.Object) {
		in.Segments.Add(name)
		written[name] = o.Modified
	})
	in.Written = func(name string) time.Time { return written[name] }
	kept, err := b.Kept(ctx, backups)
	if err != nil {
		return err
	}
	for id, target := range kept {
		in.Standalone[id] = target == catalog.KeepStandalone
	}
	result := window.Compute(in)
	a.printWindow(b.Server, report.Recoverable{Zone: time.Local, Backups: backups, Window: &result}.Rows())
	return nil
}

// showFrom is show-backup of a store.
func (a *app) showFrom(ctx context.Context, name, ref string, o from) error {
	b, err := o.bucket(ctx, name, checkPatience)
	if err != nil {
		return err
	}
	survey, err := b.Survey(ctx)
	if err != nil {
		return err
	}
	info, err := b.Choose(survey, ref)
	if err != nil {
		return err
	}
	if err := b.Measure(ctx, []*backupinfo.Info{info}); err != nil {
		return err
	}
	contents, err := b.Contents(ctx, info.ID)
	if err != nil {
		return err
	}
	kept, err := b.Keep(ctx, info.ID)
	if err != nil {
		return err
	}
	w, err := b.WAL(ctx, "")
	if err != nil {
		return err
	}
	all := report.Backup{Info: info, Retention: "not enforced", Snapshots: info.Snapshots, Segments: segmentsIn(w), Histories: w.Histories,
		Previous: catalog.Before(info.ID, survey.Backups), Next: catalog.After(info.ID, survey.Backups)}
	if all.Chain, err = lineage(info, func(id backup.ID) (*backupinfo.Info, error) { return b.Get(ctx, id) }); err != nil {
		return err
	}
	a.json[b.Server] = all.JSON()
	if a.format == "json" || a.quiet {
		return nil
	}
	rows := []report.Row{{Label: "URL", Value: b.URL + "/" + b.Server + "/base/" + string(info.ID)},
		{Label: "Objects", Value: count(len(contents.Keys), "object")}, {Label: "Kept", Value: string(kept)},
		{Label: "Not of a backup", Value: join(contents.Unknown)}}
	return report.WriteSections(a.stdout, "Backup "+string(info.ID), append(all.Sections(), report.Section{Title: "Store information", Rows: rows}))
}
