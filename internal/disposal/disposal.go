package disposal

import (
	"context"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/hook"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/retention"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

// Disposal deletes backups and WAL of one server.
type Disposal struct {
	Catalog *catalog.Catalog
	Archive *walarchive.Archive
	Policy  retention.Policy
	Hooks   *hook.Hooks
	// Snapshots deletes those of a backup that its record names, and others of it.
	Snapshots func(ctx context.Context, id backup.ID, record *snapshot.Record) error
	// Unlocked is fault.Refused while the provider keeps a snapshot from being deleted; nil asks nobody.
	Unlocked func(ctx context.Context, id backup.ID, record *snapshot.Record) error
}

// patience is for how long a deletion bears with an object store that does not answer.
const patience = 30 * time.Second

// Of is the disposal of a server, until ctx ends; stores opens the object
// stores that have its backups and WAL, if any have, and open the provider of its snapshots.
func Of(ctx context.Context, s *config.Server, stores objstore.Stores, open snapshot.Open) (*Disposal, error) {
	archive, err := walarchive.ForServer(s, stores)
	if err != nil {
		return nil, err
	}
	cat, err := bucket.Catalog(ctx, s, stores, &objstore.Policy{Patience: patience})
	if err != nil {
		return nil, err
	}
	return &Disposal{cat, archive, PolicyOf(s), hook.Of(s), SnapshotsOf(s, open), UnlockedOf(s, open)}, nil
}

// SnapshotsOf deletes snapshots that a server's settings make.
func SnapshotsOf(s *config.Server, open snapshot.Open) func(context.Context, backup.ID, *snapshot.Record) error {
	return func(ctx context.Context, id backup.ID, record *snapshot.Record) error {
		return deleteSnapshots(ctx, s, open, id, record)
	}
}

// UnlockedOf asks whether snapshots can be deleted.
func UnlockedOf(s *config.Server, open snapshot.Open) func(context.Context, backup.ID, *snapshot.Record) error {
	return func(ctx context.Context, id backup.ID, record *snapshot.Record) error {
		disks, err := openRecorded(ctx, s, open, id, record)
		if err != nil {
			return err
		}
		defer disks.Close()
		return snapshot.CheckUnlocked(ctx, disks.Provider, snapshot.OwnerOf(s), id)
	}
}

func deleteSnapshots(ctx context.Context, s *config.Server, open snapshot.Open, id backup.ID, record *snapshot.Record) error {
	disks, err := openRecorded(ctx, s, open, id, record)
	if err != nil {
		return err
	}
	defer disks.Close()
	return snapshot.RemoveAll(ctx, disks.Provider, snapshot.OwnerOf(s), id, record)
}

// openRecorded reaches the provider that a record names.
func openRecorded(ctx context.Context, s *config.Server, open snapshot.Open, id backup.ID, record *snapshot.Record) (*snapshot.Access, error) {
	if s.BackupMethod != config.MethodSnapshot || s.SnapshotProvider != record.Provider || s.SnapshotInstance != record.Info.Instance {
		return nil, fault.New(fault.Refused, "delete the snapshots of backup", string(id), "they are those of %s on %s, and server %s makes none of these now", record.Provider, record.Info.Instance, s.Name).
			WithHint("delete the backup while section [%s] has backup_method = snapshot, snapshot_provider = %s and snapshot_instance = %s", s.Name, record.Provider, record.Info.Instance)
	}
	return open(ctx, s)
}

// PolicyOf is the policy that a server's settings describe.
func PolicyOf(s *config.Server) retention.Policy {
	return retention.Policy{Retention: s.RetentionPolicy, Minimum: s.MinimumRedundancy, WORM: s.WORMMode}
}

// Plan is what the policy asks for, and what is left of interrupted deletions.
// It changes nothing.
func (d *Disposal) Plan(ctx context.Context, now time.Time) (*retention.Plan, error) {
	in, err := d.input(ctx, now, nil)
	if err != nil {
		return nil, err
	}
	return retention.Make(in), nil
}

// backups is what retention must know of all backups of a server.
func backups(cat *catalog.Catalog) ([]retention.Backup, error) {
	survey, err := cat.Survey()
	if err != nil {
		return nil, err
	}
	all, err := survey.All()
	if err != nil {
		return nil, err
	}
	return describe(survey, all)
}

// describe adds to listed backups those of whose deletion only the mark is left.
func describe(survey *catalog.Survey, list []*backupinfo.Info) ([]retention.Backup, error) {
	var marks map[backup.ID]catalog.Marks
	var orphans map[backup.ID]bool
	var g errgroup.Group
	g.Go(func() (err error) {
		marks, err = survey.Marks()
		return err
	})
	g.Go(func() (err error) {
		orphans, err = survey.Orphans(list)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := make([]retention.Backup, 0, len(list))
	for _, info := range list {
		b := of(info, marks[info.ID])
		b.Orphan = orphans[info.ID]
		if b.Snapshots {
			ours, err := survey.RecordsSnapshots(info.ID)
			if err != nil {
				return nil, err
			}
			b.Snapshots = !ours
		}
		delete(marks, info.ID)
		out = append(out, b)
	}
	for id, m := range marks {
		if m.Deleting {
			out = append(out, retention.Backup{ID: id, Status: backup.Failed, Deleting: true})
		}
	}
	return out, nil
}

// of is a backup as retention sees it.
func of(info *backupinfo.Info, m catalog.Marks) retention.Backup {
	b := retention.Of(info)
	b.Deleting = m.Deleting
	if m.Keep != "" {
		b.Keep = retention.Word("KEEP:" + strings.ToUpper(string(m.Keep)))
	}
	return b
}

// Judge gives the policy's word on backups that the survey listed.
func Judge(survey *catalog.Survey, list []*backupinfo.Info, p retention.Policy, now time.Time) (map[backup.ID]retention.Verdict, error) {
	var in []retention.Backup
	if !p.IsZero() {
		var err error
		if in, err = describe(survey, list); err != nil {
			return nil, err
		}
	}
	return retention.Judge(in, p, now), nil
}

func (d *Disposal) input(ctx context.Context, now time.Time, inUse map[backup.ID]string) (retention.Input, error) {
	in := retention.Input{Server: d.Catalog.Server, Policy: d.Policy, Now: now}
	var err error
	if in.Backups, err = backups(d.Catalog); err != nil {
		return in, err
	}
	for i, b := range in.Backups {
		in.Backups[i].InUse = inUse[b.ID]
	}
	if in.Histories, err = d.Archive.Histories(ctx); err != nil {
		return in, err
	}
	in.Names, err = d.Archive.Names(ctx)
	return in, err
}
