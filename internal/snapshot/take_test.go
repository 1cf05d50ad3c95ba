package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/snapshottest"
)

func TestMemory(t *testing.T) {
	snapshottest.Suite{Open: func(*testing.T, snapshot.Host) snapshot.Provider {
		return &snapshottest.Memory{Names: []string{"/a", "/b"}}
	}}.Run(t)
}

// bench is a provider in memory and a job for its disks.
func bench(t *testing.T, names ...string) (*snapshottest.Memory, snapshot.Job) {
	m := &snapshottest.Memory{Names: names}
	disks, err := m.Disks(t.Context())
	require.NoError(t, err)
	return m, snapshot.Job{Tag: snapshot.Tag{Owner: "main", ID: "20260101T000000", Attempt: 2}, Disks: disks, Until: snapshot.Completed, Timeout: time.Minute, Pause: time.Millisecond, Option: "the_timeout"}
}

func (ids) of(t *testing.T, p snapshot.Provider, job snapshot.Job) []string {
	t.Helper()
	made, err := snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	var out []string
	for i, s := range made {
		assert.Equal(t, snapshot.NameOf(job.Disks[i].Name, job.Tag.ID), s.Name)
		out = append(out, s.ID)
	}
	return out
}

type ids struct{}

// TestTakeAdoptsItsOwn: those of the same attempt stay, others of the backup go,
// and those of other backups are not touched.
func TestTakeAdoptsItsOwn(t *testing.T) {
	m, job := bench(t, "a", "b", "c")
	create := func(attempt int, id string, d int) {
		tag := job.Tag
		tag.Attempt = attempt
		if id != "" {
			tag.ID = "20250101T000000"
		}
		_, err := m.Create(t.Context(), tag, job.Disks[d])
		require.NoError(t, err)
	}
	create(1, "", 0)      // snap-1: of a lost session
	create(2, "", 1)      // snap-2: ours
	create(2, "", 1)      // snap-3: ours twice, of a call whose answer was lost
	create(1, "other", 0) // snap-4
	assert.Equal(t, []string{"snap-5", "snap-2", "snap-6"}, sorted(ids{}.of(t, m, job)))
	assert.ElementsMatch(t, []string{"snap-2", "snap-4", "snap-5", "snap-6"}, m.IDs())
	assert.Equal(t, []string{"snap-2"}, ids{}.of(t, m, snapshot.Job{Tag: job.Tag, Disks: job.Disks[1:2], Until: snapshot.Completed}))
	job.Tag.Attempt = 1
	_, err := snapshot.Take(t.Context(), m, job)
	assert.Equal(t, fault.Superseded, fault.KindOf(err), "%v", err)
}

// sorted puts the two new IDs, which are made at the same time, into order.
func sorted(got []string) []string {
	if got[0] > got[2] {
		got[0], got[2] = got[2], got[0]
	}
	return got
}

// TestTakeCutsLast: the disk that has to be last is cut when all others are, also
// when a killed predecessor has cut it before them.
func TestTakeCutsLast(t *testing.T) {
	m, job := bench(t, "data", "b", "c")
	job.Last = "data"
	_, err := m.Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err)
	ids{}.of(t, m, job)
	assert.Equal(t, []string{"create data", "list main", "delete data-20260101t000000"}, m.Log[:3])
	assert.ElementsMatch(t, []string{"create b", "create c"}, m.Log[3:5])
	assert.Equal(t, []string{"create data"}, m.Log[5:])
	m.Log = nil
	ids{}.of(t, m, job)
	assert.Equal(t, []string{"list main"}, m.Log)
}

// TestTakeInParallel: sixteen disks are cut at the same time.
func TestTakeInParallel(t *testing.T) {
	var names []string
	for i := range 16 {
		names = append(names, fmt.Sprint("d", i))
	}
	m, job := bench(t, names...)
	var all sync.WaitGroup
	all.Add(16)
	m.Hook = func(op, _ string) error {
		if op == "create" {
			all.Done()
			all.Wait()
		}
		return nil
	}
	ids{}.of(t, m, job)
}

// TestAwait: one question for all, until the phase is there.
func TestAwait(t *testing.T) {
	m, job := bench(t, "a", "b")
	m.Begin, job.Until = snapshot.Pending, snapshot.Cut
	var said []string
	job.Said = func(text string) { said = append(said, text) }
	lists := 0
	m.Hook = func(op, _ string) error {
		if op != "list" {
			return nil
		}
		switch lists++; lists {
		case 3:
			return fault.New(fault.Connection, "ask", "the provider", "it is away")
		case 5:
			m.Reach(snapshot.Cut)
		}
		return nil
	}
	ids{}.of(t, m, job)
	assert.Equal(t, 5, lists)
	assert.Equal(t, "waits for the snapshots a-20260101t000000, b-20260101t000000", said[0])
	job.Until, job.Timeout = snapshot.Completed, 10*time.Millisecond
	_, err := snapshot.Take(t.Context(), m, job)
	assert.ErrorContains(t, err, "they were not completed within 10ms")
	assert.Contains(t, fault.HintOf(err), "the_timeout")
	ctx, cancel := context.WithCancel(t.Context())
	job.Timeout, job.Said = time.Hour, func(string) { cancel() }
	_, err = snapshot.Take(ctx, m, job)
	assert.Equal(t, fault.Cancelled, fault.KindOf(err))
}

