// Package snapshottest has what every provider of snapshots must do, and one that
// keeps them in memory, for tests.
package snapshottest

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// Suite is a provider under test. It must have two disks, and no snapshots of the
// suite's owners.
type Suite struct {
	// Open makes the provider anew, which runs its programs on h.
	Open func(t *testing.T, h snapshot.Host) snapshot.Provider
	// Host has the disks; nil when the provider runs no programs.
	Host snapshot.Host
}

// The backups and the owners of the suite.
const (
	owner   = "main-00000000"
	another = "main-11111111"
	first   = backup.ID("20260101T000000")
	second  = backup.ID("20260101T000001")
)

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	t.Run("made and listed", s.made)
	t.Run("attempts", s.attempts)
	t.Run("cancelled", s.cancelled)
	if s.Host != nil {
		t.Run("lost answer", s.lostAnswer)
		t.Run("refused", s.refused)
	}
}

// open returns the provider and its disks, and removes in the end what was made.
func (s Suite) open(t *testing.T) (snapshot.Provider, *Bent, []snapshot.Disk) {
	t.Helper()
	bent := &Bent{Host: s.Host}
	p := s.Open(t, bent)
	disks, err := p.Disks(t.Context())
	require.NoError(t, err)
	require.Len(t, disks, 2)
	t.Cleanup(func() {
		for _, o := range []string{owner, another} {
			all, err := p.List(context.Background(), o)
			assert.NoError(t, err)
			for _, one := range all {
				assert.NoError(t, p.Delete(context.Background(), one))
			}
			all, err = p.List(context.Background(), o)
			assert.NoError(t, err)
			assert.Empty(t, all, "everything could be removed")
		}
	})
	return p, bent, disks
}

func list(t *testing.T, p snapshot.Provider, owner string) map[string]snapshot.Snapshot {
	t.Helper()
	all, err := p.List(t.Context(), owner)
	require.NoError(t, err)
	out := map[string]snapshot.Snapshot{}
	for _, s := range all {
		require.NotContains(t, out, s.ID, "IDs are unique")
		out[s.ID] = s
	}
	return out
}

func (s Suite) made(t *testing.T) {
	p, _, disks := s.open(t)
	for i, d := range disks {
		assert.NotEmpty(t, d.Path)
		assert.NotEmpty(t, d.Mount)
		assert.NotEmpty(t, d.Options)
		tag := snapshot.Tag{Owner: owner, ID: first, Attempt: 1}
		one, err := p.Create(t.Context(), tag, d)
		require.NoError(t, err)
		assert.Equal(t, tag, one.Tag)
		assert.Equal(t, snapshot.NameOf(d.Name, first), one.Name)
		have := list(t, p, owner)
		assert.Len(t, have, i+1)
		assert.Equal(t, one, have[one.ID])
	}
	_, err := p.Create(t.Context(), snapshot.Tag{Owner: another, ID: second, Attempt: 1}, disks[0])
	require.NoError(t, err)
	assert.Len(t, list(t, p, owner), 2, "owners do not see each other's")
	for _, one := range list(t, p, another) {
		require.NoError(t, p.Delete(t.Context(), one))
		require.NoError(t, p.Delete(t.Context(), one), "what is not there is fine")
		bad := one
		bad.ID, bad.Name = disks[0].Path, "anything"
		assert.Error(t, snapshot.Remove(t.Context(), p, second, bad), "only what ends with the ID of the backup is removed")
	}
	assert.Len(t, list(t, p, owner), 2)
}

// attempts: a name is used again once the attempt before has lost it.
func (s Suite) attempts(t *testing.T) {
	p, _, disks := s.open(t)
	old, err := p.Create(t.Context(), snapshot.Tag{Owner: owner, ID: first, Attempt: 1}, disks[0])
	require.NoError(t, err)
	require.NoError(t, p.Delete(t.Context(), old))
	tag := snapshot.Tag{Owner: owner, ID: first, Attempt: 2}
	one, err := p.Create(t.Context(), tag, disks[0])
	require.NoError(t, err)
	assert.Equal(t, tag, list(t, p, owner)[one.ID].Tag)
}

func (s Suite) cancelled(t *testing.T) {
	p, _, disks := s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Create(ctx, snapshot.Tag{Owner: owner, ID: first, Attempt: 1}, disks[0])
	require.Error(t, err)
	_, err = p.List(ctx, owner)
	require.Error(t, err)
	assert.Empty(t, list(t, p, owner))
}

// lostAnswer: what was made although nobody was told is found, and not made twice.
func (s Suite) lostAnswer(t *testing.T) {
	p, bent, disks := s.open(t)
	job := snapshot.Job{Tag: snapshot.Tag{Owner: owner, ID: first, Attempt: 1}, Disks: disks, Until: snapshot.Completed}
	lost := fault.New(fault.Connection, "reach", "the host", "the connection ended")
	bent.After(lost)
	_, err := p.Create(t.Context(), job.Tag, disks[0])
	require.ErrorIs(t, err, lost)
	assert.Equal(t, fault.Connection, fault.KindOf(err))
	require.Len(t, list(t, p, owner), 1)
	made, err := snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	assert.Len(t, made, 2)
	assert.Len(t, list(t, p, owner), 2)
}

// refused: what a program complains of has its kind, and nothing is made.
func (s Suite) refused(t *testing.T) {
	p, bent, disks := s.open(t)
	for said, kind := range map[string]fault.Kind{
		"x: No space left on device": fault.Disk, "x: Operation not permitted": fault.Permission, "sh: 1: x: not found": fault.Tool, "x: no reason": fault.Tool,
	} {
		exit := &command.ExitError{Program: "/bin/sh", Code: 1, Stderr: said}
		bent.Instead(exit)
		_, err := p.Create(t.Context(), snapshot.Tag{Owner: owner, ID: first, Attempt: 1}, disks[0])
		require.ErrorIs(t, err, exit)
		assert.Equal(t, kind, fault.KindOf(err), said)
		assert.Equal(t, said == "x: no reason", fault.HintOf(err) == "", said)
		assert.ErrorContains(t, err, disks[0].Name, "the disk is named")
	}
	bent.Instead(&command.ExitError{Program: "/bin/sh", Code: -1, Signal: "killed"})
	_, err := p.Create(t.Context(), snapshot.Tag{Owner: owner, ID: first, Attempt: 1}, disks[0])
	assert.Equal(t, fault.Crashed, fault.KindOf(err))
	assert.Empty(t, list(t, p, owner))
}

// Bent is a host that fails once when it is told to.
type Bent struct {
	snapshot.Host

	mu             sync.Mutex
	instead, after error
}

// Instead makes the next script fail, which is not run.
func (b *Bent) Instead(err error) { b.mu.Lock(); defer b.mu.Unlock(); b.instead = err }

// After makes the next script fail that is run to its end.
func (b *Bent) After(err error) { b.mu.Lock(); defer b.mu.Unlock(); b.after = err }

// Run is Host's.
func (b *Bent) Run(ctx context.Context, script string, out io.Writer) error {
	b.mu.Lock()
	instead, after := b.instead, b.after
	b.instead, b.after = nil, nil
	b.mu.Unlock()
	if instead != nil {
		return instead
	}
	return errors.Join(b.Host.Run(ctx, script, out), after)
}
