package activities

import (
	"context"
	"errors"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Interrupted is the type of errors that say nothing about the backup: the
// process that did the work was stopped, and another one goes on.
const Interrupted = "Interrupted"

// unclear is how often an error without a better kind is tried again.
const unclear = 4

// Trouble is what of our errors travels in an error's details.
type Trouble struct {
	Hint string `json:"hint,omitempty"`
}

// report is how an activity ends: nil, or an error with the kind as its type;
// ctx is the context that the work was done with. Cause chains stay here, so that no driver's text enters a history.
func report(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		if cancelled(ctx) {
			return temporal.NewCanceledError()
		}
		return temporal.NewApplicationError("interrupted: "+context.Cause(ctx).Error(), Interrupted)
	}
	kind := fault.KindOf(err)
	retry := kind == fault.Connection || kind == fault.Internal && activity.GetInfo(ctx).Attempt <= unclear
	return typed(err, retry)
}

// final is report for work that only another attempt at the whole can repeat.
func final(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return report(ctx, err)
	}
	return typed(err, false)
}

func typed(err error, retry bool) error {
	kind := fault.KindOf(err)
	return temporal.NewApplicationErrorWithOptions(err.Error(), string(kind), temporal.ApplicationErrorOptions{
		NonRetryable: !retry, Details: []any{Trouble{Hint: fault.HintOf(err)}}})
}

// patient is report for calls that wait for a resource which others hold now.
func patient(ctx context.Context, err error) error {
	if fault.Is(err, fault.Refused) && ctx.Err() == nil {
		return typed(err, true)
	}
	return report(ctx, err)
}

// cancelled tells somebody's wish from an interruption, after which another
// attempt goes on.
func cancelled(ctx context.Context) bool {
	var c *temporal.CanceledError
	return errors.As(context.Cause(ctx), &c)
}

// Fault turns an error that came through Temporal back into ours.
func Fault(op, subject string, err error) error {
	if err == nil {
		return nil
	}
	var c *temporal.CanceledError
	if errors.As(err, &c) {
		return fault.New(fault.Cancelled, op, subject, "it was cancelled")
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		e := fault.New(fault.Kind(app.Type()), "", "", "%s", app.Message())
		var t Trouble
		if app.HasDetails() && app.Details(&t) == nil {
			e.Hint = t.Hint
		}
		return e
	}
	var late *temporal.TimeoutError
	if errors.As(err, &late) {
		return fault.New(fault.Internal, op, subject, "%s", whyLate(late.TimeoutType()))
	}
	return fault.Wrap(fault.Internal, op, subject, err)
}

// Silence is what is said of work that nobody answers for in time.
const Silence = "the process that worked on it died, or does not answer"

func whyLate(t enums.TimeoutType) string {
	if t == enums.TIMEOUT_TYPE_HEARTBEAT || t == enums.TIMEOUT_TYPE_SCHEDULE_TO_START {
		return Silence
	}
	return "it was not done in time"
}

// Verdict is how a workflow ends that failed with err: with the reason itself,
// not with the activity around it, so that lists of workflows show it.
func Verdict(op, subject string, err error) error {
	f := Fault(op, subject, err)
	if f == nil || fault.Is(f, fault.Cancelled) {
		return err
	}
	return typed(f, false)
}
