package workflows

import (
	"errors"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/schedule"
)

// CatchUp is how late a scheduled run may begin when the engine was away at its time.
const CatchUp = time.Hour

// ScheduleID is the ID of the schedule of a server's backups.
func ScheduleID(server string) string { return "backup/" + server }

// BackupSchedule is a schedule as the engine takes it. Runs overlap, so that
// each one that finds a backup running leaves a record that it was skipped.
func BackupSchedule(server string, spec schedule.Spec, paused bool, note string) client.ScheduleOptions {
	return client.ScheduleOptions{
		ID: ScheduleID(server), Spec: scheduleSpec(spec), Paused: paused, Note: note,
		Overlap: enums.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL, CatchupWindow: CatchUp,
		Action: &client.ScheduleWorkflowAction{
			ID: "scheduled-backup/" + server, Workflow: ScheduledBackupWorkflow, Args: []any{ScheduledRequest{Server: server, Schedule: spec.String()}},
			TaskQueue: activities.WorkflowQueue, TypedSearchAttributes: ServerAttribute(server),
			StaticSummary: "scheduled backup of " + server + ": " + spec.String(),
		},
	}
}

func scheduleSpec(s schedule.Spec) client.ScheduleSpec {
	out := client.ScheduleSpec{Jitter: s.Jitter, TimeZoneName: s.Zone}
	if s.Every > 0 {
		out.Intervals = []client.ScheduleIntervalSpec{{Every: s.Every}}
		return out
	}
	out.CronExpressions = s.Crons()
	return out
}

// ServerAttribute is the search attribute that names a server.
func ServerAttribute(server string) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(attrServer.ValueSet(server))
}

// ScheduledRequest names the server whose backup is due, and the schedule that
// says so.
type ScheduledRequest struct {
	Server   string `json:"server"`
	Schedule string `json:"schedule"`
}

// attrDue is set by the engine on what a schedule starts.
var attrDue = temporal.NewSearchAttributeKeyTime("TemporalScheduledStartTime")

// ScheduledBackupWorkflow takes the backup of a server that is due, unless one
// runs already: then it records that this one was skipped. The backup does not
// end with this workflow.
func ScheduledBackupWorkflow(ctx workflow.Context, req ScheduledRequest) (schedule.Run, error) {
	began := workflow.Now(ctx)
	run := schedule.Run{Due: began, Began: began, Outcome: schedule.Started}
	if due, ok := workflow.GetTypedSearchAttributes(ctx).GetTime(attrDue); ok {
		run.Due = due
	}
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: BackupID(req.Server), ParentClosePolicy: enums.PARENT_CLOSE_POLICY_ABANDON,
		TypedSearchAttributes: SearchAttributes(req.Server), StaticSummary: "backup of " + req.Server + " (scheduled)",
	}), BackupWorkflow, activities.Request{Server: req.Server})
	err := child.GetChildWorkflowExecution().Get(ctx, nil)
	var busy *temporal.ChildWorkflowExecutionAlreadyStartedError
	if errors.As(err, &busy) {
		run.Outcome, run.Reason = schedule.Skipped, "another backup of this server was running"
		err = nil
	}
	if err != nil {
		return run, err
	}
	record(ctx, req.Server, run)
	if run.Outcome == schedule.Skipped {
		workflow.SetCurrentDetails(ctx, "**skipped**: "+run.Reason+".")
		return run, workflow.UpsertTypedSearchAttributes(ctx, attrPhase.ValueSet("skipped"))
	}
	workflow.SetCurrentDetails(ctx, "The backup runs as workflow `"+BackupID(req.Server)+"`.")
	var res BackupResult
	err = child.Get(ctx, &res)
	run.Outcome, run.Backup = schedule.Done, res.ID
	if err != nil {
		run.Outcome, run.Reason = schedule.Failed, activities.Fault("back up", req.Server, err).Error()
	} else if res.Status != backup.Done {
		run.Reason = "the backup is " + string(res.Status)
	}
	record(ctx, req.Server, run)
	return run, err
}

// record keeps what became of a run where the engine's loss does not reach it.
func record(ctx workflow.Context, server string, run schedule.Run) {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	var c *activities.Catalogue
	o := light("records the scheduled run", activities.Plan{})
	o.ScheduleToCloseTimeout = 10 * time.Minute
	if err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, o), c.RecordScheduledRun, server, run).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Error("the scheduled run could not be recorded", "error", err)
	}
}
