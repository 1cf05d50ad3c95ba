package snapshot

import (
	"context"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Job is what Take makes.
type Job struct {
	Tag   Tag
	Disks []Disk
	// Last is the disk that is cut when all others are, "" for any order: a standby
	// is consistent from the minRecoveryPoint on that its pg_control had last.
	Last string
	// Until is the phase that all snapshots must have reached.
	Until Phase
	// Timeout bounds the wait for that; Pause is how long a look is apart from the next.
	Timeout, Pause time.Duration
	// Option is the one that sets the timeout.
	Option string
	// Said is told what is done; may be nil.
	Said func(string)
}

// Take makes a snapshot of each disk, those that are there already apart, and
// returns them in the order of the disks. Snapshots of other attempts at the
// backup are removed before, because nothing holds their session any more.
func Take(ctx context.Context, p Provider, j Job) ([]Snapshot, error) {
	have, err := j.adopt(ctx, p)
	if err != nil {
		return nil, err
	}
	if err := j.together(ctx, p, have); err != nil {
		return nil, err
	}
	for _, group := range j.groups(have) {
		made, err := CreateEach(ctx, p, j.Tag, group)
		if err == nil {
			err = j.enter(group, made, have)
		}
		if err != nil {
			return nil, err
		}
	}
	out := make([]Snapshot, len(j.Disks))
	for i, d := range j.Disks {
		out[i] = have[NameOf(d.Name, j.Tag.ID)]
	}
	return Await(ctx, p, j, out)
}

// adopt finds the snapshots of this attempt, one of each name, and removes others
// of the same backup.
func (j Job) adopt(ctx context.Context, p Provider) (map[string]Snapshot, error) {
	all, err := p.List(ctx, j.Tag.Owner)
	if err != nil {
		return nil, err
	}
	have := map[string]Snapshot{}
	twins := false
	for _, s := range all {
		if s.Tag.ID != j.Tag.ID {
			continue
		}
		if s.Tag.Attempt > j.Tag.Attempt {
			return nil, fault.New(fault.Superseded, "make snapshots for", j.Tag.String(), "attempt %d has begun", s.Tag.Attempt)
		}
		_, twice := have[s.Name]
		twins = twins || twice
		if s.Tag == j.Tag && !twice && s.Phase != Failed {
			have[s.Name] = s
			continue
		}
		if err := Remove(ctx, p, j.Tag.ID, s); err != nil {
			return nil, err
		}
	}
	// Disks that share a file system are of one set, or of no use.
	if names, _ := spanned(j.Disks); names != nil && (twins || len(have) < len(j.Disks)) {
		for _, s := range have {
			if err := Remove(ctx, p, j.Tag.ID, s); err != nil {
				return nil, err
			}
		}
		return map[string]Snapshot{}, nil
	}
	last := NameOf(j.Last, j.Tag.ID)
	if s, early := have[last]; early && j.Last != "" && len(have) < len(j.Disks) {
		if err := Remove(ctx, p, j.Tag.ID, s); err != nil {
			return nil, err
		}
		delete(have, last)
	}
	return have, nil
}

// groups are the disks that are to be cut: each group at the same time, one after
// the other.
func (j Job) groups(have map[string]Snapshot) [][]Disk {
	var first, last []Disk
	for _, d := range j.Disks {
		switch _, there := have[NameOf(d.Name, j.Tag.ID)]; {
		case there:
		case d.Name == j.Last:
			last = append(last, d)
		default:
			first = append(first, d)
		}
	}
	return slices.DeleteFunc([][]Disk{first, last}, func(g []Disk) bool { return len(g) == 0 })
}

// atOnce is how many calls may be under way.
const atOnce = 16

// CreateEach makes a snapshot of each disk, many at once.
func CreateEach(ctx context.Context, p Provider, tag Tag, disks []Disk) ([]Snapshot, error) {
	made := make([]Snapshot, len(disks))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, d := range disks {
		g.Go(func() (err error) {
			made[i], err = p.Create(ctx, tag, d)
			return err
		})
	}
	return made, g.Wait()
}

// together makes all snapshots at the same moment, where that is possible; then none has
// to be the last.
func (j Job) together(ctx context.Context, p Provider, have map[string]Snapshot) error {
	if len(have) > 0 || len(j.Disks) < 2 {
		return nil
	}
	a, can := p.(Atomic)
	if !can {
		return RefuseSpans(j.Disks)
	}
	made, err := a.CreateSet(ctx, j.Tag, j.Disks)
	if err != nil {
		return err
	}
	if len(made) == 0 {
		return RefuseSpans(j.Disks)
	}
	return j.enter(j.Disks, made, have)
}

// enter adds what was made of disks to what there is.
func (j Job) enter(disks []Disk, made []Snapshot, have map[string]Snapshot) error {
	for i, d := range disks {
		if made[i].Phase == Failed {
			return failed(made[i])
		}
		// What is deleted by its name must have it.
		if want := NameOf(d.Name, j.Tag.ID); made[i].Name != want || made[i].ID == "" || made[i].Phase == "" {
			return fault.New(fault.Tool, "make a snapshot of", d.Name, "the provider calls it %q (%q, %q), not %q", made[i].Name, made[i].ID, made[i].Phase, want)
		}
		have[made[i].Name] = made[i]
	}
	return nil
}

func failed(s Snapshot) error {
	return fault.New(fault.Tool, "make snapshot", s.Name, "the provider says that it failed: %s", s.Why)
}

// Await returns when all snapshots have reached the job's phase. One question is
// asked for all of them.
func Await(ctx context.Context, p Provider, j Job, made []Snapshot) ([]Snapshot, error) {
	for deadline := time.Now().Add(j.Timeout); ; {
		var waiting []string
		for _, s := range made {
			if s.Phase == Failed {
				return nil, failed(s)
			}
			if !s.Phase.reached(j.Until) {
				waiting = append(waiting, s.Name)
			}
		}
		if len(waiting) == 0 {
			return made, nil
		}
		if time.Now().After(deadline) {
			return nil, fault.New(fault.Unavailable, "wait for snapshots", strings.Join(waiting, ", "), "they were not %s within %s", j.Until, j.Timeout).
				WithHint("look what keeps the provider, or raise %s", j.Option)
		}
		if j.Said != nil {
			j.Said("waits for the snapshots " + strings.Join(waiting, ", "))
		}
		select {
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Cancelled, "wait for snapshots", strings.Join(waiting, ", "), context.Cause(ctx))
		case <-time.After(min(j.Pause, max(time.Until(deadline), 0))):
		}
		all, err := p.List(ctx, j.Tag.Owner)
		if err != nil && !fault.Is(err, fault.Connection) {
			return nil, err
		}
		for i, s := range made {
			if at := slices.IndexFunc(all, func(o Snapshot) bool { return o.ID == s.ID }); at >= 0 {
				made[i] = all[at]
			}
		}
	}
}

