package keeper

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// Session is one conversation with PostgreSQL that a backup depends on. Start
// and Stop are called once each; after an error of Check or Ping the session
// is lost. Close may be called at any time and ends a backup that was not stopped.
type Session interface {
	Start(ctx context.Context, label string, fast bool) (postgres.Start, error)
	Stop(ctx context.Context) (postgres.Stop, error)
	Check(ctx context.Context) error
	Ping(ctx context.Context) error
	Close()
}

// Detacher is a Session whose backup outlives us. Detach lets go of it as it is,
// for a keeper that starts it again.
type Detacher interface{ Detach() }

// Lock is the backup lock of a server.
type Lock interface{ Release() error }

// Spec is a session to begin.
type Spec struct {
	Owner  Owner
	Server string
	Label  string
	Fast   bool
	// PingEvery is how often the server is asked something; 0 for never.
	PingEvery time.Duration
	// Open connects; Lock takes the server's backup lock.
	Open func(context.Context) (Session, error)
	Lock func() (Lock, error)
}

// Begun is a session in backup mode.
type Begun struct {
	Epoch string
	Start postgres.Start
}

// Registry holds the sessions of this process.
type Registry struct {
	stateDir             string
	holdQueue, callQueue string
	newEpoch             func() string

	mu        sync.Mutex
	entries   map[string]*entry
	beginning map[string]*sync.Mutex // by server: one begin at a time decides about its lock
}

// New returns a registry that keeps its records in a state directory. The queue
// names are recorded for whoever has to report a session of this process;
// newEpoch must return a name that is never used again.
func New(stateDir, holdQueue, callQueue string, newEpoch func() string) (*Registry, error) {
	if err := os.MkdirAll(Dir(stateDir), 0o700); err != nil {
		return nil, fault.Wrap(fault.Internal, "create directory", Dir(stateDir), err)
	}
	if err := removeOldStops(stateDir, time.Now()); err != nil {
		return nil, err
	}
	if err := atomicfile.Sweep(time.Now(), time.Hour, Dir(stateDir)); err != nil {
		return nil, err
	}
	return &Registry{stateDir: stateDir, holdQueue: holdQueue, callQueue: callQueue, newEpoch: newEpoch, entries: map[string]*entry{}, beginning: map[string]*sync.Mutex{}}, nil
}

// entry is a session with all that belongs to it.
type entry struct {
	rec     Record
	start   postgres.Start
	session Session
	unwatch context.CancelFunc

	stopMu  sync.Mutex // one stop at a time
	pending *postgres.Stop

	mu      sync.Mutex
	lock    Lock
	holds   int
	unheld  time.Duration
	done    chan struct{} // closed when the session has ended
	outcome error         // why; nil after a stored stop
}

// HoldActivityID is the activity ID of the hold of an epoch.
func HoldActivityID(epoch string) string { return "hold-" + epoch }

// Begin opens a session, takes the backup lock and starts the backup; it
// returns when the server has made its checkpoint and the session's record is
// durable. A second call for the same owner returns the session that exists. An
// older attempt's session of the same run is ended, and its lock taken over.
func (r *Registry) Begin(ctx context.Context, spec Spec) (Begun, error) {
	turn := r.turn(spec.Server)
	turn.Lock()
	defer turn.Unlock()
	lock, existing := r.takeOver(spec.Owner)
	if existing != nil {
		return Begun{existing.rec.Epoch, existing.start}, nil
	}
	if lock == nil {
		var err error
		if lock, err = spec.Lock(); err != nil {
			return Begun{}, err
		}
	}
	e, err := r.begin(ctx, spec)
	if err != nil {
		lock.Release()
		return Begun{}, err
	}
	watching, unwatch := context.WithCancel(context.Background())
	e.lock, e.unwatch = lock, unwatch
	r.mu.Lock()
	r.entries[e.rec.Epoch] = e
	r.mu.Unlock()
	go r.watch(watching, e, spec.PingEvery)
	return Begun{e.rec.Epoch, e.start}, nil
}

func (r *Registry) begin(ctx context.Context, spec Spec) (*entry, error) {
	s, err := spec.Open(ctx)
	if err != nil {
		return nil, err
	}
	e := &entry{session: s, done: make(chan struct{})}
	if e.start, err = s.Start(ctx, spec.Label, spec.Fast); err != nil {
		s.Close()
		return nil, err
	}
	pid := os.Getpid()
	started, err := command.StartTime(pid)
	if err != nil {
		s.Close()
		return nil, fault.Wrap(fault.Internal, "read", "our own start time", err)
	}
	epoch := r.newEpoch()
	e.rec = Record{Owner: spec.Owner, Epoch: epoch, Server: spec.Server, ActivityID: HoldActivityID(epoch), HoldQueue: r.holdQueue, CallQueue: r.callQueue,
		PID: pid, StartTime: started, Boot: command.BootID(), BackendPID: e.start.BackendPID, Begun: e.start.At}
	if err := r.writeRecord(e.rec); err != nil {
		s.Close()
		return nil, err
	}
	return e, nil
}

// takeOver returns the living session of the same owner; or it ends sessions of
// other attempts of the same run and returns the lock of one of them.
func (r *Registry) takeOver(o Owner) (Lock, *entry) {
	var lock Lock
	for _, e := range r.all() {
		if e.rec.WorkflowID != o.WorkflowID || e.rec.RunID != o.RunID || e.ended() {
			continue
		}
		if e.rec.Owner == o {
			return nil, e
		}
		if l := e.takeLock(); lock == nil {
			lock = l
		} else if l != nil {
			l.Release()
		}
		r.end(e, lost(e, "a newer attempt of the same backup began"))
	}
	return lock, nil
}

