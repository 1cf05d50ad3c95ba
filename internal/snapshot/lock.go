package snapshot

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Lock keeps a snapshot from being deleted by anybody.
type Lock struct {
	Mode  string    `json:"mode"` // as the provider calls it
	Until time.Time `json:"until"`
}

// Locker is a provider that can lock snapshots. Its List tells their locks.
type Locker interface {
	// Lock locks a completed snapshot as the configuration says, and returns it with
	// its lock; without such a setting it returns it as it is. One that is locked
	// already is fine.
	Lock(ctx context.Context, s Snapshot) (Snapshot, error)
	// Locks returns snapshots with the locks that hold now. One that is not there has none.
	Locks(ctx context.Context, list []Snapshot) ([]Snapshot, error)
}

// LockAll locks snapshots where their provider can.
func LockAll(ctx context.Context, p Provider, made []Snapshot) ([]Snapshot, error) {
	l, can := p.(Locker)
	if !can {
		return made, nil
	}
	out := slices.Clone(made)
	for i, s := range made {
		var err error
		if out[i], err = l.Lock(ctx, s); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// CheckUnlocked refuses to go on when a snapshot of a backup cannot be deleted yet.
func CheckUnlocked(ctx context.Context, p Provider, owner string, id backup.ID) error {
	if _, can := p.(Locker); !can {
		return nil
	}
	all, err := p.List(ctx, owner)
	if err != nil {
		return err
	}
	return refuseLocked(slices.DeleteFunc(all, func(s Snapshot) bool { return s.Tag.ID != id }))
}

// refuseLocked is about the one that is locked for longest.
func refuseLocked(all []Snapshot) error {
	var last *Snapshot
	for i, s := range all {
		if s.locked() && (last == nil || s.Lock.Until.After(last.Lock.Until)) {
			last = &all[i]
		}
	}
	if last == nil {
		return nil
	}
	return last.refuse()
}

// CheckRecordUnlocked is CheckUnlocked for the snapshots that a record names, whoever made them.
func CheckRecordUnlocked(ctx context.Context, p Provider, r *Record) error {
	l, can := p.(Locker)
	if !can {
		return nil
	}
	all, err := l.Locks(ctx, r.made())
	if err != nil {
		return err
	}
	return refuseLocked(all)
}

func (s Snapshot) locked() bool { return s.Lock != nil && time.Now().Before(s.Lock.Until) }

func (s Snapshot) refuse() error {
	free := s.Lock.Until.UTC().Format("2006-01-02 15:04:05Z")
	return fault.New(fault.Refused, "delete snapshot", s.Name, "it is locked (%s) until %s", s.Lock.Mode, free).
		WithHint("delete the backup after %s; the backup stays until then", free)
}
