package main

import (
	"cmp"
	"context"
	"os"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/combinebackup"
	"github.com/holdfast-pg/holdfast/internal/restore"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// jobsFrom is how many objects are transferred at once, unless --jobs says it.
const jobsFrom = 4

// restoreFrom is restore from a store.
func (a *app) restoreFrom(ctx context.Context, o restoreOptions) error {
	began := time.Now()
	req, err := a.readRequest(o)
	if err == nil && req.GetWAL {
		req.RestoreWith, err = restoreCommand("wal-restore "+o.from.flags(), o.server, o.standby)
	}
	if err != nil {
		return err
	}
	b, err := o.from.bucket(ctx, o.server, checkPatience)
	if err != nil {
		return err
	}
	info, err := b.Resolve(ctx, o.backup)
	if err != nil {
		return err
	}
	if b, err = o.from.bucket(ctx, o.server, transferPatience); err != nil { // it is there: now it is worth waiting for
		return err
	}
	if info.Snapshots != nil {
		record, err := snapshot.FromBackupInfo(*info.Snapshots)
		if err != nil {
			return err
		}
		s := settingsOf(b.Server, record)
		if o.disks.create {
			return a.createDisks(ctx, s, info.ID, record, o.disks)
		}
		if err := o.disks.mountedSnapshots(ctx, s, info, record, req); err != nil {
			return err
		}
		req.Mounted = true
	} else if o.disks.given() {
		return noSnapshots(info)
	}
	parts, err := b.Chain(ctx, info)
	if err != nil {
		return err
	}
	req.Parents = parts[:len(parts)-1]
	opt := restore.Options{Jobs: cmp.Or(o.jobs, jobsFrom), Combine: restore.Combine{Mode: cmp.Or(o.combineMode, combinebackup.Copy), Staging: o.stagingPath}}
	plan, src, err := a.planFrom(ctx, b, parts, req, opt.Jobs)
	if err != nil {
		return err
	}
	if err := a.howToCombine(ctx, &opt.Combine, "", src); err != nil {
		return err
	}
	res, err := a.runRestore(ctx, src, plan, opt)
	if err != nil {
		return err
	}
	a.tellRestore(b.Server, info, plan, res, began)
	if os.Geteuid() == 0 {
		a.warn("the files belong to root, as whom PostgreSQL does not run: chown -R postgres %s", restored(plan))
	}
	return nil
}

// restored are the directories that a plan makes, for a shell.
func restored(plan *restoreplan.Plan) string {
	quoted := func(dir string) string { return "'" + strings.ReplaceAll(dir, "'", `'\''`) + "'" }
	dirs := []string{quoted(plan.Dest)}
	for _, t := range plan.Tablespaces {
		dirs = append(dirs, quoted(t.Dest))
	}
	return strings.Join(dirs, " ")
}

// planFrom looks at the objects and at the WAL of a backup, the last of parts.
func (a *app) planFrom(ctx context.Context, b *bucket.Bucket, parts []*backupinfo.Info, req restoreplan.Request, jobs int) (*restoreplan.Plan, restore.Source, error) {
	var sources []restore.Source
	since := ""
	info := parts[len(parts)-1]
	if info.BeginWAL != nil {
		since = *info.BeginWAL
	}
	w, err := b.WAL(ctx, since)
	if err != nil {
		return nil, restore.Source{}, err
	}
	plan, err := restoreplan.Make(info, req, w.ForRestore())
	if err != nil {
		return nil, restore.Source{}, err
	}
	if req.Mounted {
		label, err := b.Label(ctx, info.ID)
		return plan, restore.Source{Info: info, WAL: w, Snapshot: &restore.Snapshot{Label: label, Mounted: true}}, err
	}
	for _, part := range parts {
		objects, doubts, err := b.Restorable(ctx, part, jobs)
		if err != nil {
			return nil, restore.Source{}, err
		}
		for _, doubt := range doubts {
			a.warn("%v", doubt)
		}
		sources = append(sources, restore.Source{Info: part, Objects: objects})
	}
	src := sources[len(sources)-1]
	src.WAL, src.Parents = w, sources[:len(sources)-1]
	return plan, src, nil
}
