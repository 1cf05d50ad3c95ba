package disposal

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/flock"
	"github.com/holdfast-pg/holdfast/internal/hook"
	"github.com/holdfast-pg/holdfast/internal/retention"
)

// Result is what was done.
type Result struct {
	Plan    *retention.Plan // as it was carried out
	Deleted []backup.ID
	Files   int // of WAL
}

// Apply carries out a plan of the policy. It plans anew under the locks: what
// is deleted is what both plans delete. A backup that is being made holds
// Apply off with fault.Refused; backups that somebody reads stay.
func (d *Disposal) Apply(ctx context.Context, plan *retention.Plan, now time.Time) (*Result, error) {
	return d.carryOut(ctx, now, nil, func(in retention.Input) (*retention.Plan, error) {
		return restrict(retention.Make(in), plan), nil
	})
}

// Delete deletes backups that somebody asks for, with all that depend on them,
// or refuses to. In inUse the caller names who uses which backup without a lock.
func (d *Disposal) Delete(ctx context.Context, ids []backup.ID, inUse map[backup.ID]string, now time.Time) (*Result, error) {
	return d.carryOut(ctx, now, inUse, func(in retention.Input) (*retention.Plan, error) { return retention.Delete(in, ids) })
}

// FinishDeletions deletes what interrupted deletions have left, Barman's too.
func (d *Disposal) FinishDeletions(ctx context.Context, now time.Time) (*Result, error) {
	return d.carryOut(ctx, now, nil, func(in retention.Input) (*retention.Plan, error) { return retention.Finish(in), nil })
}

// PurgeAfterFirst removes WAL that no backup can use, when id is the first good
// backup of its server, and returns the names.
func (d *Disposal) PurgeAfterFirst(ctx context.Context, id backup.ID, now time.Time) ([]string, error) {
	in, err := d.input(ctx, now, nil)
	if err != nil {
		return nil, err
	}
	names := retention.AfterFirst(in, id).Purge()
	_, err = d.Archive.Delete(ctx, names)
	return names, err
}

// restrict keeps of a plan what another one agrees to.
func restrict(p, agreed *retention.Plan) *retention.Plan {
	p.Doomed = slices.DeleteFunc(p.Doomed, func(id backup.ID) bool { return !slices.Contains(agreed.Doomed, id) })
	for i, b := range p.Backups {
		if b.Delete && !slices.Contains(p.Doomed, b.ID) {
			p.Backups[i].Delete, p.Backups[i].Reason = false, "it was not to be deleted when the plan was made"
		}
	}
	purge := map[string]bool{}
	for _, name := range agreed.Purge() {
		purge[name] = true
	}
	for i, f := range p.Files {
		if f.Delete && !purge[f.Name] {
			p.Files[i].Delete, p.Files[i].Reason = false, "it was not to be deleted when the plan was made"
		}
	}
	return p
}

func (d *Disposal) carryOut(ctx context.Context, now time.Time, inUse map[backup.ID]string, decide func(retention.Input) (*retention.Plan, error)) (*Result, error) {
	lock, err := d.Catalog.LockBackup()
	if fault.Is(err, fault.Refused) {
		server := d.Catalog.Server
		return nil, fault.New(fault.Refused, "delete backups of", server, "a backup is being made or deleted: %w", err).
			WithHint("wait until that has ended (holdfast status %s), or end it (holdfast cancel %s); there is no way to force it", server, server)
	}
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	in, err := d.input(ctx, now, inUse)
	if err != nil {
		return nil, err
	}
	plan, err := decide(in)
	if err != nil {
		return nil, err
	}
	locks, again, err := d.lock(ctx, &in, plan)
	defer func() {
		for _, l := range locks {
			l.Release()
		}
	}()
	if err == nil && again {
		plan, err = decide(in)
	}
	if err != nil {
		return nil, err
	}
	res, err := d.run(ctx, plan)
	for _, id := range res.Deleted {
		err = errors.Join(err, locks[id].Discard())
		delete(locks, id)
	}
	return res, err
}

