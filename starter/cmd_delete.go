package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/disposal"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/snapshot/providers"
)

func (a *app) cmdDelete() *cobra.Command {
	var o from
	cmd := &cobra.Command{
		Use: "delete SERVER BACKUP...", Short: "Delete backups, and the WAL that no other backup can use",
		Long: `Deletes backups with all incremental ones that depend on them, and then the WAL that
no backup left can use. From the first moment on they are listed as FAILED; a deletion
that is interrupted is finished by "holdfast retention" or by maintenance.

Refused, with no way to force it: less than minimum_redundancy would be left, the
backup is kept (release it with "holdfast keep"), a restore reads it, or a backup is
being made. The engine is asked only about backups that are not finished.
` + references + "\n" + fromHelp + `
There are no locks between machines: what is not finished is deleted only when nothing
was added to it for 24 hours. What is locked in the store is refused. An interrupted
deletion is finished by giving the command again.`,
		Example:     "  holdfast delete main oldest\n  holdfast delete main 20261123T023506 before-upgrade",
		Args:        atLeastTwo("SERVER", "BACKUP"),
		Annotations: exitCodes("0 deleted", "1 failed; what was begun is finished later", "3 no such server or backup", "4 refused, nothing was deleted", "5 only the engine knows whether the backup is being made, and it does not answer"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.given() {
				return a.deleteFrom(cmd.Context(), args[0], args[1:], o)
			}
			return a.delete(cmd.Context(), args[0], args[1:])
		},
	}
	a.fromFlags(cmd, &o)
	return cmd
}

// atLeastTwo wants one argument of the first kind and some of the second.
func atLeastTwo(first, second string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= 2 {
			return nil
		}
		return fault.New(fault.Usage, "", "", "%s wants a %s and a %s", cmd.CommandPath(), first, second).WithHint("usage: %s", cmd.UseLine())
	}
}

func (a *app) delete(ctx context.Context, name string, refs []string) error {
	s, cat, err := a.catalog(name)
	if err != nil {
		return err
	}
	d, err := disposal.Of(ctx, s, drivers.Open, providers.Open)
	if err != nil {
		return err
	}
	var ids []backup.ID
	for _, ref := range refs {
		info, err := cat.Resolve(ref)
		if err != nil {
			return err
		}
		ids = append(ids, info.ID)
	}
	inUse, err := a.beingMade(ctx, cat, ids)
	if err != nil {
		return err
	}
	res, err := d.Delete(ctx, ids, inUse, time.Now())
	if res != nil {
		a.tellDisposal(s, res)
	}
	return err
}

// beingMade finds out which of the backups, and of those that depend on them,
// a workflow is still busy with. Locks do not tell: a backup that waits for its
// WAL holds none.
func (a *app) beingMade(ctx context.Context, cat *catalog.Catalog, ids []backup.ID) (map[backup.ID]string, error) {
	all, err := cat.All()
	if err != nil {
		return nil, err
	}
	out := map[backup.ID]string{}
	for _, info := range all {
		if info.Status == backup.Done || info.Status == backup.Failed || !concerns(info, all, ids) {
			continue
		}
		extra, err := cat.Extra(info.ID)
		if err != nil {
			return nil, err
		}
		if extra.RunID == "" {
			continue // Barman makes it, under its lock
		}
		running, err := a.runs(ctx, extra)
		if err != nil {
			return nil, &fault.Error{Op: "delete backup", Subject: string(info.ID), Kind: fault.Unreachable, Err: err,
				Hint: "only the engine knows whether this backup is still being made; start it: holdfast up"}
		}
		if running {
			out[info.ID] = "it is being made; holdfast cancel " + cat.Server + " ends that"
		}
	}
	return out, nil
}

// concerns reports whether a backup or one that it depends on is among ids.
func concerns(info *backupinfo.Info, all []*backupinfo.Info, ids []backup.ID) bool {
	for range all {
		if slices.Contains(ids, info.ID) {
			return true
		}
		if info.Parent == nil {
			return false
		}
		i := slices.IndexFunc(all, func(b *backupinfo.Info) bool { return b.ID == *info.Parent })
		if i < 0 {
			return false
		}
		info = all[i]
	}
	return false
}

func (a *app) runs(ctx context.Context, e *catalog.Extra) (bool, error) {
	c, err := a.engine(ctx)
	if err != nil {
		return false, err
	}
	defer c.Close()
	running, err := runGoesOn(ctx, c, e.WorkflowID, e.RunID)
	return running, unreachable(err)
}

// runGoesOn asks the engine whether a workflow run has not ended.
func runGoesOn(ctx context.Context, c client.Client, workflowID, runID string) (bool, error) {
	d, err := c.DescribeWorkflowExecution(ctx, workflowID, runID)
	var none *serviceerror.NotFound
	if errors.As(err, &none) {
		return false, nil
	}
	return err == nil && d.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING, err
}
