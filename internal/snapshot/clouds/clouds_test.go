package clouds

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/snapshottest"
)

// TestMain makes the test the program, with a provider in its memory.
func TestMain(m *testing.M) {
	self, err := os.Executable()
	if err == nil {
		err = os.Setenv("GORACE", "atexit_sleep_ms=0") // the program ends when it is told to
	}
	if err == nil && filepath.Base(os.Args[0]) == Program {
		err = Serve(open)
	} else if err == nil {
		link := filepath.Join(filepath.Dir(self), Program)
		if err = os.Symlink(self, link); err == nil {
			code := m.Run()
			_ = os.Remove(link)
			os.Exit(code)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const tooBusy = "the region is too busy"

// cloud is a provider with all abilities. Disks of some names make trouble.
type cloud struct {
	snapshottest.Memory
}

func open(_ context.Context, s *config.Server, host snapshot.Host) (snapshot.Provider, error) {
	if s.SnapshotInstance == "unknown" {
		return nil, fault.New(fault.NotFound, "look at instance", s.SnapshotInstance, "there is none in %s", s.AWSRegion).WithHint("set snapshot_instance")
	}
	c := &cloud{}
	c.Names, c.LockFor = s.SnapshotDisks, time.Hour
	if h, is := host.(snapshot.Here); !is || h.PathPrefix != s.PathPrefix {
		return nil, fmt.Errorf("the host is %v", host)
	}
	return c, nil
}

func (c *cloud) Create(ctx context.Context, tag snapshot.Tag, d snapshot.Disk) (snapshot.Snapshot, error) {
	switch d.Name {
	case "busy":
		return snapshot.Snapshot{}, fault.Wrap(fault.Internal, "make a snapshot of", d.Name, fault.New(fault.Connection, "ask", "EC2", tooBusy).WithHint("wait"))
	case "plain":
		return snapshot.Snapshot{}, errors.New("no kind")
	case "slow":
		<-ctx.Done()
		_, err := c.Memory.Create(context.WithoutCancel(ctx), tag, d)
		return snapshot.Snapshot{}, errors.Join(ctx.Err(), err)
	case "crash":
		panic("a driver's mistake")
	case "exit":
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(3)
	}
	return c.Memory.Create(ctx, tag, d)
}

func (c *cloud) CreateSet(ctx context.Context, tag snapshot.Tag, disks []snapshot.Disk) ([]snapshot.Snapshot, error) {
	return snapshot.CreateEach(ctx, c, tag, disks)
}

func (c *cloud) Attached(_ context.Context, instance string) ([]snapshot.AttachedDisk, error) {
	return []snapshot.AttachedDisk{{Disk: snapshot.Disk{Name: instance, Device: "/dev/b c"}, Source: "snap-0"}}, nil
}

func (c *cloud) CreateDisk(_ context.Context, instance string, s snapshot.Snapshot) (snapshot.AttachedDisk, error) {
	return snapshot.AttachedDisk{Disk: snapshot.Disk{Name: instance + s.Name}, Source: s.ID}, nil
}

var tag = snapshot.Tag{Owner: "main-00000000", ID: "20260101T000000", Attempt: 1}

// start starts the program for a server that is reached here.
func start(t *testing.T, provider string, disks ...string) snapshot.Provider {
	t.Helper()
	s := &config.Server{Name: "main"}
	s.SnapshotProvider, s.SnapshotInstance, s.SnapshotDisks, s.PathPrefix = provider, "pg", disks, "/opt/bin"
	p, closed, err := Start(t.Context(), s, true)
	require.NoError(t, err)
	t.Cleanup(closed)
	return p
}

func TestSuite(t *testing.T) {
	snapshottest.Suite{Open: func(t *testing.T, _ snapshot.Host) snapshot.Provider { return start(t, "gcp", "a", "b c") }}.Run(t)
}

// TestAbilities: each provider has its own, and what comes back is what was given.
func TestAbilities(t *testing.T) {
	google := start(t, "gcp", "a")
	_, locks := google.(snapshot.Locker)
	_, sets := google.(snapshot.Atomic)
	assert.False(t, locks || sets)

	p := start(t, "aws", "a", "b").(amazon)
	disks, err := p.Disks(t.Context())
	require.NoError(t, err)
	made, err := p.CreateSet(t.Context(), tag, disks)
	require.NoError(t, err)
	require.Len(t, made, 2)
	locked, err := p.Lock(t.Context(), made[1])
	require.NoError(t, err)
	require.NotNil(t, locked.Lock)
	have, err := p.List(t.Context(), tag.Owner)
	require.NoError(t, err)
	at := slices.IndexFunc(have, func(s snapshot.Snapshot) bool { return s.ID == locked.ID })
	require.NotNil(t, have[at].Lock)
	assert.True(t, have[at].Lock.Until.Equal(locked.Lock.Until))

	again, err := p.Locks(t.Context(), made)
	require.NoError(t, err)
	assert.Nil(t, again[0].Lock)
	assert.NotNil(t, again[1].Lock)

	want, err := (&snapshottest.Memory{}).SnapshotsInfo(t.Context(), disks, []snapshot.Snapshot{made[0], locked})
	require.NoError(t, err)
	info, err := p.SnapshotsInfo(t.Context(), disks, []snapshot.Snapshot{made[0], locked})
	require.NoError(t, err)
	assert.Equal(t, want.String(), info.String())

	attached, err := p.Attached(t.Context(), "other")
	require.NoError(t, err)
	assert.Equal(t, []snapshot.AttachedDisk{{Disk: snapshot.Disk{Name: "other", Device: "/dev/b c"}, Source: "snap-0"}}, attached)
	disk, err := p.CreateDisk(t.Context(), "other", made[0])
	require.NoError(t, err)
	assert.Equal(t, snapshot.AttachedDisk{Disk: snapshot.Disk{Name: "other" + made[0].Name}, Source: made[0].ID}, disk)
}

// TestErrors keep their texts, kinds and hints, and the program goes on.
func TestErrors(t *testing.T) {
	p := start(t, "aws")
	_, err := p.Create(t.Context(), tag, snapshot.Disk{Name: "busy"})
	assert.EqualError(t, err, "make a snapshot of busy: ask EC2: "+tooBusy)
	assert.Equal(t, fault.Connection, fault.KindOf(err))
	assert.Equal(t, "wait", fault.HintOf(err))
	_, err = p.Create(t.Context(), tag, snapshot.Disk{Name: "plain"})
	assert.EqualError(t, err, "no kind")
	assert.Equal(t, fault.Internal, fault.KindOf(err))
	_, err = p.List(t.Context(), tag.Owner)
	assert.NoError(t, err)

	s := &config.Server{Name: "main"}
	s.SnapshotProvider, s.SnapshotInstance, s.AWSRegion = "aws", "unknown", "eu-west-1"
	_, _, err = Start(t.Context(), s, true)
	assert.EqualError(t, err, "look at instance unknown: there is none in eu-west-1")
	assert.Equal(t, fault.NotFound, fault.KindOf(err))
	assert.Equal(t, "set snapshot_instance", fault.HintOf(err))
}

// TestCancelled: a call that is cancelled ends in the program, too, and no other one does.
func TestCancelled(t *testing.T) {
	p := start(t, "gcp")
	ctx, cancel := context.WithCancelCause(t.Context())
	var calls sync.WaitGroup
	calls.Go(func() {
		_, err := p.Create(ctx, tag, snapshot.Disk{Name: "slow"})
		assert.Equal(t, fault.Cancelled, fault.KindOf(err))
		assert.ErrorContains(t, err, "somebody wants it")
	})
	_, err := p.Create(t.Context(), tag, snapshot.Disk{Name: "a"})
	require.NoError(t, err, "a call does not wait for another one")
	cancel(errors.New("somebody wants it"))
	calls.Wait()
	// What waits for the end of its context makes a snapshot then.
	assert.Eventually(t, func() bool {
		all, err := p.List(t.Context(), tag.Owner)
		return assert.NoError(t, err) && len(all) == 2
	}, time.Minute, time.Millisecond)
}

// TestEnded: whoever asks a program that has ended learns how.
func TestEnded(t *testing.T) {
	for disk, want := range map[string]string{"exit": "exit status 3: last words", "crash": "it has ended"} {
		p := start(t, "gcp")
		for range 2 {
			_, err := p.Create(t.Context(), tag, snapshot.Disk{Name: disk})
			assert.Equal(t, fault.Crashed, fault.KindOf(err))
			assert.ErrorContains(t, err, want)
		}
	}
}

// TestMissing: the error says where the program belongs.
func TestMissing(t *testing.T) {
	self, err := os.Executable()
	require.NoError(t, err)
	link := filepath.Join(filepath.Dir(self), Program)
	require.NoError(t, os.Rename(link, link+"-away"))
	defer func() { require.NoError(t, os.Rename(link+"-away", link)) }()
	_, _, err = Start(t.Context(), &config.Server{}, true)
	assert.Equal(t, fault.Tool, fault.KindOf(err))
	assert.ErrorContains(t, err, link)
	assert.Contains(t, fault.HintOf(err), "install it beside")
}

// TestSettings: what a driver may ask for arrives.
func TestSettings(t *testing.T) {
	days := 3
	s := &config.Server{Name: "main"}
	s.SnapshotProvider, s.AWSSnapshotLockDuration, s.AWSAwaitSnapshotsTimeout, s.HoldfastSnapshotEndpoint = "aws", &days, time.Hour, "http://127.0.0.1:1"
	s.AWSProfile, s.AzureCredential, s.GCPZone, s.SSHCommand, s.PathPrefix = "p", "managed-identity", "z", "ssh 'a b'", "/x"
	got := settingsOf(s, false).server()
	assert.Equal(t, s, got)
}
