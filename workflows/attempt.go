package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// ended is what a successful attempt brings home.
type ended struct {
	stopped activities.StoppedSession
	copied  activities.Copied
}

// errAgain asks for another attempt.
type errAgain struct{ cause error }

func (e errAgain) Error() string { return e.cause.Error() }
func (e errAgain) Unwrap() error { return e.cause }

// attempts repeats the copy with a new session until one attempt succeeds, an
// error comes that no repetition cures, or the deadline is over.
func (r *run) attempts(ctx workflow.Context) (ended, error) {
	for {
		r.ref.Attempt++
		r.res.Attempts = r.ref.Attempt
		end, err := r.attempt(ctx)
		var again errAgain
		if err == nil || !errors.As(err, &again) {
			return end, err
		}
		r.view.lost(ctx, r.ref.Attempt, activities.Fault("copy", r.req.Server, again.cause).Error())
		pause := min(time.Duration(r.ref.Attempt)*time.Second, time.Minute)
		if workflow.Now(ctx).Add(pause).Sub(r.began) > r.plan.Deadline {
			return end, temporal.NewNonRetryableApplicationError(fmt.Sprintf("no attempt succeeded within holdfast_backup_deadline (%s); the last one failed: %s",
				r.plan.Deadline, activities.Fault("copy", r.req.Server, again.cause)), string(fault.Connection), nil)
		}
		if err := workflow.Sleep(ctx, pause); err != nil {
			return end, err
		}
	}
}

// attempt is one bracket around one copy.
type attempt struct {
	*run
	session activities.HeldSession
	held    workflow.Future
	copied  activities.Copied
}

func (r *run) attempt(ctx workflow.Context) (end ended, err error) {
	a := &attempt{run: r}
	if err := a.begin(ctx); err != nil {
		return end, err
	}
	defer func() {
		if err != nil {
			a.abort(ctx, err)
		}
	}()
	if err := a.copy(ctx); err != nil {
		return end, err
	}
	end.copied = a.copied
	end.stopped, err = a.stop(ctx)
	return end, err
}

// begin opens the bracket and starts to hold it.
func (a *attempt) begin(ctx workflow.Context) error {
	a.view.phase(ctx, "start", a.view.starting(a.ref.Attempt))
	var k *activities.Keeper
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, begin(a.plan)), k.StartBackup, a.ref, a.plan.Bracket).Get(ctx, &a.session); err != nil {
		if silent(err) {
			return errAgain{err}
		}
		return err
	}
	a.held = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, hold(a.session, a.plan)), k.HoldSession, a.session.Epoch)
	var c *activities.Catalogue
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, light("records where the backup begins", a.plan)), c.RecordBegin, a.ref, a.plan, a.session).Get(ctx, nil)
}

// lossOf says why a bracket without a session is opened again.
func (a *attempt) lossOf(err error) string {
	if a.plan.Bracket == activities.Exclusive && err != nil {
		return activities.Fault("hold", a.req.Server, err).Error()
	}
	return "the keeper of the backup lock died; the copy goes on"
}

// beginAgain opens a bracket that needs no session after its keeper died. A
// server that was in exclusive backup mode and is no longer has begun anew,
// after what was copied so far.
func (a *attempt) beginAgain(ctx workflow.Context) error {
	before := a.session.Begin.LSN
	if err := a.begin(ctx); err != nil {
		return err
	}
	if a.plan.Bracket == activities.Exclusive && a.session.Begin.LSN != before {
		return a.sessionLost(errors.New("PostgreSQL has left the exclusive backup mode, as it does when it is restarted"))
	}
	return nil
}

// copy runs the copy and watches the session meanwhile. A copy that brings its
// own backup mode goes on when only the bracket was lost; any other one is left
// to the fence of the next attempt.
func (a *attempt) copy(ctx workflow.Context) error {
	a.view.phase(ctx, "copy", a.view.copying(a.session, a.ref.Attempt))
	copying := a.startCopy(ctx)
	for {
		var done, lost error
		finished, ended := false, false
		sel := workflow.NewSelector(ctx)
		sel.AddFuture(copying, func(f workflow.Future) { finished, done = true, f.Get(ctx, &a.copied) })
		sel.AddFuture(a.held, func(f workflow.Future) { ended, lost = true, f.Get(ctx, nil) })
		sel.Select(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case finished && a.worthAgain(done):
			return errAgain{done}
		case finished:
			return done
		case ended && a.plan.Bracket != activities.Concurrent:
			a.view.lost(ctx, a.ref.Attempt, a.lossOf(lost))
			if err := a.beginAgain(ctx); err != nil {
				return err
			}
			a.view.phase(ctx, "copy", a.view.copying(a.session, a.ref.Attempt))
		case ended:
			return a.sessionLost(lost)
		}
	}
}

