package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/workflows"
)

type backupOptions struct {
	wait, detach         bool
	name, reuse          string
	incremental          string
	immediate, spread    bool
	jobs, bwlimit, retry int
	retrySleep           int
	noRetry              bool
	manifest, noManifest bool
}

func (a *app) cmdBackup() *cobra.Command {
	var o backupOptions
	cmd := &cobra.Command{
		Use: "backup SERVER", Short: "Take a backup and watch it",
		Long: `Takes a backup of a server. The backup runs in the engine: it goes on when this
command ends, whatever ends it. Options override the configuration for this one
backup.`,
		Example: "  holdfast backup main\n  holdfast backup main --immediate-checkpoint --name before-upgrade\n  holdfast backup main --incremental latest-full\n  holdfast backup main --detach",
		Args:    exactly("SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.backup(cmd.Context(), args[0], o, o.overrides(cmd))
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.wait, "wait", "w", false, "fail unless the backup is DONE, its WAL included, in the end")
	f.BoolVar(&o.detach, "detach", false, "start the backup and return")
	f.StringVar(&o.name, "name", "", "`name` of the backup, to be used instead of its ID")
	f.StringVar(&o.incremental, "incremental", "", "`backup` to build on (PostgreSQL 17 and later): an ID, a name, latest or latest-full")
	f.BoolVar(&o.immediate, "immediate-checkpoint", false, "begin with a checkpoint at full speed")
	f.BoolVar(&o.spread, "no-immediate-checkpoint", false, "begin with a checkpoint that spares the server")
	f.IntVarP(&o.jobs, "jobs", "j", 0, "`number` of parallel copies")
	f.StringVar(&o.reuse, "reuse-backup", "", "`mode` in which an rsync backup uses the previous one: link, copy or off")
	f.Lookup("reuse-backup").NoOptDefVal = "link"
	f.IntVar(&o.bwlimit, "bwlimit", 0, "`kB/s` for the whole copy; 0 for no limit")
	f.IntVar(&o.retry, "retry-times", 0, "`times` that a failed copy command is tried again")
	f.IntVar(&o.retrySleep, "retry-sleep", 0, "`seconds` before that")
	f.BoolVar(&o.noRetry, "no-retry", false, "same as --retry-times 0")
	f.BoolVar(&o.manifest, "manifest", false, "write a backup_manifest into an rsync backup")
	f.BoolVar(&o.noManifest, "no-manifest", false, "write none")
	cmd.MarkFlagsMutuallyExclusive("manifest", "no-manifest")
	cmd.MarkFlagsMutuallyExclusive("wait", "detach")
	cmd.MarkFlagsMutuallyExclusive("immediate-checkpoint", "no-immediate-checkpoint")
	cmd.MarkFlagsMutuallyExclusive("retry-times", "no-retry")
	return cmd
}

// overrides are the options that were really given.
func (o *backupOptions) overrides(cmd *cobra.Command) activities.Overrides {
	var out activities.Overrides
	given := func(name string) bool { return cmd.Flags().Changed(name) }
	if given("immediate-checkpoint") {
		out.ImmediateCheckpoint = &o.immediate
	}
	if given("no-immediate-checkpoint") {
		fast := !o.spread
		out.ImmediateCheckpoint = &fast
	}
	if given("manifest") {
		out.Manifest = &o.manifest
	}
	if given("no-manifest") {
		wanted := !o.noManifest
		out.Manifest = &wanted
	}
	if given("jobs") {
		out.Jobs = &o.jobs
	}
	if given("reuse-backup") {
		out.ReuseBackup = &o.reuse
	}
	if given("bwlimit") {
		out.BandwidthLimit = &o.bwlimit
	}
	if given("retry-times") {
		out.RetryTimes = &o.retry
	}
	if given("no-retry") {
		none := 0
		out.RetryTimes = &none
	}
	if given("retry-sleep") {
		d := time.Duration(o.retrySleep) * time.Second
		out.RetrySleep = &d
	}
	return out
}

func checkOverrides(o activities.Overrides) error {
	bad := func(option string, value any, want string) error {
		return fault.New(fault.Usage, "read", option, "%v is not %s", value, want)
	}
	switch {
	case o.Jobs != nil && *o.Jobs < 1:
		return bad("--jobs", *o.Jobs, "at least 1")
	case o.BandwidthLimit != nil && *o.BandwidthLimit < 0:
		return bad("--bwlimit", *o.BandwidthLimit, "0 or more")
	case o.RetryTimes != nil && *o.RetryTimes < 0:
		return bad("--retry-times", *o.RetryTimes, "0 or more")
	case o.RetrySleep != nil && *o.RetrySleep < 0:
		return bad("--retry-sleep", o.RetrySleep.Seconds(), "0 or more")
	case o.ReuseBackup != nil && *o.ReuseBackup != "off" && *o.ReuseBackup != "copy" && *o.ReuseBackup != "link":
		return bad("--reuse-backup", *o.ReuseBackup, "link, copy or off")
	}
	return nil
}

// checkMethod refuses what a server's method has no use for, as its configuration does.
func checkMethod(s *config.Server, o activities.Overrides) error {
	if s.BackupMethod != config.MethodSnapshot {
		return nil
	}
	refuse := func(option string) error {
		return fault.New(fault.Usage, "read", option, "backup_method of %s is snapshot, and snapshots copy nothing", s.Name).WithHint("leave it out")
	}
	switch {
	case o.BandwidthLimit != nil && *o.BandwidthLimit > 0:
		return refuse("--bwlimit")
	case o.ReuseBackup != nil && *o.ReuseBackup != "off":
		return refuse("--reuse-backup")
	}
	return nil
}

func (a *app) backup(ctx context.Context, name string, o backupOptions, overrides activities.Overrides) error {
	if err := checkOverrides(overrides); err != nil {
		return err
	}
	s, cat, err := a.catalog(name)
	if err != nil {
		return err
	}
	if err := checkMethod(s, overrides); err != nil {
		return err
	}
	if o.name != "" {
		if err := cat.CheckName(o.name); err != nil {
			return err
		}
	}
	req := activities.Request{Server: name, Name: o.name, Overrides: overrides, Configured: s.Marks()}
	if o.incremental != "" {
		parent, err := cat.Resolve(o.incremental)
		if err != nil {
			return err
		}
		req.BuildOn = string(parent.ID)
	}
	c, err := a.engine(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	run, err := startBackup(ctx, c, s, req)
	if err != nil {
		return err
	}
	if o.detach {
		a.json["workflow_id"], a.json["run_id"] = run.GetID(), run.GetRunID()
		a.say("The backup of %s has started. Watch it: holdfast status %s. End it: holdfast cancel %s.", name, name, name)
		return nil
	}
	res, err := a.follow(ctx, c, run, s)
	if err != nil {
		return err
	}
	for _, w := range res.Warnings {
		a.warn("%s", w)
	}
	a.json["backup_id"], a.json["status"], a.json["size"], a.json["attempts"] = res.ID, res.Status, res.Bytes, res.Attempts
	a.say("Backup %s of server %s is %s (%s, %s).", res.ID, name, res.Status, report.Size(res.Bytes), attemptsText(res.Attempts))
	if o.wait && res.Status != backup.Done {
		return exitError(1)
	}
	return nil
}

// startBackup starts the workflow of a server, of which there is one at a time.
func startBackup(ctx context.Context, c client.Client, s *config.Server, req activities.Request) (client.WorkflowRun, error) {
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflows.BackupID(s.Name), TaskQueue: activities.WorkflowQueue,
		WorkflowIDConflictPolicy:                 enums.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		TypedSearchAttributes:                    workflows.SearchAttributes(s.Name),
		StaticSummary:                            "backup of " + s.Name + " (" + s.BackupMethod + ")",
		StaticDetails:                            s.Description,
	}, workflows.BackupWorkflow, req)
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &running) {
		return nil, fault.New(fault.Refused, "back up", s.Name, "a backup of this server runs already").
			WithHint("watch it: holdfast status %s; end it: holdfast cancel %s", s.Name, s.Name)
	}
	return run, unreachable(err)
}

// unreachable gives a failed call to the engine its kind.
func unreachable(err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Unreachable, "ask", "the engine", "%w", err).WithHint("is it running? start it with: holdfast up")
}
