package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/exclusive"
	"github.com/holdfast-pg/holdfast/internal/keeper"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// Servers is the configuration as it is now.
type Servers interface {
	// Server returns the settings of a server that can be used.
	Server(name string) (*config.Server, error)
}

// Sessions is a keeper's registry.
type Sessions interface {
	Begin(context.Context, keeper.Spec) (keeper.Begun, error)
	Hold(ctx context.Context, epoch string) error
	Stop(ctx context.Context, epoch string) (postgres.Stop, error)
	Abort(epoch string)
}

// Keeper has the activities that work with a backup session. They run in a
// keeper process.
type Keeper struct {
	Servers  Servers
	Sessions Sessions
	StateDir string
	// HoldQueue and CallQueue are the queues of this process.
	HoldQueue, CallQueue string
	// Open opens a bracket; Lock takes a server's backup lock.
	Open func(ctx context.Context, bracket, conninfo string) (keeper.Session, error)
	Lock func(context.Context, *config.Server) (keeper.Lock, error)
	// Exclusive connects to a server that may be in exclusive backup mode.
	Exclusive ConnectExclusive
	// Running tells whether the workflow run of an owner still runs.
	Running func(keeper.Owner) (bool, error)
}

// HeldSession is a session in backup mode, and where to find it.
type HeldSession struct {
	Epoch      string         `json:"epoch"`
	HoldQueue  string         `json:"hold_queue"`
	CallQueue  string         `json:"call_queue"`
	BackendPID uint32         `json:"backend_pid"`
	Begin      BracketedBegin `json:"begin"`
}

// BracketedBegin is where a backup begins.
type BracketedBegin struct {
	Timeline uint32         `json:"timeline"`
	LSN      string         `json:"lsn"`
	At       time.Time      `json:"at"`
	Facts    postgres.Facts `json:"facts"`
}

// StoppedSession is the stored end of a session.
type StoppedSession struct {
	Found         bool      `json:"found"`
	LSN           string    `json:"lsn"`
	Timeline      uint32    `json:"timeline"`
	At            time.Time `json:"at"`
	Label         string    `json:"label,omitempty"`
	TablespaceMap string    `json:"tablespace_map,omitempty"`
}

// StartBackup puts the server into backup mode and holds the session. It
// outlasts a spread checkpoint. Another attempt of the activity in the same
// process finds the session that exists.
func (k *Keeper) StartBackup(ctx context.Context, ref Ref, bracket string) (HeldSession, error) {
	s, err := k.Servers.Server(ref.Server)
	if err != nil {
		return HeldSession{}, report(ctx, err)
	}
	s = ref.Overrides.apply(s)
	info := activity.GetInfo(ctx)
	what := "PostgreSQL makes the checkpoint that the backup begins with"
	if bracket == Native {
		what = "takes the backup lock"
	}
	beating, stop := beat(ctx, func() Progress { return Progress{What: what} })
	defer stop()
	begun, err := k.Sessions.Begin(beating, keeper.Spec{
		Owner:     keeper.Owner{WorkflowID: info.WorkflowExecution.ID, RunID: info.WorkflowExecution.RunID, Attempt: ref.Attempt},
		Server:    ref.Server,
		Label:     exclusive.Label(ref.Server, ref.ID),
		Fast:      s.ImmediateCheckpoint,
		PingEvery: s.KeepaliveInterval,
		Open: func(ctx context.Context) (keeper.Session, error) {
			if bracket == Exclusive {
				if err := k.Exclusive.leave(ctx, s, unowned(k.Running)); err != nil {
					return nil, err
				}
			}
			return k.Open(ctx, bracket, s.Conninfo.Reveal())
		},
		Lock: func() (keeper.Lock, error) { return k.Lock(beating, s) },
	})
	if err != nil {
		if ref.Attempt > 1 {
			return HeldSession{}, patient(beating, err)
		}
		return HeldSession{}, report(beating, err)
	}
	st := begun.Start
	st.Facts.ArchiveCommand = "" // it may hold a secret
	return HeldSession{Epoch: begun.Epoch, HoldQueue: k.HoldQueue, CallQueue: k.CallQueue, BackendPID: st.BackendPID,
		Begin: BracketedBegin{Timeline: st.Timeline, LSN: st.LSN, At: st.At, Facts: st.Facts}}, nil
}

// HoldSession ends without error once the session was stopped, and with
// BackupSessionLost once it was lost. Cancelling it aborts the session; any
// other interruption leaves the session to the next attempt.
func (k *Keeper) HoldSession(ctx context.Context, epoch string) error {
	holding, stop := beat(ctx, func() Progress { return Progress{What: "holds the session of the backup and its lock"} })
	defer stop()
	err := k.Sessions.Hold(holding, epoch)
	if err == nil {
		outlast(ctx)
	}
	if ctx.Err() == nil {
		return report(holding, err)
	}
	if cancelled(ctx) {
		k.Sessions.Abort(epoch)
		return temporal.NewCanceledError()
	}
	i := activity.GetInfo(ctx)
	if alive, e := k.Running(keeper.Owner{WorkflowID: i.WorkflowExecution.ID, RunID: i.WorkflowExecution.RunID}); e == nil && !alive {
		k.Sessions.Abort(epoch)
	}
	return report(ctx, err)
}

// outlast lets the answer of the stop that has ended a hold arrive first: a workflow that sees
// the hold end before asks whether there was a stop.
func outlast(ctx context.Context) {
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
	}
}

// StopBackup ends backup mode; the result is durable before it returns.
func (k *Keeper) StopBackup(ctx context.Context, epoch string) (StoppedSession, error) {
	var out StoppedSession
	err := during(ctx, "leaves backup mode", func(ctx context.Context) error {
		s, err := k.Sessions.Stop(ctx, epoch)
		out = stoppedSession(s)
		return err
	})
	return out, err
}

// LookupStop asks whether the stop of an epoch was stored, by whichever keeper.
func (k *Keeper) LookupStop(ctx context.Context, epoch string) (StoppedSession, error) {
	var out StoppedSession
	err := during(ctx, "looks for the result of a stop", func(context.Context) error {
		s, err := keeper.LookupStop(k.StateDir, epoch)
		if s != nil {
			out = stoppedSession(*s)
		}
		return err
	})
	return out, err
}

// AbortSession ends a session whose backup is given up.
func (k *Keeper) AbortSession(_ context.Context, epoch string) error {
	k.Sessions.Abort(epoch)
	return nil
}

func stoppedSession(s postgres.Stop) StoppedSession {
	return StoppedSession{Found: true, LSN: s.LSN, Timeline: s.Timeline, At: s.At, Label: s.Label, TablespaceMap: s.TablespaceMap}
}

// errStopping is the cause of a context whose worker is asked to stop.
var errStopping = errors.New("the worker stops")

// during heartbeats while it does something, and reports how that ended.
func during(ctx context.Context, what string, do func(context.Context) error) error {
	beating, stop := beat(ctx, func() Progress { return Progress{What: what} })
	defer stop()
	return report(beating, do(beating))
}

// beat heartbeats until stop is called. The context that it returns also ends
// when the worker is asked to stop.
func beat(ctx context.Context, say func() Progress) (beating context.Context, stop func()) {
	beating, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			activity.RecordHeartbeat(ctx, say())
			select {
			case <-beating.Done():
				return
			case <-activity.GetWorkerStopChannel(ctx):
				cancel(errStopping)
				return
			case <-tick.C:
			}
		}
	}()
	return beating, func() { cancel(nil); <-done }
}
