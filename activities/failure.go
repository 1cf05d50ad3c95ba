package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/rsync"
	"github.com/holdfast-pg/holdfast/internal/ssh"
)

// AbortCopy ends whatever still writes for the attempts before ref's.
func (c *Catalogue) AbortCopy(ctx context.Context, ref Ref) error {
	return during(ctx, "ends the copy", func(ctx context.Context) error {
		s, err := c.Servers.Server(ref.Server)
		if err != nil {
			return err
		}
		cat := catalog.Open(catalog.LayoutOf(s))
		if _, err := claim(ctx, cat, ref, 0, false); err != nil {
			return err
		}
		return errors.Join(endStrays(ctx, s, cat, ref), c.abortCloud(ctx, s, ref), dropSnapshots(ctx, s, cat, ref.ID, c.Snapshots))
	})
}

// endStrays ends what a copy over ssh has left on the host of the cluster. One
// that cannot be reached keeps no backup from being recorded as FAILED.
func endStrays(ctx context.Context, s *config.Server, cat *catalog.Catalog, ref Ref) error {
	if s.BackupMethod != config.MethodRsync {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	host, err := os.Hostname()
	if err != nil {
		return fault.Wrap(fault.Internal, "ask for the name of", "this host", err)
	}
	link, err := ssh.Open(ctx, s.SSHCommand)
	if err != nil {
		activity.GetLogger(ctx).Warn("what the copy may have left on the host of the cluster was not looked for", "error", err)
		return nil
	}
	defer link.Close()
	return rsync.EndStrays(ctx, link, host, cat.WorkDir(ref.ID))
}

// Failure is why a backup failed.
type Failure struct {
	Phase     string `json:"phase,omitempty"`
	Message   string `json:"message"`
	Hint      string `json:"hint,omitempty"` // what to do
	Cancelled bool   `json:"cancelled"`
	Disk      bool   `json:"disk"` // for want of space
}

// RecordFailed marks a backup that is given up. What was copied stays until the
// backup is deleted, as with Barman, unless space is what it failed for.
func (c *Catalogue) RecordFailed(ctx context.Context, ref Ref, f Failure) error {
	return during(ctx, "records why the backup failed", func(ctx context.Context) error { return c.recordFailed(ctx, ref, f) })
}

func (c *Catalogue) recordFailed(ctx context.Context, ref Ref, f Failure) error {
	deleting, release, err := c.undisturbed(ctx, ref)
	if err != nil {
		return err
	}
	defer release()
	if deleting {
		return nil // whoever deletes it says so
	}
	cat, info, extra, err := c.load(ctx, ref)
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(f.Message, "\n")
	text := first
	if f.Phase != "" {
		text = fmt.Sprintf("failure in phase %s (%s)", f.Phase, first)
	}
	info.Status, info.Error, extra.FirstError, extra.Hint = backup.Failed, &text, f.Message, f.Hint
	if err := c.saveFailed(ctx, cat, info); err != nil {
		return err
	}
	if err := cat.SaveExtra(ref.ID, extra); err != nil {
		return err
	}
	if err := cat.Disown(info); err != nil {
		return err
	}
	if f.Disk {
		if err := dropFiles(cat, ref.ID); err != nil {
			return err
		}
	}
	return tidy(cat, ref.ID)
}

// saveFailed records a failure here, whatever becomes of the copy in an object store:
// that store may be what the backup failed for.
func (c *Catalogue) saveFailed(ctx context.Context, cat *catalog.Catalog, info *backupinfo.Info) error {
	err := cat.Save(info)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if here, readErr := cat.Get(info.ID); readErr != nil || here.Status != backup.Failed {
		return err
	}
	activity.GetLogger(ctx).Warn("the object store has no record of the failure", "error", err)
	return nil
}
