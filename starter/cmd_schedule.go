package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	enums "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/schedule"
)

func (a *app) cmdSchedule() *cobra.Command {
	cmd := &cobra.Command{
		Use: "schedule", Short: "Say when backups are taken",
		Long: `Schedules run in the engine. They are also kept with the backups, so that "holdfast up"
restores them when the engine's database is new. A run that is due while another
backup of the server runs is skipped, and recorded as such; one that was due while the
engine was down begins up to one hour late.`,
		Args: unknownCommand, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.cmdScheduleSet(), a.cmdScheduleList(), a.cmdScheduleShow(),
		a.cmdSchedulePause(true), a.cmdSchedulePause(false), a.cmdScheduleTrigger(), a.cmdScheduleDelete(), a.cmdScheduleApply())
	return cmd
}

type scheduleOptions struct {
	cron, zone    string
	every, jitter time.Duration
}

func (a *app) cmdScheduleSet() *cobra.Command {
	var o scheduleOptions
	cmd := &cobra.Command{
		Use: "set SERVER", Short: "Make or replace the schedule of a server",
		Example: "  holdfast schedule set main --cron \"0 2 * * *\" --timezone Europe/Berlin --jitter 10m\n  holdfast schedule set main --every 6h",
		Args:    exactly("SERVER"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.scheduleSet(cmd.Context(), args[0], o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.cron, "cron", "", "five cron `fields`, or @hourly, @daily, @weekly, @monthly")
	f.DurationVar(&o.every, "every", 0, "`time` between two runs, counted from midnight UTC, such as 6h")
	f.DurationVar(&o.jitter, "jitter", 0, "`time` by which a run may begin later, so that not all servers begin at once")
	f.StringVar(&o.zone, "timezone", "", "`zone` of --cron, such as Europe/Berlin (default: UTC)")
	cmd.MarkFlagsMutuallyExclusive("cron", "every")
	cmd.MarkFlagsOneRequired("cron", "every")
	cmd.MarkFlagsMutuallyExclusive("every", "timezone")
	return cmd
}

// spec checks the options by writing them as a schedule and reading that.
func (o scheduleOptions) spec() (schedule.Spec, error) {
	return schedule.Parse(schedule.Spec{Cron: o.cron, Every: o.every, Jitter: o.jitter, Zone: o.zone}.String())
}

func (a *app) scheduleSet(ctx context.Context, name string, o scheduleOptions) error {
	spec, err := o.spec()
	if err != nil {
		return err
	}
	s, cat, err := a.catalog(name)
	if err != nil {
		return err
	}
	if err := notConfigured(s); err != nil {
		return err
	}
	next := schedule.Stored{Spec: spec.String(), Since: time.Now()}
	if err := a.changeSchedule(ctx, cat, func(c client.Client) error {
		before, err := cat.Schedule()
		if err != nil {
			return err
		}
		if before != nil {
			next.Paused, next.Note = before.Paused, before.Note
		}
		if err := cat.SaveSchedule(next); err != nil {
			return err
		}
		return ensureBackupSchedule(ctx, c, cat, next)
	}); err != nil {
		return err
	}
	a.say("Backups of %s are due %s; the next one on %s.", name, spec, report.When(spec.Next(time.Now()).Local()))
	if next.Paused {
		a.warn("The schedule is paused; resume it: holdfast schedule resume %s", name)
	}
	return nil
}

// notConfigured refuses to change what the configuration says.
func notConfigured(s *config.Server) error {
	if s.HoldfastBackupSchedule == "" {
		return nil
	}
	return fault.New(fault.Refused, "change the schedule of", s.Name, "it is configured: holdfast_backup_schedule (%s)", s.Origin("holdfast_backup_schedule")).
		WithHint("change it there, then: holdfast schedule apply")
}

func (a *app) cmdScheduleList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List all schedules with their latest and next runs",
		Example: "  holdfast schedule list\n  holdfast -f json schedule list", Args: exactly(),
		RunE: func(_ *cobra.Command, _ []string) error { return a.scheduleList([]string{allServers}) },
	}
}

func (a *app) cmdScheduleShow() *cobra.Command {
	return &cobra.Command{
		Use: "show SERVER", Short: "Show the schedule of a server with its latest and next run",
		Example: "  holdfast schedule show main", Args: exactly("SERVER"),
		RunE: func(_ *cobra.Command, args []string) error {
			_, cat, err := a.catalog(args[0])
			if err != nil {
				return err
			}
			if _, _, err := scheduleOf(cat); err != nil {
				return err
			}
			return a.scheduleList(args)
		},
	}
}

