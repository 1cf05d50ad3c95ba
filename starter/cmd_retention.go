package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/disposal"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/retention"
	"github.com/holdfast-pg/holdfast/internal/snapshot/providers"
)

func (a *app) cmdRetention() *cobra.Command {
	var planOnly bool
	cmd := &cobra.Command{
		Use: "retention SERVER...", Short: "Delete what the retention policy does not keep, or say what that would be",
		Long: `Applies retention_policy: deletes obsolete backups, the WAL that no backup left can use,
and what is left of deletions that were interrupted. With --plan it changes nothing and
says of every backup and of all WAL what would happen to it, and why.

Incremental backups share the fate of the full one that they depend on. Backups that
are FAILED or not finished are not the policy's business; those that wait for WAL do
not count, so that none that is proven is deleted for their sake. A backup that a
restore reads stays until the next time. While a backup is being made nothing is
deleted. Maintenance does the same regularly. The engine need not run.`,
		Example:     "  holdfast retention main --plan\n  holdfast retention main\n  holdfast -f json retention all --plan",
		Args:        atLeastOne("SERVER"),
		Annotations: exitCodes("0 done, or nothing to do", "1 failed; what was begun is finished later", "3 no such server", "4 a backup is being made or deleted"),
		RunE:        func(cmd *cobra.Command, args []string) error { return a.retention(cmd.Context(), args, planOnly) },
	}
	cmd.Flags().BoolVar(&planOnly, "plan", false, "change nothing, and say what would be deleted and why")
	return cmd
}

func (a *app) retention(ctx context.Context, names []string, planOnly bool) error {
	servers, err := a.usable(names)
	if err != nil {
		return err
	}
	for _, s := range servers {
		if err := a.retain(ctx, s, planOnly); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) retain(ctx context.Context, s *config.Server, planOnly bool) error {
	d, err := disposal.Of(ctx, s, drivers.Open, providers.Open)
	if err != nil {
		return err
	}
	plan, err := d.Plan(ctx, time.Now())
	if err != nil {
		return err
	}
	if planOnly {
		for _, w := range plan.Warnings {
			a.warn("%s: %s", s.Name, w)
		}
		a.json[s.Name] = report.Retention{Plan: plan}.JSON()
		for _, line := range (report.Retention{Plan: plan}).Lines(s.Name) {
			a.print("%s", line)
		}
		if len(plan.Doomed) > 0 || len(plan.Purge()) > 0 {
			a.print("Nothing was changed. To do it: holdfast retention %s", s.Name)
		}
		return nil
	}
	res, err := d.Apply(ctx, plan, time.Now())
	if res != nil {
		a.tellDisposal(s, res)
	}
	return err
}

// tellDisposal says what was deleted.
func (a *app) tellDisposal(s *config.Server, res *disposal.Result) {
	a.tellDeletion(s.Name, res.Plan, res.Deleted, res.Files)
}

func (a *app) tellDeletion(server string, plan *retention.Plan, deleted []backup.ID, files int) {
	for _, w := range plan.Warnings {
		a.warn("%s: %s", server, w)
	}
	a.json[server] = report.Retention{Plan: plan, Applied: true, Deleted: deleted, Files: files}.JSON()
	for _, id := range deleted {
		a.say("Deleted backup %s of server %s.", id, server)
	}
	switch {
	case files > 0:
		a.say("Deleted %s of WAL of server %s that no backup left can use.", count(files, "file"), server)
	case len(deleted) == 0 && plan.Policy == "":
		a.say("Server %s has no retention_policy: nothing was deleted.", server)
	case len(deleted) == 0:
		a.say("Nothing is to be deleted from server %s (%s).", server, plan.Policy)
	}
}
