package keeper_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/keeper"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// server is a PostgreSQL that can be told to fail. What a real one does is
// tested with package pg.
type server struct {
	mu      sync.Mutex
	dead    error
	stopErr error
	stops   int
	closed  bool
	locks   atomic.Int32
}

func (s *server) Start(context.Context, string, bool) (postgres.Start, error) {
	return postgres.Start{LSN: "0/3000028", Timeline: 1, BackendPID: 42}, nil
}

func (s *server) Stop(context.Context) (postgres.Stop, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stops++
	return postgres.Stop{LSN: "0/3000138", Timeline: 1, Label: "label"}, s.stopErr
}

func (s *server) Check(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dead
}

func (s *server) Ping(ctx context.Context) error { return s.Check(ctx) }

func (s *server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

func (s *server) kill(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = err
}

func (s *server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Release gives back the backup lock, which the server counts.
func (s *server) Release() error { s.locks.Add(-1); return nil }

func (s *server) spec(run string, attempt int) keeper.Spec {
	return keeper.Spec{Owner: keeper.Owner{WorkflowID: "backup/main", RunID: run, Attempt: attempt}, Server: "main", PingEvery: time.Second,
		Open: func(context.Context) (keeper.Session, error) { return s, nil },
		Lock: func() (keeper.Lock, error) {
			if s.locks.Add(1) > 1 {
				s.locks.Add(-1)
				return nil, fault.New(fault.Refused, "lock", "main", "PID 7 holds it")
			}
			return s, nil
		}}
}

var epochs atomic.Int32

func registry(t *testing.T, stateDir string) *keeper.Registry {
	t.Helper()
	r, err := keeper.New(stateDir, "hold-queue", "call-queue", func() string { return "epoch-" + strconv.Itoa(int(epochs.Add(1))) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func begin(t *testing.T, r *keeper.Registry, spec keeper.Spec) keeper.Begun {
	t.Helper()
	b, err := r.Begin(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStopEndsEveryHoldAndIsFoundByEveryKeeper(t *testing.T) {
	dir, s := t.TempDir(), &server{}
	r := registry(t, dir)
	b := begin(t, r, s.spec("run", 1))
	if again := begin(t, r, s.spec("run", 1)); again.Epoch != b.Epoch {
		t.Errorf("the same owner got %s, then %s", b.Epoch, again.Epoch)
	}
	records, err := keeper.Records(dir)
	if err != nil || len(records) != 1 || records[0].Epoch != b.Epoch || !records[0].KeeperAlive() || records[0].ActivityID != keeper.HoldActivityID(b.Epoch) {
		t.Fatalf("records %+v, %v", records, err)
	}
	held := make(chan error, 2)
	for range cap(held) {
		go func() { held <- r.Hold(context.Background(), b.Epoch) }()
	}
	first, err := r.Stop(context.Background(), b.Epoch)
	if err != nil || first.Label != "label" {
		t.Fatalf("stop: %+v, %v", first, err)
	}
	for range cap(held) {
		if err := <-held; err != nil {
			t.Errorf("a hold ended with %v", err)
		}
	}
	if again, err := r.Stop(context.Background(), b.Epoch); err != nil || again != first || s.stops != 1 {
		t.Errorf("stopped again: %+v, %v, %d stops", again, err, s.stops)
	}
	other := registry(t, dir)
	if found, err := keeper.LookupStop(dir, b.Epoch); err != nil || found == nil || *found != first {
		t.Errorf("lookup: %+v, %v", found, err)
	}
	if err := other.Hold(context.Background(), b.Epoch); err != nil {
		t.Errorf("a hold in a keeper that finds the stop: %v", err)
	}
	if !s.isClosed() || s.locks.Load() != 0 {
		t.Errorf("closed %v, locks %d", s.isClosed(), s.locks.Load())
	}
	if records, _ := keeper.Records(dir); len(records) != 0 {
		t.Errorf("left: %+v", records)
	}
}

func TestAnInterruptedHoldLeavesTheSession(t *testing.T) {
	s := &server{}
	r := registry(t, t.TempDir())
	b := begin(t, r, s.spec("run", 1))
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("the engine went away")
	cancel(why)
	if err := r.Hold(ctx, b.Epoch); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	if s.isClosed() || r.Len() != 1 {
		t.Error("the session ended with its hold")
	}
}

func TestALostSessionEndsItsHoldAndCannotBeStopped(t *testing.T) {
	s := &server{}
	r := registry(t, t.TempDir())
	b := begin(t, r, s.spec("run", 1))
	held := make(chan error, 1)
	go func() { held <- r.Hold(context.Background(), b.Epoch) }()
	s.kill(errors.New("terminating connection due to administrator command"))
	if err := <-held; !fault.Is(err, fault.SessionLost) {
		t.Errorf("the hold ended with %v", err)
	}
	if _, err := r.Stop(context.Background(), b.Epoch); !fault.Is(err, fault.SessionLost) {
		t.Errorf("the stop ended with %v", err)
	}
	if s.stops != 0 || s.locks.Load() != 0 {
		t.Errorf("%d stops, %d locks", s.stops, s.locks.Load())
	}
	// The next attempt of the run is a new session.
	if next := begin(t, r, (&server{}).spec("run", 2)); next.Epoch == b.Epoch {
		t.Error("the epoch was used again")
	}
}

func TestANewAttemptTakesTheLockOver(t *testing.T) {
	s := &server{}
	r := registry(t, t.TempDir())
	b := begin(t, r, s.spec("run", 1))
	begin(t, r, s.spec("run", 2))
	if err := r.Hold(context.Background(), b.Epoch); !fault.Is(err, fault.SessionLost) {
		t.Errorf("the older session ended with %v", err)
	}
	if s.locks.Load() != 1 || r.Len() != 1 {
		t.Errorf("%d locks, %d sessions", s.locks.Load(), r.Len())
	}
	if _, err := r.Begin(context.Background(), s.spec("another run", 1)); !fault.Is(err, fault.Refused) {
		t.Errorf("a second backup of the server: %v", err)
	}
}

func TestAStopThatCannotBeStoredIsStoredLater(t *testing.T) {
	dir, s := t.TempDir(), &server{}
	r := registry(t, dir)
	b := begin(t, r, s.spec("run", 1))
	if err := os.RemoveAll(keeper.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Stop(context.Background(), b.Epoch); err == nil {
		t.Fatal("a stop without a record is no stop")
	}
	if err := os.Mkdir(keeper.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if stop, err := r.Stop(context.Background(), b.Epoch); err != nil || stop.Label != "label" || s.stops != 1 {
		t.Errorf("%+v, %v, %d stops", stop, err, s.stops)
	}
}

func TestSessionsExpire(t *testing.T) {
	alive := func(yes bool, err error) func(keeper.Owner) (bool, error) {
		return func(keeper.Owner) (bool, error) { return yes, err }
	}
	r := registry(t, t.TempDir())
	s := &server{}
	b := begin(t, r, s.spec("run", 1))
	held, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Hold(held, b.Epoch) }()
	for r.Holds(b.Epoch) == 0 {
		time.Sleep(time.Millisecond)
	}
	r.Expire(24*time.Hour, time.Minute, alive(true, nil))
	if r.Len() != 1 {
		t.Error("a session that is held expired")
	}
	cancel()
	<-done
	r.Expire(time.Minute, time.Hour, alive(false, errors.New("nobody answers")))
	if r.Len() != 1 {
		t.Error("expired although nobody knows whether its workflow runs")
	}
	r.Expire(time.Minute, time.Hour, alive(false, nil))
	if r.Len() != 0 || !s.isClosed() {
		t.Error("a session whose workflow does not run was kept")
	}
	kept := &server{}
	begin(t, r, kept.spec("next", 1))
	r.Expire(time.Minute, time.Hour, alive(true, nil))
	if r.Len() != 1 {
		t.Error("expired before its lease was over")
	}
	r.Expire(time.Hour, time.Hour, alive(true, nil))
	if r.Len() != 0 {
		t.Error("kept after its lease")
	}
}

// lasting is a server whose backup outlives its keeper.
type lasting struct {
	server
	detached atomic.Bool
}

func (l *lasting) Detach() { l.detached.Store(true) }

func TestAKeeperThatIsStoppedDetachesWhatOutlivesIt(t *testing.T) {
	l := &lasting{}
	spec := l.spec("run", 1)
	spec.Open = func(context.Context) (keeper.Session, error) { return l, nil }
	r := registry(t, t.TempDir())
	b := begin(t, r, spec)
	held := make(chan error, 1)
	go func() { held <- r.Hold(context.Background(), b.Epoch) }()
	for r.Holds(b.Epoch) == 0 {
		time.Sleep(time.Millisecond)
	}
	r.Close()
	if err := <-held; !fault.Is(err, fault.SessionLost) || !l.detached.Load() || l.isClosed() || l.locks.Load() != 0 {
		t.Errorf("held until %v; detached %v, closed %v, %d locks", err, l.detached.Load(), l.isClosed(), l.locks.Load())
	}
	b = begin(t, r, spec)
	r.Abort(b.Epoch)
	if !l.isClosed() {
		t.Error("an aborted session goes on")
	}
}
