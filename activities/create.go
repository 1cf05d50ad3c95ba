package activities

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// CreateBackup enters a new backup and returns its ID, which is the time at
// which the activity was scheduled, in seconds and in local time.
func (c *Catalogue) CreateBackup(ctx context.Context, req Request, plan Plan) (backup.ID, error) {
	var id backup.ID
	err := during(ctx, "enters the backup into the catalogue", func(ctx context.Context) (err error) {
		id, err = c.create(ctx, req, plan)
		return err
	})
	return id, err
}

func (c *Catalogue) create(ctx context.Context, req Request, plan Plan) (backup.ID, error) {
	cat, err := c.open(ctx, req.Server)
	if err != nil {
		return "", err
	}
	s, err := c.Servers.Server(req.Server)
	if err != nil {
		return "", err
	}
	if err := cat.EnsureIdentity(catalog.Identity{SystemID: plan.SystemID, Version: fmt.Sprint(postgres.Major(plan.Version))}); err != nil {
		return "", err
	}
	if plan.Parent != "" {
		// Deletions hold this lock, so the parent is either gone now, or its child
		// is known to every later deletion.
		lock, err := cat.AwaitBackup(ctx)
		if err != nil {
			return "", err
		}
		defer lock.Release()
		if _, err := manifestOf(cat, plan.Parent); err != nil {
			return "", err
		}
	}
	run := activity.GetInfo(ctx).WorkflowExecution
	for at := activity.GetInfo(ctx).ScheduledTime.Local(); ; at = at.Add(time.Second) {
		id := backup.NewID(at)
		extra, err := cat.Extra(id)
		if err != nil {
			return "", err
		}
		mine, missing := cat.Get(id)
		if extra.RunID == run.RunID && missing == nil {
			return id, cat.Adopt(mine)
		}
		if missing == nil || extra.RunID != "" && extra.RunID != run.RunID {
			continue
		}
		if req.Name != "" {
			if err := cat.CheckName(req.Name); err != nil {
				return "", err
			}
		}
		extra.WorkflowID, extra.RunID, extra.Method = run.ID, run.RunID, plan.Method
		if err := cat.SaveExtra(id, extra); err != nil {
			return "", err
		}
		if err := noteDestinations(s, cat, id); err != nil {
			return "", err
		}
		info := &backupinfo.Info{ID: id, ServerName: req.Server, Status: backup.Empty, Mode: &plan.Mode, SystemID: &plan.SystemID, Version: &plan.Version}
		if req.Name != "" {
			info.BackupName = &req.Name
		}
		if plan.Parent != "" {
			info.Parent = &plan.Parent
		}
		if err := cat.Create(info); err != nil {
			if fault.Is(err, fault.Conflict) {
				continue
			}
			return "", err
		}
		return id, cat.Adopt(info)
	}
}

// noteDestinations records where a new backup goes, if that is more than one place.
func noteDestinations(s *config.Server, cat *catalog.Catalog, id backup.ID) error {
	d, err := bucket.Destinations(s)
	if err != nil || d == nil {
		return err
	}
	if there, err := cat.Destinations(id); err != nil || there != nil {
		return err // of an earlier try
	}
	return cat.SaveDestinations(id, d)
}