// unclear is how many attempts in a row may fail for a reason without a name.
const unclear = 3

// worthAgain reports whether a failed copy may succeed in another attempt.
func (a *attempt) worthAgain(err error) bool {
	if err == nil {
		return false
	}
	if isKind(err, fault.Internal) {
		a.unclear++
		return a.unclear < unclear
	}
	a.unclear = 0
	return isKind(err, fault.Connection) || isKind(err, fault.Crashed) || silent(err)
}

func (a *attempt) startCopy(ctx workflow.Context) workflow.Future {
	var b *activities.BaseBackup
	var f *activities.Files
	var c *activities.Cloud
	var s *activities.Snapshots
	switch a.plan.Method {
	case config.MethodSnapshot:
		return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, heavy("makes snapshots of the disks", a.plan)), s.CutSnapshots, a.ref, a.plan)
	case config.MethodPostgres:
		return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, heavy("pg_basebackup copies the cluster", a.plan)), b.CopyBaseBackup, a.ref)
	case config.MethodLocalToCloud:
		return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, heavy("copies the cluster into the object store", a.plan)), c.CopyVolumes, a.ref)
	}
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, heavy("rsync copies the cluster", a.plan)), f.CopyFiles, a.ref)
}

// sessionLost asks for another attempt, whatever the hold's end was called.
func (a *attempt) sessionLost(err error) error {
	if err == nil {
		err = errors.New("the backup session ended before its backup")
	}
	return errAgain{err}
}

// stop closes the bracket. The stop's result counts wherever it is found.
func (a *attempt) stop(ctx workflow.Context) (activities.StoppedSession, error) {
	a.view.phase(ctx, "stop", a.view.stopping())
	var k *activities.Keeper
	var s activities.StoppedSession
	stopping := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, stop(a.session, a.plan)), k.StopBackup, a.session.Epoch)
	held := a.held
	for {
		var err error
		resolved := false
		sel := workflow.NewSelector(ctx)
		sel.AddFuture(stopping, func(f workflow.Future) { resolved, err = true, f.Get(ctx, &s) })
		if held != nil {
			sel.AddFuture(held, func(f workflow.Future) { err = f.Get(ctx, nil) })
		}
		sel.Select(ctx)
		if ctx.Err() != nil {
			return s, ctx.Err()
		}
		if resolved && err == nil {
			return s, nil
		}
		if resolved && !isKind(err, fault.SessionLost) && !silent(err) {
			return s, err
		}
		found, lookErr := a.lookup(ctx)
		if lookErr != nil || found.Found {
			return found, lookErr
		}
		switch {
		case resolved && silent(err) && held != nil && !held.IsReady():
			// The hold is alive, so the session is: only the call was slow.
			stopping = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, stop(a.session, a.plan)), k.StopBackup, a.session.Epoch)
		case resolved && a.plan.Bracket != activities.Concurrent:
			// The copy is complete; another keeper can ask for the end position.
			if err := a.beginAgain(ctx); err != nil {
				return s, err
			}
			return a.stop(ctx)
		case resolved:
			return s, a.sessionLost(err)
		case !resolved && err != nil && a.plan.Bracket != activities.Concurrent:
			if err := a.beginAgain(ctx); err != nil {
				return s, err
			}
			return a.stop(ctx)
		case !resolved && err != nil:
			return s, a.sessionLost(err)
		default:
			held = nil
		}
	}
}

func (a *attempt) lookup(ctx workflow.Context) (activities.StoppedSession, error) {
	var k *activities.Keeper
	var s activities.StoppedSession
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, lookup("asks whether backup mode was left", a.plan)), k.LookupStop, a.session.Epoch).Get(ctx, &s)
	return s, err
}

// abort closes the session of a failed attempt, unless it is lost already: its
// queue may be dead.
func (a *attempt) abort(ctx workflow.Context, cause error) {
	var again errAgain
	if errors.As(cause, &again) && a.held.IsReady() {
		return
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	var k *activities.Keeper
	o := call(a.session, "ends the backup session", a.plan.Heartbeat)
	o.ScheduleToCloseTimeout = a.plan.Heartbeat + 30*time.Second
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, o), k.AbortSession, a.session.Epoch).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Warn("the session could not be ended; its keeper ends it when the lease is over", "error", err)
	}
}