func (a *app) scheduleList(names []string) error {
	servers, err := a.usable(names)
	if err != nil {
		return err
	}
	found := false
	for _, s := range servers {
		cat := catalog.Open(catalog.LayoutOf(s))
		r, err := scheduleReport(cat, time.Now())
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		found = true
		a.json[s.Name] = r.Object()
		a.print("%s: %s", s.Name, r)
	}
	if !found {
		a.say(`There are no schedules. Make one: holdfast schedule set SERVER --cron "0 2 * * *"`)
	}
	return nil
}

func (a *app) cmdSchedulePause(pause bool) *cobra.Command {
	var note string
	cmd := &cobra.Command{
		Use: "pause SERVER", Short: "Let no scheduled backup begin until resume",
		Example: "  holdfast schedule pause main --note \"migration\"",
		Args:    exactly("SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.schedulePause(cmd.Context(), args[0], pause, note)
		},
	}
	if !pause {
		cmd.Use, cmd.Short, cmd.Example = "resume SERVER", "Let scheduled backups begin again", "  holdfast schedule resume main"
	}
	cmd.Flags().StringVar(&note, "note", "", "`text` that tells others why")
	return cmd
}

func (a *app) schedulePause(ctx context.Context, name string, pause bool, note string) error {
	return a.onSchedule(ctx, name, func(handle client.ScheduleHandle, cat *catalog.Catalog, stored *schedule.Stored, spec schedule.Spec) error {
		var err error
		if pause {
			err = handle.Pause(ctx, client.SchedulePauseOptions{Note: note})
		} else {
			err = handle.Unpause(ctx, client.ScheduleUnpauseOptions{Note: note})
			stored.Since = time.Now()
		}
		if err != nil {
			return unreachable(err)
		}
		if err := settled(ctx, handle, func(s client.Schedule) bool { return s.State != nil && s.State.Paused == pause }); err != nil {
			return err
		}
		stored.Paused, stored.Note = pause, note
		if err := cat.SaveSchedule(*stored); err != nil {
			return err
		}
		if pause {
			a.say("Scheduled backups of %s are paused. Resume: holdfast schedule resume %s", name, name)
		} else {
			a.say("Scheduled backups of %s are resumed; the next one is due on %s.", name, report.When(spec.Next(time.Now()).Local()))
		}
		return nil
	})
}

func (a *app) cmdScheduleTrigger() *cobra.Command {
	return &cobra.Command{
		Use: "trigger SERVER", Short: "Begin a scheduled backup now",
		Long:    "Begins a backup as the schedule would, also when the schedule is paused. The schedule\nitself stays as it is.",
		Example: "  holdfast schedule trigger main", Args: exactly("SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.scheduleTrigger(cmd.Context(), args[0]) },
	}
}

func (a *app) scheduleTrigger(ctx context.Context, name string) error {
	return a.onSchedule(ctx, name, func(handle client.ScheduleHandle, _ *catalog.Catalog, _ *schedule.Stored, _ schedule.Spec) error {
		if err := handle.Trigger(ctx, client.ScheduleTriggerOptions{Overlap: enums.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL}); err != nil {
			return unreachable(err)
		}
		a.say("A backup of %s begins. Watch it: holdfast status %s", name, name)
		return nil
	})
}

func (a *app) cmdScheduleDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete SERVER", Short: "Remove the schedule of a server",
		Example: "  holdfast schedule delete main", Args: exactly("SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.scheduleDelete(cmd.Context(), args[0]) },
	}
}

func (a *app) scheduleDelete(ctx context.Context, name string) error {
	s, cat, err := a.catalog(name)
	if err != nil {
		return err
	}
	if err := notConfigured(s); err != nil {
		return err
	}
	if _, _, err := scheduleOf(cat); err != nil {
		return err
	}
	if err := a.changeSchedule(ctx, cat, func(c client.Client) error { return dropSchedule(ctx, c, cat) }); err != nil {
		return err
	}
	a.say("The schedule of %s was removed. A backup that runs goes on.", name)
	return nil
}

func (a *app) cmdScheduleApply() *cobra.Command {
	return &cobra.Command{
		Use: "apply", Short: "Bring the engine's schedules in line with the configuration",
		Long: `Makes the engine's schedules what holdfast_backup_schedule and "holdfast schedule set"
say, and schedules the maintenance of every server. "holdfast up" does it at its start.`,
		Example: "  holdfast schedule apply", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			c, err := a.engine(cmd.Context())
			if err != nil {
				return err
			}
			defer c.Close()
			if err := a.applySchedules(cmd.Context(), c, cfg.Servers()); err != nil {
				return err
			}
			a.say("The engine's schedules are in line with the configuration.")
			return nil
		},
	}
}
