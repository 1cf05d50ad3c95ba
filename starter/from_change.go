package main

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/providers"
)

// keepFrom is keep in a store.
func (a *app) keepFrom(ctx context.Context, name, ref string, o keepOptions) error {
	b, err := o.from.bucket(ctx, name, checkPatience)
	if err != nil {
		return err
	}
	info, err := b.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	switch {
	case o.status:
		kept, err := b.Keep(ctx, info.ID)
		if err == nil {
			a.tellKept(b.Server, kept)
		}
		return err
	case o.release:
		if err := b.Release(ctx, info.ID); err != nil {
			return err
		}
		a.say("Backup %s of server %s is left to the retention policy.", info.ID, b.Server)
		return nil
	}
	if err := b.SetKeep(ctx, info.ID, catalog.KeepTarget(o.target)); err != nil {
		return err
	}
	a.say("Backup %s of server %s is kept (%s).", info.ID, b.Server, o.target)
	return nil
}

// deleteFrom is delete in a store.
func (a *app) deleteFrom(ctx context.Context, name string, refs []string, o from) error {
	b, err := o.bucket(ctx, name, checkPatience)
	if err != nil {
		return err
	}
	survey, err := b.Survey(ctx)
	if err != nil {
		return err
	}
	var ids []backup.ID
	for _, ref := range refs {
		if slices.Contains(survey.Leftovers, backup.ID(ref)) {
			ids = append(ids, backup.ID(ref))
			continue
		}
		info, err := b.Choose(survey, ref)
		if err != nil {
			return err
		}
		ids = append(ids, info.ID)
	}
	b.Disks = recordedDisks{b.Server}
	done, err := b.Delete(ctx, ids, time.Now())
	if done != nil {
		a.tellDeletion(b.Server, done.Plan, done.Deleted, done.Files)
	}
	if err != nil && ctx.Err() != nil {
		return fault.New(fault.Cancelled, "delete backups of", b.Server, "it was interrupted; what was begun is listed as FAILED").
			WithHint("give the command again")
	}
	return err
}

// recordedDisks are the snapshots that records name, wherever those are.
type recordedDisks struct{ server string }

// Unlocked implements bucket.Disks.
func (d recordedDisks) Unlocked(ctx context.Context, info *backupinfo.Info) error {
	return d.with(ctx, info, snapshot.CheckRecordUnlocked)
}

// Delete implements bucket.Disks.
func (d recordedDisks) Delete(ctx context.Context, info *backupinfo.Info) error {
	return d.with(ctx, info, func(ctx context.Context, p snapshot.Provider, r *snapshot.Record) error {
		return snapshot.RemoveRecorded(ctx, p, info.ID, r)
	})
}

func (d recordedDisks) with(ctx context.Context, info *backupinfo.Info, do func(context.Context, snapshot.Provider, *snapshot.Record) error) error {
	record, err := snapshot.FromBackupInfo(*info.Snapshots)
	if err != nil {
		return err
	}
	disks, err := providers.OpenHere(ctx, settingsOf(d.server, record))
	if err != nil {
		return err
	}
	defer disks.Close()
	return do(ctx, disks.Provider, record)
}
