package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/window"
	"github.com/holdfast-pg/holdfast/workflows"
)

func (a *app) cmdStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status SERVER...", Short: "Show how a server and its backups are",
		Long: `Shows the state of a server, of its archiving and of its backups, and the backup that
runs. The recoverable window says, for each timeline, from when to when its backups
and its WAL can be restored without a hole; WAL gaps are the segments that are missing
in between. What cannot be asked, because PostgreSQL or the engine does not answer, is
left out with a warning.`,
		Example: "  holdfast status main\n  holdfast status all", Args: atLeastOne("SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.status(cmd.Context(), args) },
	}
}

func (a *app) status(ctx context.Context, names []string) error {
	servers, err := a.usable(names)
	if err != nil {
		return err
	}
	var engine client.Client
	var dial errgroup.Group
	dial.Go(func() error {
		engine = a.glance(ctx)
		return nil
	})
	found := make([]found, len(servers))
	err = atOnce(len(servers), func(i int) (err error) {
		found[i], err = statusOf(ctx, servers[i], a.cfg.Global.HoldfastStateDirectory)
		return err
	})
	_ = dial.Wait() // it has no error: an engine that is away is part of the answer
	if engine != nil {
		defer engine.Close()
	}
	if err != nil {
		return err
	}
	err = atOnce(len(servers), func(i int) error {
		found[i].Running = runningBackup(ctx, engine, servers[i].Name)
		return nil
	})
	if err != nil {
		return err
	}
	for i, s := range servers {
		a.tellStatus(s, found[i])
	}
	return nil
}

// atOnce calls do with 0 to n-1, several at the same time, and returns the first error.
func atOnce(n int, do func(i int) error) error {
	var g errgroup.Group
	g.SetLimit(mostAtOnce)
	for i := range n {
		g.Go(func() error { return do(i) })
	}
	return g.Wait()
}

// mostAtOnce bounds how many servers are asked at the same time.
const mostAtOnce = 32

// found is the status of a server, with what could not be found out.
type found struct {
	report.Status
	warnings []string
	errs     []error
}

func statusOf(ctx context.Context, s *config.Server, state string) (f found, err error) {
	cat := catalog.Open(catalog.LayoutOf(s))
	backups, warnings, err := cat.List()
	if err != nil {
		return f, err
	}
	f.warnings = warnings
	f.Status = report.Status{Now: time.Now(), Zone: time.Local, Description: s.Description, Active: s.Active, Disabled: s.Disabled(), Model: s.ActiveModel,
		Passive: s.Passive, Retention: s.RetentionPolicy.String(), PrimarySSH: s.PrimarySSHCommand, MinRedundancy: s.MinimumRedundancy, Backups: backups}
	note := func(err error) {
		if err != nil {
			f.errs = append(f.errs, err)
		}
	}
	f.Behind, err = behind(cat, backups)
	note(err)
	if s.Active && !s.Passive {
		r := ask(ctx, s)
		f.Facts, f.Archiver = r.facts, r.archiver
		note(r.err)
	}
	if s.Streams() {
		f.Streaming, err = streamingStatus(s, state)
		note(err)
	}
	f.Schedule, err = scheduleReport(cat, f.Now)
	note(err)
	f.Window, err = windowOf(ctx, s, backups)
	note(err)
	return f, nil
}

func (a *app) tellStatus(s *config.Server, f found) {
	a.warnAll(f.warnings)
	for _, err := range f.errs {
		a.warnOf(err)
	}
	a.print("Server %s:", s.Name)
	a.json[s.Name] = a.printRows(f.Rows())
}

// printRows prints rows, and returns them as an object.
func (a *app) printRows(rows []report.StatusRow) report.Object {
	object := report.Object{}
	for _, r := range rows {
		object[r.Key] = r.JSON()
		a.print("\t%s", r)
	}
	return object
}

// windowOf is what a server can be restored to; nil with an error.
func windowOf(ctx context.Context, s *config.Server, backups []*backupinfo.Info) (*window.Result, error) {
	archive, err := archiveOf(s)
	if err != nil {
		return nil, err
	}
	w, err := recoverable(ctx, s, archive, backups)
	if err != nil {
		return nil, err
	}
	return &w, nil
}

// glance connects to the engine if it answers at once, and is nil otherwise.
func (a *app) glance(ctx context.Context) client.Client {
	ctx, cancel := context.WithTimeout(ctx, engineGlance)
	defer cancel()
	c, err := a.engine(ctx)
	if err != nil {
		return nil
	}
	return c
}

// engineGlance is how long a status waits for the engine.
const engineGlance = time.Second

// runningBackup tells of the backup that runs, in a line; "" when none does.
func runningBackup(ctx context.Context, c client.Client, server string) string {
	if c == nil {
		return engineSilent
	}
	ctx, cancel := context.WithTimeout(ctx, 2*engineGlance)
	defer cancel()
	id := workflows.BackupID(server)
	d, err := c.DescribeWorkflowExecution(ctx, id, "")
	var none *serviceerror.NotFound
	switch {
	case errors.As(err, &none):
		return ""
	case err != nil:
		return engineSilent
	case d.GetWorkflowExecutionInfo().GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_RUNNING:
		return ""
	}
	return describeRun(ctx, c, id, d)
}

const engineSilent = "unknown, the engine does not answer (holdfast up starts it)"

// describeRun is a running backup in a line: what it does, how far it is, and
// why earlier attempts ended.
func describeRun(ctx context.Context, c client.Client, id string, d *workflowservice.DescribeWorkflowExecutionResponse) string {
	var st workflows.State
	v, err := c.QueryWorkflow(ctx, id, d.GetWorkflowExecutionInfo().GetExecution().GetRunId(), workflows.ProgressQuery)
	if err == nil {
		err = v.Get(&st)
	}
	if err != nil {
		return "one is under way, but no worker says how far it is (holdfast up starts the workers)"
	}
	text := fmt.Sprintf("phase %s, attempt %d", st.Phase, max(1, st.Attempt))
	if st.ID != "" { // the preflight comes before
		text = string(st.ID) + ", " + text
	}
	for _, p := range d.GetPendingActivities() {
		var at activities.Progress
		if p.GetState() == enums.PENDING_ACTIVITY_STATE_STARTED && p.GetActivityType().GetName() != "HoldSession" &&
			converter.GetDefaultDataConverter().FromPayloads(p.GetHeartbeatDetails(), &at) == nil {
			if at.Total > 0 {
				text += fmt.Sprintf(", %s of %s (%d %%)", report.Size(at.Done), report.Size(at.Total), 100*at.Done/at.Total)
			}
			if at.What != "" {
				text += ", " + at.Doing()
			}
		}
	}
	for _, l := range st.Losses {
		text += "; " + l
	}
	return text
}
