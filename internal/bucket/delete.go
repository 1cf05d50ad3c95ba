package bucket

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/retention"
)

// settled is how old the newest object of what is not finished must be before nobody
// can be thought to be at work on it: there are no locks between machines.
const settled = 24 * time.Hour

const opDelete = "delete backup"

// Deletion is what was deleted.
type Deletion struct {
	Plan    *retention.Plan // as it was carried out
	Deleted []backup.ID
	Objects int // of backups
	Uploads int // unfinished ones that were given up
	Files   int // of WAL
}

// doomed is a backup that is deleted.
type doomed struct {
	info     *backupinfo.Info // nil when it has no record
	contents *Contents
	uploads  []objstore.Upload
}

// Delete deletes backups with all that depend on them, everything below them included
// whoever put it there, and then the WAL that no backup left can use; or it refuses to.
// Every record says FAILED before the first other object goes, and goes last: what is
// interrupted is listed as FAILED, and the same call finishes it.
func (b *Bucket) Delete(ctx context.Context, ids []backup.ID, now time.Time) (*Deletion, error) {
	survey, err := b.Survey(ctx)
	if err != nil {
		return nil, err
	}
	if len(survey.Unreadable) > 0 {
		return nil, &fault.Error{Op: "read", Subject: "the catalogue of " + b.Server, Kind: fault.Corrupt, Err: survey.Unreadable[0],
			Hint: "mend or remove that object; nothing is deleted before, because that backup may need what would go"}
	}
	w, err := b.WAL(ctx, "")
	if err != nil {
		return nil, err
	}
	in, err := b.input(ctx, survey, ids, w, now)
	if err != nil {
		return nil, err
	}
	// Only what goes is looked at closely, and only then it is known who might be at work on it.
	plan, err := retention.Delete(in, ids)
	if err != nil {
		return nil, err
	}
	all := map[backup.ID]*doomed{}
	for _, id := range plan.Doomed {
		if all[id], err = b.look(ctx, survey, id); err != nil {
			return nil, err
		}
		if why := busy(all[id], now); why != "" {
			return nil, fault.New(fault.Refused, opDelete, string(id), "%s", why).
				WithHint("wait until it has ended; what is not finished is deleted when nothing was added for %d hours", int(settled.Hours()))
		}
		if err := b.refuseLocked(ctx, id, all[id].contents.Keys, now); err != nil {
			return nil, err
		}
		if info := all[id].info; consistsOfSnapshots(info) {
			if err := b.Disks.Unlocked(ctx, info); err != nil {
				return nil, err
			}
		}
	}
	if err := b.spareWAL(ctx, survey, plan, now); err != nil {
		return nil, err
	}
	return b.carryOut(ctx, plan, all, w)
}

// spareWAL lets no WAL be deleted while there may be a backup in the making that has no record
// yet: nobody knows where its WAL begins.
func (b *Bucket) spareWAL(ctx context.Context, s *Survey, plan *retention.Plan, now time.Time) error {
	for _, id := range s.Leftovers {
		if slices.Contains(plan.Doomed, id) {
			continue
		}
		d, err := b.look(ctx, s, id)
		if err != nil {
			return err
		}
		if why := busy(d, now); why != "" {
			plan.Files, plan.NoPurge = nil, fmt.Sprintf("of %s, %s", id, why)
			plan.Warnings = append(plan.Warnings, "no WAL is deleted: "+plan.NoPurge)
		}
	}
	return nil
}

// input is what is decided on.
func (b *Bucket) input(ctx context.Context, s *Survey, ids []backup.ID, w *WAL, now time.Time) (retention.Input, error) {
	in := retention.Input{Server: b.Server, Now: now, Histories: w.Histories, Names: w.Names()}
	kept, err := b.Kept(ctx, s.Backups)
	for _, info := range s.Backups {
		one := retention.Of(info)
		one.Snapshots = one.Snapshots && b.Disks == nil
		if target := kept[info.ID]; target != "" {
			one.Keep = retention.Word("KEEP:" + strings.ToUpper(string(target)))
		}
		in.Backups = append(in.Backups, one)
	}
	for _, id := range s.Leftovers {
		if slices.Contains(ids, id) {
			in.Backups = append(in.Backups, retention.Backup{ID: id, Status: backup.Failed})
		}
	}
	return in, err
}

// look lists what a backup has.
func (b *Bucket) look(ctx context.Context, s *Survey, id backup.ID) (*doomed, error) {
	d := &doomed{}
	if i := slices.IndexFunc(s.Backups, func(info *backupinfo.Info) bool { return info.ID == id }); i >= 0 {
		d.info = s.Backups[i]
	}
	var err error
	if d.contents, err = b.Contents(ctx, id); err != nil {
		return nil, err
	}
	if many, is := b.store.(objstore.Multipart); is {
		for u, err := range many.Uploads(ctx, b.dir(id)) {
			if err != nil {
				return nil, err
			}
			d.uploads = append(d.uploads, u)
		}
	}
	return d, nil
}

// consistsOfSnapshots is about a backup, nil when it has no record.
func consistsOfSnapshots(info *backupinfo.Info) bool { return info != nil && info.Snapshots != nil }