// lock takes the locks of the backups that a plan deletes, and of those whose
// later WAL it deletes. Busy ones are in use, and so is what an object store or the
// provider of snapshots has locked.
func (d *Disposal) lock(ctx context.Context, in *retention.Input, plan *retention.Plan) (locks map[backup.ID]*flock.Lock, again bool, err error) {
	locks = map[backup.ID]*flock.Lock{}
	for i, b := range in.Backups {
		if !slices.Contains(plan.Doomed, b.ID) && b.Keep != retention.KeepStandalone {
			continue
		}
		l, err := d.Catalog.LockID(b.ID)
		switch {
		case fault.Is(err, fault.Refused):
			in.Backups[i].InUse, again = "it is in use: "+err.Error(), true
		case err != nil:
			return locks, false, err
		default:
			locks[b.ID] = l
			if !slices.Contains(plan.Doomed, b.ID) {
				continue
			}
			why, err := d.locked(ctx, b)
			if err != nil {
				return locks, false, err
			}
			if why != "" {
				in.Backups[i].InUse, again = why, true
			}
		}
	}
	return locks, again, nil
}

// locked says what keeps the objects or the snapshots of a backup from being deleted; ""
// for nothing. A deletion that has begun finds that out of snapshots by itself.
func (d *Disposal) locked(ctx context.Context, b retention.Backup) (string, error) {
	if why, err := d.Catalog.Locked(b.ID); err != nil || why != "" || d.Unlocked == nil || b.Deleting {
		return why, err
	}
	extra, err := d.Catalog.Extra(b.ID)
	if err != nil || extra.Snapshots == nil {
		return "", err
	}
	if err = d.Unlocked(ctx, b.ID, extra.Snapshots); fault.Is(err, fault.Refused) {
		return err.Error(), nil
	}
	return "", err
}

// run deletes. Every backup is marked before the first one loses a file, the
// one that others depend on first: a chain is deleted as a whole in the end.
// Marks and records stay until WAL is purged, too.
func (d *Disposal) run(ctx context.Context, plan *retention.Plan) (*Result, error) {
	res := &Result{Plan: plan}
	events := map[backup.ID]hook.Event{}
	for _, id := range slices.Backward(plan.Doomed) {
		if err := d.Catalog.MarkDeleting(id); err != nil {
			return res, err
		}
	}
	for _, id := range plan.Doomed {
		if ctx.Err() != nil {
			return res, fault.New(fault.Cancelled, "delete backup", string(id), "it was interrupted and is finished later: %w", context.Cause(ctx))
		}
		if err := d.before(ctx, id, events); err != nil {
			return res, err
		}
		if err := d.Catalog.Condemn(id); err != nil {
			return res, err
		}
		if err := d.removeSnapshots(ctx, id); err != nil {
			return res, err
		}
		if err := d.Catalog.RemoveFiles(id); err != nil {
			return res, err
		}
	}
	n, err := d.Archive.Delete(ctx, plan.Purge())
	res.Files = n
	if err != nil {
		return res, err
	}
	for _, id := range plan.Doomed {
		if err := d.Catalog.Forget(id); err != nil {
			return res, err
		}
		res.Deleted = append(res.Deleted, id)
		if e, ok := events[id]; ok {
			if err := d.Hooks.After(ctx, e); err != nil {
				return res, err
			}
		}
	}
	if len(res.Deleted) == 0 {
		return res, nil
	}
	return res, d.Catalog.Resize(ctx, res.Deleted)
}

// removeSnapshots deletes what a backup consists of beside its files. A record that
// was forgotten says that they are gone.
func (d *Disposal) removeSnapshots(ctx context.Context, id backup.ID) error {
	extra, err := d.Catalog.Extra(id)
	if err != nil || extra.Snapshots == nil {
		return err
	}
	return d.Snapshots(ctx, id, extra.Snapshots)
}

// before runs the scripts before the deletion of a backup. One that says stop
// ends the deletion; it is tried again with the next one. A deletion that was
// interrupted has run its scripts when the backup's record is gone.
func (d *Disposal) before(ctx context.Context, id backup.ID, events map[backup.ID]hook.Event) error {
	if !d.Hooks.Has(hook.Delete) {
		return nil
	}
	info, err := d.Catalog.Get(id)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	e, err := hook.OfBackup(hook.Delete, d.Catalog, info)
	if err != nil {
		return err
	}
	events[id] = e
	return d.Hooks.Before(ctx, e)
}
