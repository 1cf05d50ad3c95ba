package walreceive

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Tender keeps the receivers of all servers as the configuration wants them.
// Several may be at work, and any may die: what they start goes on without them.
type Tender struct {
	StateDir string
	Slots    Slots
	Log      *slog.Logger

	tries map[string]*try
}

// try is what is remembered between two rounds.
type try struct {
	runs  bool // it did in the last round
	since time.Time
	due   time.Time // not before
	pause time.Duration
}

const (
	shortestPause = time.Second
	longestPause  = time.Minute
	// matured is the age from which on the end of a run is no failed start.
	matured = time.Minute
)

// Tend looks after each server once: it starts what should run and does not,
// with a pause that grows while it dies young, and ends what should not run.
// Servers whose configuration has errors are left as they are.
func (t *Tender) Tend(ctx context.Context, now time.Time, servers []*config.Server) {
	if t.tries == nil {
		t.tries = map[string]*try{}
	}
	var round sync.WaitGroup
	known := map[string]bool{}
	for _, s := range servers {
		known[s.Name] = true
		if s.Disabled() {
			continue
		}
		if t.tries[s.Name] == nil {
			t.tries[s.Name] = &try{since: now, pause: shortestPause}
		}
		x := t.tries[s.Name]
		round.Go(func() { t.one(ctx, now, Of(s, t.StateDir), x) })
	}
	t.endForgotten(ctx, known)
	round.Wait()
}

func (t *Tender) one(ctx context.Context, now time.Time, r *Receiver, x *try) {
	pid, runs, err := r.Process()
	if err != nil {
		t.Log.Error("the state of WAL streaming cannot be read", "server", r.name, "error", err)
		return
	}
	wanted := r.settings.Streams() && !r.Forbidden()
	switch {
	case runs && (!wanted || r.Outdated()):
		if ours, err := r.ours(); err != nil || ours != pid {
			return // Barman's is Barman's
		}
		t.Log.Info("WAL streaming is ended", "server", r.name, "wanted", wanted, "process", pid)
		if err := r.Stop(ctx); err != nil {
			t.Log.Error("WAL streaming cannot be ended", "server", r.name, "error", err)
		}
		*x = try{since: now, pause: shortestPause}
		return
	case runs || !wanted:
		if runs && !x.runs {
			x.since = now
		}
		x.runs = runs
		return
	}
	if x.runs {
		t.ended(now, r, x)
	}
	if now.Before(x.due) {
		return
	}
	if err := r.Start(ctx, t.Slots); err != nil {
		if !fault.Is(err, fault.Refused) { // a Barman has begun, or another of us
			t.failed(now, r, x, err)
		}
		return
	}
	t.Log.Info("WAL streaming has begun", "server", r.name)
	x.runs, x.since = true, now
}

// ended notes that what ran does not run any more.
func (t *Tender) ended(now time.Time, r *Receiver, x *try) {
	x.runs = false
	if now.Sub(x.since) >= matured {
		x.pause = shortestPause
	}
	err := r.Failure()
	if err == nil {
		err = errors.New("it ended by itself")
	}
	t.failed(now, r, x, err)
}

func (t *Tender) failed(now time.Time, r *Receiver, x *try, err error) {
	t.Log.Warn("WAL is not streamed; it is tried again", "server", r.name, "error", err, "hint", fault.HintOf(err), "pause", x.pause)
	x.due = now.Add(x.pause)
	x.pause = min(2*x.pause, longestPause)
}

// endForgotten ends receivers of servers that the configuration does not have
// any more.
func (t *Tender) endForgotten(ctx context.Context, known map[string]bool) {
	entries, err := os.ReadDir(stateDir(t.StateDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Log.Error("the state of WAL streaming cannot be read", "error", err)
		return
	}
	for _, e := range entries {
		if known[e.Name()] {
			continue
		}
		r := remembered(e.Name(), t.StateDir)
		err := r.Stop(ctx)
		if err == nil {
			err = os.RemoveAll(r.dir)
		}
		if err != nil {
			t.Log.Error("the WAL streaming of a server that was removed cannot be ended", "server", r.name, "error", err)
			continue
		}
		t.Log.Info("the server was removed; its WAL streaming has ended", "server", r.name)
	}
}
