package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/disposal"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/keeper"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

// Maintenance has the activities that keep a server's backups in order between
// backups. Each may be repeated, and killed at any moment.
type Maintenance struct {
	Servers Servers
	Stores  objstore.Stores
	// Running tells whether the workflow run of an owner still runs.
	Running func(keeper.Owner) (bool, error)
	// Exclusive connects to a server that may be in exclusive backup mode.
	Exclusive ConnectExclusive
	Snapshots snapshot.Open
}

// Arrived is what became of WAL that others delivered, and that was streamed.
type Arrived struct {
	Archived int      `json:"archived"`
	Warnings []string `json:"warnings,omitempty"`
}

// mostNames bounds what is told of one kind of trouble.
const mostNames = 5

// ArchiveArrived archives what was delivered or streamed.
func (m *Maintenance) ArchiveArrived(ctx context.Context, server string) (Arrived, error) {
	var out Arrived
	err := during(ctx, "archives the WAL that arrived", func(ctx context.Context) error {
		s, err := m.Servers.Server(server)
		if err != nil {
			return err
		}
		if err := catalog.LayoutOf(s).EnsureDirs(); err != nil {
			return err
		}
		archive, err := walarchive.ForServer(s, m.Stores)
		if err != nil {
			return err
		}
		in, err := archive.ArchiveArrived(ctx, time.Now())
		if fault.Is(err, fault.Refused) {
			return nil // another archiver is at work
		}
		out.Archived = len(in.Archived)
		dir := catalog.LayoutOf(s).ErrorsDir
		for what, names := range map[string][]string{"other content under an archived name": in.Conflicts, "no WAL": in.Unknown} {
			if n := len(names); n > 0 {
				out.Warnings = append(out.Warnings, fmt.Sprintf("%d files were moved to %s (%s): %v", n, dir, what, names[:min(n, mostNames)]))
			}
		}
		slices.Sort(out.Warnings)
		return err
	})
	return out, err
}

// EndAbandoned marks as FAILED each backup that was begun and that nobody works
// for any more, and returns their IDs. It leaves no server in exclusive backup
// mode.
func (m *Maintenance) EndAbandoned(ctx context.Context, server string) ([]backup.ID, error) {
	var ended []backup.ID
	err := during(ctx, "looks for abandoned backups", func(ctx context.Context) error {
		if err := m.unowned(server, unfinished, func(s *config.Server, cat *catalog.Catalog, info *backupinfo.Info, extra *catalog.Extra) error {
			done, err := m.giveUp(ctx, s, cat, info.ID, extra)
			if done {
				ended = append(ended, info.ID)
			}
			return err
		}); err != nil {
			return err
		}
		return m.leaveBackupMode(ctx, server)
	})
	return ended, err
}

// unfinished reports whether the copy of a backup is not complete.
func unfinished(info *backupinfo.Info) bool {
	return info.Status == backup.Empty || info.Status == backup.Started
}

// waiting reports whether a backup waits for WAL, and is known to need some.
func waiting(info *backupinfo.Info) bool {
	return info.Status == backup.WaitingForWALs && info.BeginWAL != nil && info.EndWAL != nil && info.SegmentSize != nil
}

// giveUp marks a backup as FAILED, unless somebody holds the server's backup
// lock: then a backup runs, perhaps this one, by Barman.
func (m *Maintenance) giveUp(ctx context.Context, s *config.Server, cat *catalog.Catalog, id backup.ID, extra *catalog.Extra) (bool, error) {
	lock, err := cat.LockBackup()
	if fault.Is(err, fault.Refused) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer lock.Release()
	// Who had the lock a moment ago may have finished the backup.
	info, err := cat.Get(id)
	if err != nil || !unfinished(info) {
		return false, err
	}
	ref := Ref{Request: Request{Server: s.Name}, ID: id, Attempt: 1}
	if n := len(extra.Attempts); n > 0 {
		ref.Attempt = extra.Attempts[n-1].Number + 1
	}
	if extra.RunID != "" {
		if _, err := claim(ctx, cat, ref, afterCopy, false); err != nil {
			return false, err
		}
		if err := endStrays(ctx, s, cat, ref); err != nil {
			return false, err
		}
		// A host that cannot be reached keeps no backup from being FAILED; the doctor finds what is left.
		if err := dropSnapshots(ctx, s, cat, id, m.Snapshots); err != nil {
			activity.GetLogger(ctx).Warn("the snapshots of an abandoned backup were not removed", "backup", id, "error", err)
		}
	}
	c := Catalogue{Servers: m.Servers, Stores: m.Stores, Snapshots: m.Snapshots}
	return true, c.recordFailed(ctx, ref, Failure{Message: "abandoned: what took this backup ended without saying how"})
}

