package workflows

import (
	"fmt"
	"strings"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// MaintenanceID is the workflow ID of a maintenance that somebody asked for,
// and the ID of the schedule of a server's maintenance.
func MaintenanceID(server string) string { return "maintenance/" + server }

// MaintenanceSchedule is the schedule of a server's maintenance. A run that is
// due while another one runs is left out.
func MaintenanceSchedule(server string, every time.Duration) client.ScheduleOptions {
	return client.ScheduleOptions{
		ID: MaintenanceID(server), Spec: client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: every}}, Jitter: every / 5},
		Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP, CatchupWindow: every,
		Action: &client.ScheduleWorkflowAction{
			ID: MaintenanceID(server), Workflow: MaintenanceWorkflow, Args: []any{MaintenanceRequest{Server: server, Schedule: every.String()}},
			TaskQueue: activities.WorkflowQueue, TypedSearchAttributes: ServerAttribute(server), StaticSummary: "maintenance of " + server,
		},
	}
}

// MaintenanceRequest names the server that is kept in order, and how often.
type MaintenanceRequest struct {
	Server   string `json:"server"`
	Schedule string `json:"schedule,omitempty"`
}

// MaintenanceResult is what a maintenance did.
type MaintenanceResult struct {
	Archived  int         `json:"archived,omitempty"`  // WAL files
	Abandoned []backup.ID `json:"abandoned,omitempty"` // marked as FAILED
	Proved    []backup.ID `json:"proved,omitempty"`    // DONE now
	Deleted   []backup.ID `json:"deleted,omitempty"`   // by the retention policy
	Purged    int         `json:"purged,omitempty"`    // WAL files
	Warnings  []string    `json:"warnings,omitempty"`
}

// String is for people; "" when there was nothing to do.
func (r MaintenanceResult) String() string {
	var parts []string
	add := func(n int, what string) {
		if n == 1 {
			parts = append(parts, "1 "+what)
		} else if n > 1 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.Replace(what, " ", "s ", 1)))
		}
	}
	add(r.Archived, "segment archived")
	add(len(r.Abandoned), "backup abandoned")
	add(len(r.Proved), "backup proved")
	add(len(r.Deleted), "backup deleted")
	add(r.Purged, "segment purged")
	return strings.Join(parts, ", ")
}

// maintenance is one execution of MaintenanceWorkflow.
type maintenance struct {
	server string
	res    MaintenanceResult
	first  error
}

// MaintenanceWorkflow keeps a server's backups in order: it archives what
// arrived, ends abandoned backups, finishes proofs, applies the retention
// policy and clears up. A step that fails keeps no later one from its work.
func MaintenanceWorkflow(ctx workflow.Context, req MaintenanceRequest) (MaintenanceResult, error) {
	m := &maintenance{server: req.Server}
	var a *activities.Maintenance
	var arrived activities.Arrived
	if m.do(ctx, "archives the WAL that arrived", a.ArchiveArrived, &arrived) {
		m.res.Archived = arrived.Archived
		m.res.Warnings = append(m.res.Warnings, arrived.Warnings...)
	}
	m.do(ctx, "ends abandoned backups", a.EndAbandoned, &m.res.Abandoned)
	var ready []backup.ID
	m.do(ctx, "looks for backups whose WAL has arrived", a.ReadyToProve, &ready)
	for _, id := range ready {
		m.prove(ctx, id)
	}
	var kept activities.Retained
	if m.do(ctx, "applies the retention policy", a.ApplyRetention, &kept) {
		m.res.Deleted, m.res.Purged = kept.Deleted, kept.Purged
		m.res.Warnings = append(m.res.Warnings, kept.Warnings...)
	}
	for _, id := range kept.Behind {
		m.warn("lets backup "+string(id)+" be copied to the destinations that lack it", startCatchUp(ctx, ReplicasRequest{Server: m.server, ID: id}))
	}
	m.do(ctx, "clears up after killed processes", a.SweepLeftovers, nil)
	workflow.SetCurrentDetails(ctx, m.details())
	return m.res, m.first
}

// step is for the activities of a maintenance. What fails is tried again by the
// next one.
func step(summary string) workflow.ActivityOptions {
	o := light(summary, activities.Plan{})
	o.StartToCloseTimeout = 6 * time.Hour // a backup of terabytes may be deleted
	o.HeartbeatTimeout = 15 * time.Second
	o.RetryPolicy.MaximumAttempts = 3
	return o
}

// do runs a step; an error becomes a warning.
func (m *maintenance) do(ctx workflow.Context, summary string, act, out any) bool {
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, step(summary)), act, m.server).Get(ctx, out)
	m.warn(summary, err)
	return err == nil
}

func (m *maintenance) warn(summary string, err error) {
	if err == nil {
		return
	}
	f := activities.Fault(summary, m.server, err)
	m.res.Warnings = append(m.res.Warnings, f.Error())
	if m.first == nil {
		m.first = err
	}
}

// prove finishes a backup whose WAL came late.
func (m *maintenance) prove(ctx workflow.Context, id backup.ID) {
	ref := activities.Ref{Request: activities.Request{Server: m.server}, ID: id}
	var v *activities.Proof
	var c *activities.Catalogue
	var w *activities.WAL
	reading := step("reads backup " + string(id) + " back")
	reading.TaskQueue = activities.CopyQueue
	var proof activities.Proven
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, reading), v.ProveBackup, ref).Get(ctx, &proof)
	if isKind(err, fault.Corrupt) {
		failed := activities.Failure{Phase: "prove", Message: activities.Fault("prove", string(id), err).Error()}
		m.warn("proves backup "+string(id), err)
		err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, step("records why the backup failed")), c.RecordFailed, ref, failed).Get(ctx, nil)
		m.warn("records the failure of backup "+string(id), err)
		return
	}
	var recorded activities.Recorded
	if err == nil {
		err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, step("declares backup "+string(id)+" done")), c.RecordDone, ref, proof).Get(ctx, &recorded)
	}
	if err != nil {
		m.warn("proves backup "+string(id), err)
		return
	}
	m.res.Proved = append(m.res.Proved, id)
	if recorded.Follows {
		return
	}
	var purged []string
	err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, step("removes WAL that no backup needs")), w.PurgeWAL, ref).Get(ctx, &purged)
	if err != nil && !temporal.IsCanceledError(err) {
		m.warn("removes old WAL", err)
	}
}

func (m *maintenance) details() string {
	var b strings.Builder
	if text := m.res.String(); text != "" {
		fmt.Fprintf(&b, "**Done**: %s.\n\n", text)
	} else {
		b.WriteString("There was nothing to do.\n\n")
	}
	for _, w := range m.res.Warnings {
		fmt.Fprintf(&b, "- %s\n", w)
	}
	return b.String()
}
