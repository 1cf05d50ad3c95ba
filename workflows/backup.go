package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// BackupResult is how a backup ended.
type BackupResult struct {
	ID       backup.ID     `json:"id"`
	Status   backup.Status `json:"status"`
	Attempts int           `json:"attempts"`
	Bytes    int64         `json:"bytes"`
	Purged   []string      `json:"purged,omitempty"` // first and last purged WAL file
	Warnings []string      `json:"warnings,omitempty"`
}

// run is one execution of BackupWorkflow.
type run struct {
	req   activities.Request
	plan  activities.Plan
	ref   activities.Ref
	began time.Time
	view  view
	res   BackupResult

	unclear int // copies in a row that failed for a reason without a name
}

// BackupWorkflow takes one backup of a server, through as many lost sessions
// and processes as its deadline allows, under one backup ID.
func BackupWorkflow(ctx workflow.Context, req activities.Request) (BackupResult, error) {
	r := &run{req: req, began: workflow.Now(ctx), view: view{server: req.Server}}
	if err := r.view.serve(ctx); err != nil {
		return r.res, err
	}
	err := r.backup(ctx)
	if err != nil {
		r.fail(ctx, err)
	}
	r.runScriptsAfter(ctx)
	return r.res, activities.Verdict("back up", req.Server, err)
}

func (r *run) backup(ctx workflow.Context) error {
	r.view.phase(ctx, "preflight", "Looks whether a backup can be taken: configuration, server, privileges, programs.")
	var p *activities.Preflight
	asked := r.req
	r.req.Configured = nil
	once := light("looks whether a backup can be taken", r.plan)
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, once), p.PlanBackup, asked).Get(ctx, &r.plan); err != nil {
		return err
	}
	r.view.plan = r.plan
	var c *activities.Catalogue
	r.ref = activities.Ref{Request: r.req}
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, light("enters the backup into the catalogue", r.plan)), c.CreateBackup, r.req, r.plan).Get(ctx, &r.ref.ID); err != nil {
		return err
	}
	r.res.ID, r.view.id = r.ref.ID, r.ref.ID
	if err := r.runScriptsBefore(ctx); err != nil {
		return err
	}
	end, err := r.attempts(ctx)
	if err != nil {
		return err
	}
	r.view.phase(ctx, "label", "Stores the backup label and makes the end of the backup durable.")
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, heavy("stores the backup label", r.plan)), c.RecordCopied, r.ref, r.plan, end.stopped, end.copied).Get(ctx, nil); err != nil {
		return err
	}
	r.res.Status, r.res.Bytes, r.res.Warnings = backup.WaitingForWALs, end.copied.Bytes, end.copied.Warnings
	return r.finish(ctx)
}

// finish waits for the WAL, proves the backup and declares it done.
func (r *run) finish(ctx workflow.Context) error {
	var w *activities.WAL
	r.view.phase(ctx, "wal", "Waits until the WAL that the backup needs is archived.")
	var arrived bool
	waiting := heavy("waits for WAL", r.plan)
	waiting.TaskQueue = activities.WorkflowQueue
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, waiting), w.WaitForWAL, r.ref, r.plan.WALWait).Get(ctx, &arrived); err != nil {
		return err
	}
	if !arrived {
		r.res.Warnings = append(r.res.Warnings, "The WAL that the backup needs was not archived within "+r.plan.WALWait.String()+
			". The backup stays WAITING_FOR_WALS; look at archive_command and the server's log.")
		r.view.phase(ctx, "waiting", "**Not done yet**: "+r.res.Warnings[len(r.res.Warnings)-1])
		return nil
	}
	r.view.phase(ctx, "prove", r.view.proving())
	var v *activities.Proof
	var proof activities.Proven
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, heavy("reads the backup back", r.plan)), v.ProveBackup, r.ref).Get(ctx, &proof); err != nil {
		return err
	}
	if w := proof.Warning(); w != "" {
		r.res.Warnings = append(r.res.Warnings, w)
	}
	var c *activities.Catalogue
	var recorded activities.Recorded
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, light("declares the backup done", r.plan)), c.RecordDone, r.ref, proof).Get(ctx, &recorded); err != nil {
		return err
	}
	r.res.Status = backup.Done
	if !recorded.Follows {
		r.purge(ctx)
	}
	r.catchUp(ctx)
	r.view.phase(ctx, "done", "**Done**: "+proof.String())
	return nil
}

