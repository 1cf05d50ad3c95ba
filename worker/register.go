package main

import (
	"context"
	"time"

	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/keeper"
)

// A keeper's activities are registered one by one: each belongs to one of its
// three queues, so that holds cannot starve stops.
func registerHold(w worker.Worker, k *activities.Keeper) {
	w.RegisterActivityWithOptions(k.HoldSession, activity.RegisterOptions{Name: "HoldSession"})
}

func registerCalls(w worker.Worker, k *activities.Keeper) {
	w.RegisterActivityWithOptions(k.StopBackup, activity.RegisterOptions{Name: "StopBackup"})
	w.RegisterActivityWithOptions(k.AbortSession, activity.RegisterOptions{Name: "AbortSession"})
}

func registerShared(w worker.Worker, k *activities.Keeper) {
	w.RegisterActivityWithOptions(k.StartBackup, activity.RegisterOptions{Name: "StartBackup"})
	w.RegisterActivityWithOptions(k.LookupStop, activity.RegisterOptions{Name: "LookupStop"})
	w.RegisterActivityWithOptions(k.EndExclusive, activity.RegisterOptions{Name: "EndExclusive"})
}

// running asks the engine whether a run still runs.
func running(c client.Client) func(keeper.Owner) (bool, error) {
	return func(o keeper.Owner) (bool, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		d, err := c.DescribeWorkflowExecution(ctx, o.WorkflowID, o.RunID)
		if isGone(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return d.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING, nil
	}
}
