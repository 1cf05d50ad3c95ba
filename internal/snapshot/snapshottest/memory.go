package snapshottest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pylit"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// Memory is a provider whose snapshots are nothing but entries of a list.
type Memory struct {
	Names []string
	// Begin is the phase of a new snapshot; Completed when it is "".
	Begin snapshot.Phase
	// Hook may fail a call; op is create, list, lock or delete, what a disk or a snapshot.
	Hook func(op, what string) error
	// LockFor makes Lock lock a snapshot for so long; 0 for not at all.
	LockFor time.Duration

	mu    sync.Mutex
	all   []snapshot.Snapshot
	count int
	Log   []string // what was called, in order
}

// Disks is Provider's.
func (m *Memory) Disks(context.Context) ([]snapshot.Disk, error) {
	var out []snapshot.Disk
	for _, n := range m.Names {
		out = append(out, snapshot.Disk{Name: n, Path: n, Mount: n, Options: "rw"})
	}
	return out, nil
}

func (m *Memory) called(ctx context.Context, op, what string) error {
	if ctx.Err() != nil {
		return fault.Wrap(fault.Cancelled, op, what, context.Cause(ctx))
	}
	m.mu.Lock()
	m.Log = append(m.Log, op+" "+what)
	m.mu.Unlock()
	if m.Hook == nil {
		return nil
	}
	return m.Hook(op, what)
}

// Create is Provider's.
func (m *Memory) Create(ctx context.Context, tag snapshot.Tag, d snapshot.Disk) (snapshot.Snapshot, error) {
	if err := m.called(ctx, "create", d.Name); err != nil {
		return snapshot.Snapshot{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count++
	s := snapshot.Snapshot{Tag: tag, Name: snapshot.NameOf(d.Name, tag.ID), ID: fmt.Sprintf("snap-%d", m.count), Phase: m.Begin}
	if s.Phase == "" {
		s.Phase = snapshot.Completed
	}
	m.all = append(m.all, s)
	return s, nil
}

// List is Provider's.
func (m *Memory) List(ctx context.Context, owner string) ([]snapshot.Snapshot, error) {
	if err := m.called(ctx, "list", owner); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.all), func(s snapshot.Snapshot) bool { return s.Tag.Owner != owner }), nil
}

// Lock is Locker's.
func (m *Memory) Lock(ctx context.Context, s snapshot.Snapshot) (snapshot.Snapshot, error) {
	if m.LockFor == 0 {
		return s, nil
	}
	if err := m.called(ctx, "lock", s.Name); err != nil {
		return s, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	at := slices.IndexFunc(m.all, func(o snapshot.Snapshot) bool { return o.ID == s.ID })
	if m.all[at].Lock == nil {
		m.all[at].Lock = &snapshot.Lock{Mode: "governance", Until: time.Now().Add(m.LockFor)}
	}
	return m.all[at], nil
}

// Locks is Locker's.
func (m *Memory) Locks(_ context.Context, list []snapshot.Snapshot) ([]snapshot.Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := slices.Clone(list)
	for i, s := range out {
		if at := slices.IndexFunc(m.all, func(o snapshot.Snapshot) bool { return o.ID == s.ID }); at >= 0 {
			out[i].Lock = m.all[at].Lock
		}
	}
	return out, nil
}

// SnapshotsInfo is Informer's.
func (m *Memory) SnapshotsInfo(_ context.Context, disks []snapshot.Disk, made []snapshot.Snapshot) (pylit.Value, error) {
	var list []pylit.Value
	for i, d := range disks {
		mode := pylit.Value{}
		if made[i].Lock != nil {
			mode = pylit.Str(made[i].Lock.Mode)
		}
		list = append(list, pylit.D(
			pylit.P("mount", pylit.D(pylit.P("mount_options", pylit.Str(d.Options)), pylit.P("mount_point", pylit.Str(d.Mount)))),
			pylit.P("provider", pylit.D(pylit.P("device_name", pylit.Str(d.Device)), pylit.P("snapshot_id", pylit.Str(made[i].ID)),
				pylit.P("snapshot_name", pylit.Str(made[i].Name)), pylit.P("snapshot_lock_mode", mode)))))
	}
	return pylit.D(pylit.P("provider", pylit.Str("memory")), pylit.P("provider_info", pylit.D()), pylit.P("snapshots", pylit.L(list...))), nil
}

// Delete is Provider's.
func (m *Memory) Delete(ctx context.Context, s snapshot.Snapshot) error {
	if err := m.called(ctx, "delete", s.Name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all = slices.DeleteFunc(m.all, func(o snapshot.Snapshot) bool { return o.ID == s.ID })
	return nil
}

// Reach puts all snapshots into a phase.
func (m *Memory) Reach(p snapshot.Phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.all {
		m.all[i].Phase = p
	}
}

// Expire ends all locks.
func (m *Memory) Expire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.all {
		m.all[i].Lock = nil
	}
}

// IDs are those of all snapshots.
func (m *Memory) IDs() (out []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.all {
		out = append(out, s.ID)
	}
	return out
}
