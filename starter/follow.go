package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"golang.org/x/term"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/workflows"
)

// follow shows a running backup until it ends. When ctx ends first, the backup
// goes on.
func (a *app) follow(ctx context.Context, c client.Client, run client.WorkflowRun, s *config.Server) (workflows.BackupResult, error) {
	type outcome struct {
		res workflows.BackupResult
		err error
	}
	ended := make(chan outcome, 1)
	go func() {
		var o outcome
		for {
			o.err = run.Get(ctx, &o.res)
			if !away(ctx, o.err) {
				break
			}
			time.Sleep(time.Second)
		}
		ended <- o
	}()
	w := &watcher{app: a, client: c, run: run, server: s, line: a.liveLine(), retried: map[string]int32{}}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case o := <-ended:
			w.line.clear()
			if ctx.Err() != nil {
				return o.res, a.left(s)
			}
			return o.res, activities.Fault("back up", s.Name, o.err)
		case <-ctx.Done():
			w.line.clear()
			return workflows.BackupResult{}, a.left(s)
		case <-tick.C:
			w.look(ctx)
		}
	}
}

// away tells an engine that does not answer now from a backup that ended.
func away(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	var ended *temporal.WorkflowExecutionError
	var gone *serviceerror.NotFound
	return !errors.As(err, &ended) && !errors.As(err, &gone)
}

// left says that the backup goes on without us.
func (a *app) left(s *config.Server) error {
	fmt.Fprintf(a.stderr, "The backup of %s goes on. Watch it: holdfast status %s. End it: holdfast cancel %s.\n", s.Name, s.Name, s.Name)
	return exitError(fault.Cancelled.ExitCode())
}

// liveLine is the line that shows progress: one that nobody sees unless stdout
// is a terminal.
func (a *app) liveLine() *progressLine {
	f, ok := a.stdout.(*os.File)
	if !ok || a.format != "console" || a.quiet || !terminal(f) {
		return &progressLine{out: io.Discard, width: func() int { return 0 }}
	}
	return &progressLine{out: f, width: func() int {
		width, _, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 80
		}
		return width
	}}
}

// watcher turns what the engine knows of a backup into lines.
type watcher struct {
	*app
	client client.Client
	run    client.WorkflowRun
	server *config.Server
	line   *progressLine

	phase   string
	losses  int
	speed   speed
	trouble string // the latest that was told
	silent  int
	warned  bool
	retried map[string]int32 // the attempts of activities that were told
}

// look asks once and shows what has changed.
func (w *watcher) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	st, ok := w.state(ctx)
	if !ok {
		if w.silent++; w.silent >= 10 && !w.warned {
			w.warned = true
			w.line.clear()
			w.warn("Nobody tells how the backup goes on. Do the engine and the workers run? Start them: holdfast up")
		}
		return
	}
	w.silent = 0
	if st.Phase != w.phase {
		w.phase, w.speed = st.Phase, speed{}
		w.line.clear()
		w.say("%s  %-9s %s", time.Now().Format(time.TimeOnly), st.Phase, plain(st.Details))
	}
	for ; w.losses < len(st.Losses); w.losses++ {
		w.line.clear()
		w.warn("%s; tried again", st.Losses[w.losses])
	}
	d, err := w.client.DescribeWorkflowExecution(ctx, w.run.GetID(), w.run.GetRunID())
	if err != nil {
		return
	}
	for _, p := range d.GetPendingActivities() {
		w.tellRetry(p)
		var at activities.Progress
		if p.GetState() == enums.PENDING_ACTIVITY_STATE_STARTED && p.GetActivityType().GetName() != holdName &&
			converter.GetDefaultDataConverter().FromPayloads(p.GetHeartbeatDetails(), &at) == nil {
			// Until a new process has told something, what the dead one told is shown.
			if told := p.GetLastHeartbeatTime().AsTime(); at.Total > 0 && told.After(p.GetLastStartedTime().AsTime()) {
				w.speed.add(told, at.Done)
			}
			if at.Trouble != "" && at.Trouble != w.trouble {
				w.trouble = at.Trouble
				w.line.clear()
				w.warn("%s: %s", w.phase, at.Doing())
			}
			w.line.draw(describeProgress(at, &w.speed))
		}
	}
}

// holdName is the activity that runs beside the others and makes no progress.
const holdName = "HoldSession"

// tellRetry warns, once, of something that is done again.
func (w *watcher) tellRetry(p *workflow.PendingActivityInfo) {
	f := p.GetLastFailure()
	if f == nil || p.GetAttempt() < 2 || w.retried[p.GetActivityId()] == p.GetAttempt() {
		return
	}
	w.retried[p.GetActivityId()] = p.GetAttempt()
	what := "session"
	if p.GetActivityType().GetName() != holdName {
		what, w.speed = w.phase, speed{}
	}
	why := f.GetMessage()
	if f.GetTimeoutFailureInfo() != nil {
		why = activities.Silence
	}
	w.line.clear()
	w.warn("%s: %s; tried again (attempt %d)", what, why, p.GetAttempt())
}

func (w *watcher) state(ctx context.Context) (workflows.State, bool) {
	var st workflows.State
	v, err := w.client.QueryWorkflow(ctx, w.run.GetID(), w.run.GetRunID(), workflows.ProgressQuery)
	if err != nil {
		return st, false
	}
	return st, v.Get(&st) == nil
}

func attemptsText(n int) string {
	if n == 1 {
		return "one attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}

// plain takes the markdown out of a line that was written for the UI.
func plain(s string) string { return strings.NewReplacer("`", "", "**", "").Replace(s) }
