package workflows

import (
	"cmp"
	"errors"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// BackupID is the workflow ID of the backup of a server: there is one at a time.
func BackupID(server string) string { return "backup/" + server }

// retries repeats what time may cure, quickly at first.
func retries() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 20 * time.Second}
}

// light is for short activities beside the workflow. They heartbeat all the
// same, so that the death of their process is noticed soon.
func light(summary string, plan activities.Plan) workflow.ActivityOptions {
	return workflow.ActivityOptions{TaskQueue: activities.WorkflowQueue, Summary: summary,
		StartToCloseTimeout: 10 * time.Minute, HeartbeatTimeout: cmp.Or(plan.Heartbeat, 30*time.Second), RetryPolicy: retries()}
}

// heavy is for copying and reading back: long, with a heartbeat.
func heavy(summary string, plan activities.Plan) workflow.ActivityOptions {
	return workflow.ActivityOptions{TaskQueue: activities.CopyQueue, Summary: summary,
		StartToCloseTimeout: plan.Deadline, HeartbeatTimeout: plan.Heartbeat, RetryPolicy: retries()}
}

// scripts is for those that the user has; a retry script may wait for long.
func scripts(summary string, plan activities.Plan) workflow.ActivityOptions {
	o := light(summary, plan)
	o.StartToCloseTimeout = plan.Deadline
	return o
}

// begin is for the start of a session, which may wait for a checkpoint.
func begin(plan activities.Plan) workflow.ActivityOptions {
	summary := "PostgreSQL enters backup mode"
	if plan.Bracket == activities.Native {
		summary = "takes the backup lock of the server"
	}
	return workflow.ActivityOptions{TaskQueue: activities.KeeperQueue, Summary: summary,
		StartToCloseTimeout: plan.Deadline, HeartbeatTimeout: plan.Heartbeat, RetryPolicy: retries()}
}

// hold is for the activity that holds a session. Only its own keeper can run
// it: one that does not take it in time is gone.
func hold(s activities.HeldSession, plan activities.Plan) workflow.ActivityOptions {
	summary := "keeps PostgreSQL in backup mode while the copy runs"
	if plan.Bracket == activities.Native {
		summary = "holds the backup lock while the copy runs"
	}
	return workflow.ActivityOptions{TaskQueue: s.HoldQueue, ActivityID: "hold-" + s.Epoch, Summary: summary,
		ScheduleToStartTimeout: plan.Heartbeat, StartToCloseTimeout: plan.Deadline, HeartbeatTimeout: plan.Heartbeat,
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 1.5, MaximumInterval: 2 * time.Second}}
}

// stop is for the end of a session.
func stop(s activities.HeldSession, plan activities.Plan) workflow.ActivityOptions {
	summary := "PostgreSQL leaves backup mode"
	if plan.Bracket == activities.Native {
		summary = "asks PostgreSQL where the backup ends"
	}
	return call(s, summary, plan.Heartbeat)
}

// call is for short calls to the keeper of a session.
func call(s activities.HeldSession, summary string, within time.Duration) workflow.ActivityOptions {
	return workflow.ActivityOptions{TaskQueue: s.CallQueue, Summary: summary,
		ScheduleToStartTimeout: within, StartToCloseTimeout: 5 * time.Minute, HeartbeatTimeout: within, RetryPolicy: retries()}
}

// lookup is for questions that any keeper can answer.
func lookup(summary string, plan activities.Plan) workflow.ActivityOptions {
	return workflow.ActivityOptions{TaskQueue: activities.KeeperQueue, Summary: summary,
		StartToCloseTimeout: 10 * time.Minute, HeartbeatTimeout: plan.Heartbeat, RetryPolicy: retries()}
}

// isKind reports whether an activity ended with one of our kinds.
func isKind(err error, kind fault.Kind) bool {
	var app *temporal.ApplicationError
	return errors.As(err, &app) && app.Type() == string(kind)
}

// silent reports whether an activity failed because nobody worked on it in time.
func silent(err error) bool {
	var t *temporal.TimeoutError
	return errors.As(err, &t) && (t.TimeoutType() == enums.TIMEOUT_TYPE_SCHEDULE_TO_START || t.TimeoutType() == enums.TIMEOUT_TYPE_HEARTBEAT)
}
