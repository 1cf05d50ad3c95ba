package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/workflows"
)

func (a *app) cmdCancel() *cobra.Command {
	return &cobra.Command{
		Use: "cancel SERVER", Short: "End the running backup of a server",
		Long:    "Ends the running backup of a server: PostgreSQL leaves backup mode, the copy stops,\nand the backup is listed as FAILED.",
		Example: "  holdfast cancel main", Args: exactly("SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.cancel(cmd.Context(), args[0]) },
	}
}

// cancelWithin is how long a cancelled backup may take to end.
const cancelWithin = 90 * time.Second

func (a *app) cancel(ctx context.Context, name string) error {
	if _, err := a.server(name); err != nil {
		return err
	}
	c, err := a.engine(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	id := workflows.BackupID(name)
	running, err := isRunning(ctx, c, id)
	if err == nil && running {
		err = c.CancelWorkflow(ctx, id, "")
	}
	var gone *serviceerror.NotFound
	if errors.As(err, &gone) || err == nil && !running {
		return fault.New(fault.NotFound, "cancel the backup of", name, "no backup of this server runs").WithHint("holdfast list-backups %s shows those that ended", name)
	}
	if err != nil {
		return unreachable(err)
	}
	return a.awaitCancel(ctx, c, id, name)
}

func isRunning(ctx context.Context, c client.Client, id string) (bool, error) {
	d, err := c.DescribeWorkflowExecution(ctx, id, "")
	return err == nil && d.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING, err
}

func (a *app) awaitCancel(ctx context.Context, c client.Client, id, name string) error {
	waiting, cancel := context.WithTimeout(ctx, cancelWithin)
	defer cancel()
	var res workflows.BackupResult
	err := c.GetWorkflow(waiting, id, "").Get(waiting, &res)
	switch {
	case waiting.Err() != nil:
		a.warn("The backup of %s was asked to end and has not ended yet. Watch it: holdfast status %s", name, name)
		return exitError(1)
	case err == nil:
		a.say("The backup of %s had ended already: %s is %s.", name, res.ID, res.Status)
	default:
		a.say("The backup of %s was ended.", name)
	}
	return nil
}