// busy says why somebody may be making the backup; "" when that cannot be.
func busy(d *doomed, now time.Time) string {
	if d.info != nil && (d.info.Status == backup.Done || d.info.Status == backup.Failed) {
		return ""
	}
	newest := d.contents.Newest.Modified
	for _, u := range d.uploads {
		if u.Begun.After(newest) {
			newest = u.Begun
		}
	}
	if now.Sub(newest) >= settled {
		return ""
	}
	state := "it has no backup.info"
	if d.info != nil {
		state = "it is " + string(d.info.Status)
	}
	return fmt.Sprintf("%s, and something was added at %s: it may be being made", state, newest.UTC().Format(time.RFC3339))
}

// refuseLocked refuses what the store would not delete, before anything is.
func (b *Bucket) refuseLocked(ctx context.Context, id backup.ID, keys []string, now time.Time) error {
	why, err := b.locked(ctx, keys, now)
	if err != nil || why == "" {
		return err
	}
	return fault.New(fault.Refused, opDelete, string(id), "%s", why).WithHint("it can be deleted then; there is no way to force it")
}

// locked says of one of the objects why it cannot be deleted, of the one that is locked for longest; "" when all can.
func (b *Bucket) locked(ctx context.Context, keys []string, now time.Time) (string, error) {
	locker, is := b.store.(objstore.Locker)
	if !is {
		return "", nil
	}
	var mu sync.Mutex
	var longest objstore.Lock
	var of string
	err := each(ctx, len(keys), func(ctx context.Context, i int) error {
		lock, err := locker.LockOf(ctx, keys[i])
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil || !lock.Locked(now) {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		if lock.Hold && !longest.Hold || lock.Hold == longest.Hold && lock.Until.After(longest.Until) || of == "" {
			longest, of = lock, keys[i]
		}
		return nil
	})
	switch {
	case err != nil || of == "":
		return "", err
	case longest.Hold:
		return of + " is locked by a legal hold, until somebody lifts it", nil
	}
	return fmt.Sprintf("%s is locked until %s (%s)", of, longest.Until.UTC().Format(time.RFC3339), longest.Mode), nil
}

func (b *Bucket) carryOut(ctx context.Context, plan *retention.Plan, all map[backup.ID]*doomed, w *WAL) (*Deletion, error) {
	done := &Deletion{Plan: plan}
	for _, id := range slices.Backward(plan.Doomed) { // what others depend on first: a chain goes as a whole
		if err := b.condemn(ctx, id); err != nil {
			return done, err
		}
	}
	for _, id := range plan.Doomed {
		if info := all[id].info; consistsOfSnapshots(info) {
			if err := b.Disks.Delete(ctx, info); err != nil {
				return done, err
			}
		}
		if err := b.empty(ctx, id, all[id], done); err != nil {
			return done, err
		}
	}
	purge := plan.Purge()
	if err := w.delete(ctx, purge); err != nil {
		return done, err
	}
	done.Files = len(purge)
	for _, id := range plan.Doomed {
		if err := b.disown(ctx, all[id].info); err != nil {
			return done, err
		}
		if err := b.store.Delete(ctx, b.recordKey(id)); err != nil {
			return done, err
		}
		done.Deleted = append(done.Deleted, id)
	}
	return done, nil
}

// condemned is what a record says whose objects are being deleted.
const condemned = "its deletion has begun and was not finished"

// condemn makes a backup FAILED, so that nobody takes what is left of it for a backup.
func (b *Bucket) condemn(ctx context.Context, id backup.ID) error {
	return b.change(ctx, id, func(info *backupinfo.Info) bool {
		if info.Status == backup.Failed {
			return false
		}
		text := condemned
		info.Status, info.Error = backup.Failed, &text
		return true
	})
}

// disown takes a backup from the children of its parent.
func (b *Bucket) disown(ctx context.Context, info *backupinfo.Info) error {
	if info == nil || info.Parent == nil {
		return nil
	}
	return b.change(ctx, *info.Parent, func(parent *backupinfo.Info) bool {
		before := len(parent.Children)
		parent.Children = slices.DeleteFunc(parent.Children, func(id backup.ID) bool { return id == info.ID })
		return len(parent.Children) < before
	})
}

// change rewrites a record; one that is not there has nothing to be changed.
func (b *Bucket) change(ctx context.Context, id backup.ID, do func(*backupinfo.Info) bool) error {
	info, _, err := b.record(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil || !do(info) {
		return err
	}
	_, err = b.store.Put(ctx, b.recordKey(id), strings.NewReader(string(info.Encode())), objstore.PutOptions{})
	return err
}

// empty deletes everything of a backup but its record. What appears meanwhile goes, too.
func (b *Bucket) empty(ctx context.Context, id backup.ID, d *doomed, done *Deletion) error {
	if many, is := b.store.(objstore.Multipart); is {
		for _, u := range d.uploads {
			if err := many.Abort(ctx, u); err != nil {
				return err
			}
			done.Uploads++
		}
	}
	for range 10 {
		objects, err := b.list(ctx, b.dir(id))
		if err != nil {
			return err
		}
		var keys []string
		for _, o := range objects {
			if o.Key != b.recordKey(id) {
				keys = append(keys, o.Key)
			}
		}
		if len(keys) == 0 {
			return nil
		}
		if err := b.store.Delete(ctx, keys...); err != nil {
			return err
		}
		done.Objects += len(keys)
	}
	return fault.New(fault.Conflict, opDelete, string(id), "objects appear below %s as fast as they are deleted", b.dir(id)).
		WithHint("end whatever writes there, and delete the backup again")
}