// Hold waits until a session ends: nil after its stop was stored, SessionLost
// when it was lost. When ctx ends, Hold returns the cause and the session stays.
func (r *Registry) Hold(ctx context.Context, epoch string) error {
	e := r.find(epoch)
	if e == nil {
		return r.absent(epoch)
	}
	e.count(1)
	defer e.count(-1)
	select {
	case <-e.done:
		return e.result()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// absent tells how a session ended that this process does not hold.
func (r *Registry) absent(epoch string) error {
	stop, err := LookupStop(r.stateDir, epoch)
	if err != nil || stop != nil {
		return err
	}
	return fault.New(fault.SessionLost, "hold backup session", epoch, "no keeper of this process holds it")
}

// Stop ends backup mode and stores the result before it returns. Called again,
// it returns the stored result. It never waits for the archiver.
func (r *Registry) Stop(ctx context.Context, epoch string) (postgres.Stop, error) {
	if s, err := LookupStop(r.stateDir, epoch); err != nil || s != nil {
		if err != nil {
			return postgres.Stop{}, err
		}
		if e := r.find(epoch); e != nil {
			r.end(e, nil)
		}
		return *s, nil
	}
	e := r.find(epoch)
	if e == nil {
		return postgres.Stop{}, r.absent(epoch)
	}
	e.stopMu.Lock()
	defer e.stopMu.Unlock()
	if e.pending == nil {
		if e.ended() {
			return postgres.Stop{}, e.result()
		}
		s, err := e.session.Stop(ctx)
		if err != nil {
			if fault.Is(err, fault.Connection) || fault.Is(err, fault.SessionLost) || e.session.Check(ctx) != nil {
				err = lost(e, "the server ended it while it was stopped: %v", err)
				r.end(e, err)
			}
			return postgres.Stop{}, err
		}
		e.pending = &s
	}
	// Written again by the next call when the disk is full now.
	if err := r.writeStop(epoch, *e.pending); err != nil {
		return postgres.Stop{}, err
	}
	r.end(e, nil)
	return *e.pending, nil
}

// Abort ends a session without a stop. An unknown epoch is no error.
func (r *Registry) Abort(epoch string) {
	if e := r.find(epoch); e != nil {
		r.end(e, lost(e, "it was aborted"))
	}
}

// Len is the number of living sessions.
func (r *Registry) Len() int {
	n := 0
	for _, e := range r.all() {
		if !e.ended() {
			n++
		}
	}
	return n
}

// Holds is how many calls hold a session now.
func (r *Registry) Holds(epoch string) int {
	e := r.find(epoch)
	if e == nil {
		return 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.holds
}

// Close ends every session, or detaches it where it can go on without us; holds
// that wait return SessionLost.
func (r *Registry) Close() {
	for _, e := range r.all() {
		outcome := lost(e, "its keeper was stopped")
		if d, is := e.session.(Detacher); is {
			r.finish(e, outcome, d.Detach)
			continue
		}
		r.end(e, outcome)
	}
}

func lost(e *entry, format string, args ...any) error {
	return fault.New(fault.SessionLost, "hold the backup session of", e.rec.Server, format, args...)
}

// watch finds out that a session was lost. A stop that runs has the last word.
func (r *Registry) watch(ctx context.Context, e *entry, pingEvery time.Duration) {
	const checkEvery = time.Second
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	var sincePing time.Duration
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := e.session.Check(ctx)
		if sincePing += checkEvery; err == nil && pingEvery > 0 && sincePing >= pingEvery {
			sincePing = 0
			pinging, cancel := context.WithTimeout(ctx, 30*time.Second)
			err = e.session.Ping(pinging)
			cancel()
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		e.stopMu.Lock()
		if e.pending == nil {
			r.end(e, lost(e, "PostgreSQL ended the session (backend PID %d): %v", e.rec.BackendPID, err))
		}
		e.stopMu.Unlock()
	}
}

// end files the outcome of a session, once, and lets go of all that it owns.
func (r *Registry) end(e *entry, outcome error) { r.finish(e, outcome, e.session.Close) }

func (r *Registry) finish(e *entry, outcome error, letGo func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.done:
		return
	default:
	}
	e.outcome = outcome
	e.unwatch()
	letGo()
	if e.lock != nil {
		e.lock.Release()
		e.lock = nil
	}
	// A record that stays is found by the supervisor, which reports a loss that
	// the hold has reported already.
	_ = Forget(r.stateDir, e.rec.Epoch)
	close(e.done)
}

func (r *Registry) turn(server string) *sync.Mutex {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.beginning[server] == nil {
		r.beginning[server] = &sync.Mutex{}
	}
	return r.beginning[server]
}

func (r *Registry) find(epoch string) *entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.entries[epoch]
}

func (r *Registry) all() []*entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*entry, 0, len(r.entries))
	for _, e := range r.entries {
		out = append(out, e)
	}
	return out
}

func (e *entry) ended() bool {
	select {
	case <-e.done:
		return true
	default:
		return false
	}
}

func (e *entry) result() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.outcome
}

func (e *entry) takeLock() Lock {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lock
	e.lock = nil
	return l
}

func (e *entry) count(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.holds += n
	e.unheld = 0
}