// ReadyToProve lists the backups that wait for WAL which is there now, and
// that no workflow works for.
func (m *Maintenance) ReadyToProve(ctx context.Context, server string) ([]backup.ID, error) {
	var ready []backup.ID
	err := during(ctx, "looks whether WAL arrived that backups wait for", func(ctx context.Context) error {
		return m.unowned(server, waiting, func(s *config.Server, _ *catalog.Catalog, info *backupinfo.Info, _ *catalog.Extra) error {
			archive, err := walarchive.ForServer(s, m.Stores)
			if err != nil {
				return err
			}
			missing, err := archive.Missing(ctx, *info.BeginWAL, *info.EndWAL, *info.SegmentSize)
			if err == nil && len(missing) == 0 {
				ready = append(ready, info.ID)
			}
			return err
		})
	})
	return ready, err
}

// unowned calls f for every backup that is wanted and that no workflow of ours
// works for.
func (m *Maintenance) unowned(server string, wanted func(*backupinfo.Info) bool, f func(*config.Server, *catalog.Catalog, *backupinfo.Info, *catalog.Extra) error) error {
	s, err := m.Servers.Server(server)
	if err != nil {
		return err
	}
	cat := catalog.Open(catalog.LayoutOf(s))
	all, _, err := cat.List()
	if err != nil {
		return err
	}
	for _, info := range all {
		if !wanted(info) {
			continue
		}
		extra, err := cat.Extra(info.ID)
		if err != nil {
			return err
		}
		if extra.RunID != "" {
			busy, err := m.Running(keeper.Owner{WorkflowID: extra.WorkflowID, RunID: extra.RunID})
			if err != nil {
				return err
			}
			if busy {
				continue
			}
		}
		if err := f(s, cat, info, extra); err != nil {
			return err
		}
	}
	return nil
}

// Retained is what the retention policy did.
type Retained struct {
	Deleted  []backup.ID `json:"deleted,omitempty"`
	Purged   int         `json:"purged,omitempty"` // WAL files
	Warnings []string    `json:"warnings,omitempty"`
	Behind   []backup.ID `json:"behind,omitempty"` // of those that stay, those that a destination lacks
}

// ApplyRetention finishes interrupted deletions and applies the retention
// policy. While a backup or another deletion runs, it leaves that to the next
// maintenance.
func (m *Maintenance) ApplyRetention(ctx context.Context, server string) (Retained, error) {
	var out Retained
	err := during(ctx, "applies the retention policy", func(ctx context.Context) error {
		s, err := m.Servers.Server(server)
		if err != nil {
			return err
		}
		d, err := disposal.Of(ctx, s, m.Stores, m.Snapshots)
		if err != nil {
			return err
		}
		plan, err := d.Plan(ctx, time.Now())
		if err != nil {
			return err
		}
		res, err := d.Apply(ctx, plan, time.Now())
		if res != nil {
			out = Retained{Deleted: res.Deleted, Purged: res.Files, Warnings: res.Plan.Warnings}
			out.Warnings = out.Warnings[:min(len(out.Warnings), mostNames)]
		}
		if fault.Is(err, fault.Refused) {
			err = nil
		}
		var behindErr error
		out.Behind, behindErr = behind(s)
		return cmp.Or(err, behindErr)
	})
	return out, err
}

// behind lists the complete backups that a destination lacks.
func behind(s *config.Server) (out []backup.ID, err error) {
	if len(s.HoldfastReplicas) == 0 {
		return nil, nil
	}
	cat := catalog.Open(catalog.LayoutOf(s))
	all, _, err := cat.List()
	for _, info := range all {
		is, err := toCatchUp(s, cat, info.ID)
		if err != nil {
			return out, err
		}
		if is {
			out = append(out, info.ID)
		}
	}
	return out, err
}

// SweepLeftovers removes temporary files that a killed process left in the
// catalogue and in the WAL archive, and mends what it left half recorded.
func (m *Maintenance) SweepLeftovers(ctx context.Context, server string) error {
	return during(ctx, "clears up after killed processes", func(context.Context) error {
		s, err := m.Servers.Server(server)
		if err != nil {
			return err
		}
		archive, err := walarchive.ForServer(s, m.Stores)
		if err != nil {
			return err
		}
		now := time.Now()
		if err := archive.Sweep(now, leftoverAge); err != nil {
			return err
		}
		cat := catalog.Open(catalog.LayoutOf(s))
		return errors.Join(cat.Sweep(now, leftoverAge), mendChildren(cat))
	})
}

// mendChildren leaves it to the next maintenance while a backup or a deletion is at work.
func mendChildren(cat *catalog.Catalog) error {
	lock, err := cat.LockBackup()
	if fault.Is(err, fault.Refused) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Release()
	return cat.MendChildren()
}

// leftoverAge is the age from which on nobody writes a temporary file any more.
const leftoverAge = time.Hour