// TestFailedSnapshot: one that has failed is told of, and replaced by the next try.
func TestFailedSnapshot(t *testing.T) {
	m, job := bench(t, "a")
	m.Begin = snapshot.Failed
	_, err := snapshot.Take(t.Context(), m, job)
	assert.ErrorContains(t, err, "make snapshot a-20260101t000000")
	m.Begin = snapshot.Completed
	assert.Equal(t, []string{"snap-2"}, ids{}.of(t, m, job), "a failed one is replaced")
	assert.Equal(t, []string{"snap-2"}, m.IDs())
}

// TestErrorsOfCalls: the first error is the one that is told.
func TestErrorsOfCalls(t *testing.T) {
	full := fault.New(fault.Disk, "make a snapshot of", "b", "quota")
	for _, op := range []string{"list", "create", "delete"} {
		m, job := bench(t, "a", "b")
		_, err := m.Create(t.Context(), snapshot.Tag{Owner: "main", ID: job.Tag.ID, Attempt: 1}, job.Disks[0])
		require.NoError(t, err)
		m.Hook = func(o, what string) error {
			if o == op && (o != "create" || what == "b") {
				return full
			}
			return nil
		}
		_, err = snapshot.Take(t.Context(), m, job)
		require.ErrorIs(t, err, full, op)
	}
}

// TestFenced: nothing is made or removed once somebody else has taken over.
func TestFenced(t *testing.T) {
	m, job := bench(t, "a")
	over := errors.New("superseded")
	p := snapshot.Fenced(m, func(func() error) error { return over })
	_, err := snapshot.Take(t.Context(), p, job)
	require.ErrorIs(t, err, over)
	require.ErrorIs(t, p.Delete(t.Context(), snapshot.Snapshot{}), over)
	assert.Empty(t, slices.DeleteFunc(m.Log, func(s string) bool { return strings.HasPrefix(s, "list") }))
}

// TestRemoveAll: of all attempts, and what the record names; never anything else.
func TestRemoveAll(t *testing.T) {
	m, job := bench(t, "a", "b")
	ids{}.of(t, m, job)
	foreign := job.Tag
	foreign.ID = "20250101T000000"
	_, err := m.Create(t.Context(), foreign, job.Disks[0])
	require.NoError(t, err)
	record := &snapshot.Record{Snapshots: []snapshot.RecordedDisk{
		{Provider: snapshot.RecordedSnapshot{ID: "snap-1", Name: "a-20260101t000000"}}, {Provider: snapshot.RecordedSnapshot{ID: "elsewhere", Name: "x-20260101T000000"}}}}
	m.Log = nil
	require.NoError(t, snapshot.RemoveAll(t.Context(), m, "main", job.Tag.ID, record))
	assert.Equal(t, []string{"snap-3"}, m.IDs())
	assert.Contains(t, m.Log, "delete x-20260101T000000")
	record.Snapshots[0].Provider.Name = "precious"
	err = snapshot.RemoveAll(t.Context(), m, "main", job.Tag.ID, record)
	assert.Equal(t, fault.Refused, fault.KindOf(err), "%v", err)
}

func TestNames(t *testing.T) {
	for disk, want := range map[string]string{"/srv/pg data": "srv-pg-data-20260101t000000", "tank/pg": "tank-pg-20260101t000000", "/": "root-20260101t000000", "/-x": "x-20260101t000000", "vg/lv_1.a": "vg-lv_1.a-20260101t000000"} {
		assert.Equal(t, want, snapshot.NameOf(disk, "20260101T000000"))
	}
	assert.NoError(t, snapshot.CheckNames([]string{"/a", "/b"}))
	assert.ErrorContains(t, snapshot.CheckNames([]string{"/a/b", "/a-b"}), "/a-b")
	for _, bad := range []string{"", "20260101T000000", "20260101T000000.0", "x.1", "20260101T000000.1.2"} {
		_, err := snapshot.ParseTag("o", bad)
		assert.Error(t, err, bad)
	}
	tag := snapshot.Tag{Owner: "o", ID: "20260101T000000", Attempt: 12}
	got, err := snapshot.ParseTag("o", tag.String())
	assert.NoError(t, err)
	assert.Equal(t, tag, got)
}