// purge removes WAL that no backup needs. The backup is done whatever becomes of that.
func (r *run) purge(ctx workflow.Context) {
	r.view.phase(ctx, "purge", "Removes WAL that no backup needs.")
	var w *activities.WAL
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, light("removes WAL that no backup needs", r.plan)), w.PurgeWAL, r.ref).Get(ctx, &r.res.Purged); err != nil && !temporal.IsCanceledError(err) {
		r.res.Warnings = append(r.res.Warnings, "Old WAL was not removed: "+activities.Fault("purge WAL", r.req.Server, err).Error())
	}
}

func (r *run) runScriptsBefore(ctx workflow.Context) error {
	if !r.plan.Hooks {
		return nil
	}
	r.view.phase(ctx, "scripts", "Runs the scripts that the configuration names before a backup.")
	var h *activities.Hooks
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, scripts("runs the scripts before the backup", r.plan)), h.BeforeBackup, r.ref).Get(ctx, nil)
}

// runScriptsAfter runs the scripts after a backup, however it ended. What they
// say changes nothing.
func (r *run) runScriptsAfter(ctx workflow.Context) {
	if !r.plan.Hooks || r.ref.ID == "" {
		return
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	var h *activities.Hooks
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, scripts("runs the scripts after the backup", r.plan)), h.AfterBackup, r.ref).Get(ctx, nil); err != nil {
		r.res.Warnings = append(r.res.Warnings, "The scripts after the backup did not end: "+activities.Fault("run the scripts after", r.req.Server, err).Error())
	}
}

// fail records the first error and ends what still works for the backup. What
// goes wrong here never hides that error.
func (r *run) fail(ctx workflow.Context, cause error) {
	f := activities.Fault("back up", r.req.Server, cause)
	defer func() { r.view.phase(ctx, "failed", failure(f)) }()
	if r.ref.ID == "" {
		return
	}
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	r.res.Status = backup.Failed
	ref := r.ref
	ref.Attempt++
	ending := heavy("ends the copy", r.plan)
	ending.ScheduleToCloseTimeout = 2 * time.Minute
	var c *activities.Catalogue
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, ending), c.AbortCopy, ref).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Warn("the copy could not be ended", "error", err)
	}
	if r.plan.Bracket == activities.Exclusive {
		var k *activities.Keeper
		leaving := lookup("makes sure that PostgreSQL has left backup mode", r.plan)
		leaving.ScheduleToCloseTimeout = 2 * time.Minute
		if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, leaving), k.EndExclusive, r.ref).Get(ctx, nil); err != nil {
			workflow.GetLogger(ctx).Warn("the server may still be in backup mode; the maintenance ends it", "error", err)
		}
	}
	failed := activities.Failure{Phase: r.view.now, Message: f.Error(), Hint: fault.HintOf(f), Cancelled: fault.Is(f, fault.Cancelled), Disk: fault.Is(f, fault.Disk)}
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, light("records why the backup failed", r.plan)), c.RecordFailed, ref, failed).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Error("the failure could not be recorded", "error", err)
	}
}

// failure is an error, its kind and its remedy, as the view shows them.
func failure(err error) string {
	text := fmt.Sprintf("**Failed** (%s): %s", fault.KindOf(err), verbatim(err.Error()))
	if hint := fault.HintOf(err); hint != "" {
		text += "\n\n**What to do**: " + verbatim(hint)
	}
	return text
}
