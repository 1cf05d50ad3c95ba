package workflows

import (
	"cmp"
	"errors"
	"strings"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/backup"
)

// ReplicasID is the workflow ID of what brings a backup to the destinations that lack it.
func ReplicasID(server string, id backup.ID) string { return "replicas/" + server + "/" + string(id) }

// ReplicasRequest names the backup, and after which time a silent activity counts as dead.
type ReplicasRequest struct {
	Server    string        `json:"server"`
	ID        backup.ID     `json:"id"`
	Heartbeat time.Duration `json:"heartbeat,omitempty"`
}

// catchUpFor is for how long it is tried; the next maintenance begins anew.
const catchUpFor = 7 * 24 * time.Hour

// ReplicasWorkflow brings a backup to the destinations that lack something of it. It
// tries for days, with pauses that grow to ten minutes.
func ReplicasWorkflow(ctx workflow.Context, req ReplicasRequest) (activities.CaughtUp, error) {
	o := workflow.ActivityOptions{TaskQueue: activities.CopyQueue, Summary: "copies backup " + string(req.ID) + " to the destinations that lack it",
		StartToCloseTimeout: catchUpFor, ScheduleToCloseTimeout: catchUpFor, HeartbeatTimeout: cmp.Or(req.Heartbeat, 30*time.Second),
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 5 * time.Second, BackoffCoefficient: 2, MaximumInterval: 10 * time.Minute}}
	workflow.SetCurrentDetails(ctx, "Copies backup "+string(req.ID)+" to the destinations that lack it.")
	var c *activities.Cloud
	var out activities.CaughtUp
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, o), c.CatchUpReplicas, req.Server, req.ID).Get(ctx, &out)
	switch {
	case err != nil:
		workflow.SetCurrentDetails(ctx, failure(activities.Fault("copy", string(req.ID), err))+"\n\nThe maintenance begins it anew.")
	case len(out.URLs) == 0:
		workflow.SetCurrentDetails(ctx, "There was nothing to do.")
	default:
		workflow.SetCurrentDetails(ctx, "**Done**: all of it is at "+verbatim(strings.Join(out.URLs, ", "))+", too.")
	}
	return out, activities.Verdict("copy", string(req.ID), err)
}

// startCatchUp starts ReplicasWorkflow for a backup, unless it runs.
func startCatchUp(ctx workflow.Context, req ReplicasRequest) error {
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: ReplicasID(req.Server, req.ID), ParentClosePolicy: enums.PARENT_CLOSE_POLICY_ABANDON,
		TypedSearchAttributes: ServerAttribute(req.Server), StaticSummary: "backup " + string(req.ID) + " of " + req.Server + " for the destinations that lack it",
	}), ReplicasWorkflow, req)
	err := child.GetChildWorkflowExecution().Get(ctx, nil)
	var busy *temporal.ChildWorkflowExecutionAlreadyStartedError
	if errors.As(err, &busy) {
		return nil
	}
	return err
}

// catchUp has the destinations that lack the backup caught up. The backup is done whatever becomes of that.
func (r *run) catchUp(ctx workflow.Context) {
	if !r.plan.Replicas {
		return
	}
	var c *activities.Catalogue
	var behind bool
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, light("looks whether a destination lacks the backup", r.plan)), c.BehindReplicas, r.ref).Get(ctx, &behind)
	if err == nil && behind {
		r.res.Warnings = append(r.res.Warnings, "Not every destination has the backup. The others get it later; show-backup tells which, and why.")
		err = startCatchUp(ctx, ReplicasRequest{Server: r.req.Server, ID: r.ref.ID, Heartbeat: r.plan.Heartbeat})
	}
	if err != nil && !temporal.IsCanceledError(err) {
		r.res.Warnings = append(r.res.Warnings, "The maintenance looks for destinations that lack the backup: "+activities.Fault("look at the destinations of", r.req.Server, err).Error())
	}
}