// Fenced is a provider whose writes run inside do, which refuses them once
// somebody else has taken over. It locks as p does.
func Fenced(p Provider, do func(func() error) error) Provider {
	f := fenced{p, do}
	if a, can := p.(Atomic); can {
		return fencedSet{f, a}
	}
	return f
}

type fenced struct {
	Provider
	do func(func() error) error
}

func (f fenced) Create(ctx context.Context, tag Tag, d Disk) (s Snapshot, err error) {
	err = f.do(func() (err error) {
		s, err = f.Provider.Create(ctx, tag, d)
		return err
	})
	return s, err
}

func (f fenced) Delete(ctx context.Context, s Snapshot) error {
	return f.do(func() error { return f.Provider.Delete(ctx, s) })
}

// Lock is Locker's; a provider that has no locks returns the snapshot as it is.
func (f fenced) Lock(ctx context.Context, s Snapshot) (Snapshot, error) {
	l, can := f.Provider.(Locker)
	if !can {
		return s, nil
	}
	err := f.do(func() (err error) {
		s, err = l.Lock(ctx, s)
		return err
	})
	return s, err
}

// Locks is Locker's; it changes nothing.
func (f fenced) Locks(ctx context.Context, list []Snapshot) ([]Snapshot, error) {
	if l, can := f.Provider.(Locker); can {
		return l.Locks(ctx, list)
	}
	return list, nil
}

type fencedSet struct {
	fenced
	set Atomic
}

func (f fencedSet) CreateSet(ctx context.Context, tag Tag, disks []Disk) (made []Snapshot, err error) {
	err = f.do(func() (err error) {
		made, err = f.set.CreateSet(ctx, tag, disks)
		return err
	})
	return made, err
}
