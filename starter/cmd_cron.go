package main

import (
	"context"

	"github.com/spf13/cobra"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/workflows"
)

func (a *app) cmdCron() *cobra.Command {
	return &cobra.Command{
		Use: "cron [SERVER...]", Short: "Do the maintenance of all servers once, now",
		Long: `Starts the streaming of WAL where it should run and does not, archives the WAL that
arrived, finishes backups that waited for WAL, ends abandoned ones, applies the
retention policy and clears up. "holdfast up" does it by itself every
holdfast_maintenance_interval; nothing has to be put into a crontab.`,
		Example: "  holdfast cron\n  holdfast cron main",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{allServers}
			}
			return a.cron(cmd.Context(), args)
		},
	}
}

func (a *app) cron(ctx context.Context, names []string) error {
	servers, err := a.usable(names)
	if err != nil {
		return err
	}
	failed := a.startReceivers(ctx, servers)
	c, err := a.engine(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	runs := map[string]client.WorkflowRun{}
	for _, s := range servers {
		if !s.Active {
			continue
		}
		if runs[s.Name], err = startMaintenance(ctx, c, s); err != nil {
			return err
		}
	}
	for _, s := range servers {
		run := runs[s.Name]
		if run == nil {
			continue
		}
		var res workflows.MaintenanceResult
		err := run.Get(ctx, &res)
		if err != nil && ctx.Err() == nil {
			failed = true
			a.warnOf(activities.Fault("maintain", s.Name, err))
		} else if err != nil {
			return err
		}
		for _, w := range res.Warnings {
			a.warn("Server %s: %s", s.Name, w)
		}
		a.json[s.Name] = res
		text := res.String()
		if text == "" {
			text = "nothing to do"
		}
		a.print("Server %s: %s.", s.Name, text)
	}
	if failed {
		return exitError(1)
	}
	return nil
}

// startMaintenance starts a maintenance, or joins the one that somebody asked
// for and that still runs.
func startMaintenance(ctx context.Context, c client.Client, s *config.Server) (client.WorkflowRun, error) {
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.MaintenanceID(s.Name), TaskQueue: activities.WorkflowQueue,
		WorkflowIDConflictPolicy: enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		TypedSearchAttributes:    workflows.ServerAttribute(s.Name),
		StaticSummary:            "maintenance of " + s.Name,
	}, workflows.MaintenanceWorkflow, workflows.MaintenanceRequest{Server: s.Name})
	return run, unreachable(err)
}
