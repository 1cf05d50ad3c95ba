package main

import (
	"context"
	"errors"
	"time"

	common "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/flock"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/schedule"
	"github.com/holdfast-pg/holdfast/workflows"
)

// The catalogue's file says which schedule a server has; the engine's copy is
// made from it. Only whether a schedule is paused may change in the engine
// alone, by its web UI, and is taken over from there.

// applySchedules brings the engine's schedules in line with the configuration
// and the catalogue, and tells of each change.
func (a *app) applySchedules(ctx context.Context, c client.Client, servers []*config.Server) error {
	for _, s := range servers {
		if s.Disabled() {
			a.warn("server %s is left out: its configuration has errors; holdfast config check shows them", s.Name)
			continue
		}
		if err := a.applySchedule(ctx, c, s, time.Now()); err != nil {
			return err
		}
		if err := applyMaintenance(ctx, c, s); err != nil {
			return err
		}
	}
	return nil
}

// schedulesEvery is how often "up" looks for changes of the configuration, and
// for an engine whose database is new.
const schedulesEvery = 30 * time.Second

// keepSchedules applies the schedules until ctx ends. What goes wrong is told
// once, and tried again.
func (a *app) keepSchedules(ctx context.Context, cfg *config.Config) {
	told := ""
	for {
		// Never with settings that were read long ago: somebody may have changed
		// and applied them meanwhile.
		fresh, err := config.Load(cfg.Path)
		if err == nil {
			err = a.applyOnce(ctx, fresh.Servers())
		}
		switch {
		case err == nil:
			told = ""
		case ctx.Err() == nil && err.Error() != told:
			told = err.Error()
			a.warnOf(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(schedulesEvery):
		}
	}
}

func (a *app) applyOnce(ctx context.Context, servers []*config.Server) error {
	c, err := a.engine(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return a.applySchedules(ctx, c, servers)
}

func (a *app) applySchedule(ctx context.Context, c client.Client, s *config.Server, now time.Time) error {
	cat := catalog.Open(catalog.LayoutOf(s))
	lock, err := lockSchedule(ctx, cat)
	if err != nil {
		return err
	}
	defer lock.Release()
	stored, err := cat.Schedule()
	if err != nil {
		return err
	}
	switch configured := s.HoldfastBackupSchedule; {
	case configured == "" && (stored == nil || !stored.Configured):
	case configured == "":
		a.say("Server %s: the schedule is no longer configured and is removed.", s.Name)
		return dropSchedule(ctx, c, cat)
	case stored == nil || stored.Spec != configured:
		next := schedule.Stored{Spec: configured, Configured: true, Since: now}
		if stored != nil {
			next.Paused, next.Note = stored.Paused, stored.Note
		}
		if stored, err = &next, cat.SaveSchedule(next); err != nil {
			return err
		}
		a.say("Server %s: backups are due %s.", s.Name, configured)
	case !stored.Configured:
		stored.Configured = true
		if err := cat.SaveSchedule(*stored); err != nil {
			return err
		}
	}
	if stored == nil {
		return nil
	}
	return ensureBackupSchedule(ctx, c, cat, *stored)
}

// lockSchedule keeps every other change of a server's schedule out.
func lockSchedule(ctx context.Context, cat *catalog.Catalog) (*flock.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, engineAnswers)
	defer cancel()
	return cat.LockSchedule(ctx)
}

// changeSchedule lets the engine be told of a change while nobody else makes one.
func (a *app) changeSchedule(ctx context.Context, cat *catalog.Catalog, do func(client.Client) error) error {
	c, err := a.engine(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	lock, err := lockSchedule(ctx, cat)
	if err != nil {
		return err
	}
	defer lock.Release()
	return do(c)
}

// onSchedule does something with the schedule that a server has, in the engine
// and in the catalogue, while nobody else changes it.
func (a *app) onSchedule(ctx context.Context, name string, do func(client.ScheduleHandle, *catalog.Catalog, *schedule.Stored, schedule.Spec) error) error {
	_, cat, err := a.catalog(name)
	if err != nil {
		return err
	}
	// Asked before the engine is: there may be none.
	if _, _, err := scheduleOf(cat); err != nil {
		return err
	}
	return a.changeSchedule(ctx, cat, func(c client.Client) error {
		stored, spec, err := scheduleOf(cat)
		if err != nil {
			return err
		}
		if err := ensureBackupSchedule(ctx, c, cat, *stored); err != nil {
			return err
		}
		return do(c.ScheduleClient().GetHandle(ctx, workflows.ScheduleID(name)), cat, stored, spec)
	})
}

func dropSchedule(ctx context.Context, c client.Client, cat *catalog.Catalog) error {
	if err := deleteSchedule(ctx, c, workflows.ScheduleID(cat.Server)); err != nil {
		return err
	}
	return cat.RemoveSchedule()
}

// ensureBackupSchedule makes the engine's schedule what the stored one is.
func ensureBackupSchedule(ctx context.Context, c client.Client, cat *catalog.Catalog, stored schedule.Stored) error {
	spec, err := schedule.Parse(stored.Spec)
	if err != nil {
		return err
	}
	state, err := ensureSchedule(ctx, c, workflows.BackupSchedule(cat.Server, spec, stored.Paused, stored.Note))
	if err != nil || state == nil || state.Paused == stored.Paused {
		return err
	}
	stored.Paused, stored.Note = state.Paused, state.Note
	if !stored.Paused {
		stored.Since = time.Now()
	}
	return cat.SaveSchedule(stored)
}

func applyMaintenance(ctx context.Context, c client.Client, s *config.Server) error {
	if !s.Active {
		return deleteSchedule(ctx, c, workflows.MaintenanceID(s.Name))
	}
	_, err := ensureSchedule(ctx, c, workflows.MaintenanceSchedule(s.Name, s.HoldfastMaintenanceInterval))
	return err
}

// ensureSchedule creates a schedule, or replaces one that was made from other
// words. It returns the state of one that existed.
func ensureSchedule(ctx context.Context, c client.Client, want client.ScheduleOptions) (*client.ScheduleState, error) {
	handle := c.ScheduleClient().GetHandle(ctx, want.ID)
	have, err := handle.Describe(ctx)
	var none *serviceerror.NotFound
	if errors.As(err, &none) {
		_, err := c.ScheduleClient().Create(ctx, want)
		return nil, unreachable(err)
	}
	if err != nil {
		return nil, unreachable(err)
	}
	if origin(have.Schedule.Action) == origin(want.Action) {
		return have.Schedule.State, nil
	}
	err = handle.Update(ctx, client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
		next := in.Description.Schedule
		next.Spec, next.Action = &want.Spec, want.Action
		next.Policy.Overlap, next.Policy.CatchupWindow = want.Overlap, want.CatchupWindow
		return &client.ScheduleUpdate{Schedule: &next}, nil
	}})
	if err != nil {
		return have.Schedule.State, unreachable(err)
	}
	return have.Schedule.State, settled(ctx, handle, func(s client.Schedule) bool { return origin(s.Action) == origin(want.Action) })
}

// engineSettles is how long the engine may take to do what it has taken note of.
const engineSettles = 30 * time.Second

// settled waits until the engine has done what it was asked for. It answers when
// it has taken note; who comes next would take over what was before, and of two
// changes the earlier one could prevail.
func settled(ctx context.Context, handle client.ScheduleHandle, done func(client.Schedule) bool) error {
	waiting, cancel := context.WithTimeout(ctx, engineSettles)
	defer cancel()
	for {
		d, err := handle.Describe(waiting)
		if err == nil && done(d.Schedule) {
			return nil
		}
		if err != nil && waiting.Err() == nil {
			return unreachable(err)
		}
		select {
		case <-ctx.Done():
			return unreachable(context.Cause(ctx))
		case <-waiting.Done():
			return fault.New(fault.Unreachable, "change", "the schedule", "the engine has taken note, and not done it within %s", engineSettles).
				WithHint("it is busy: look at it with holdfast schedule list, and repeat the command if it is not as you want it")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// origin is the schedule in words that an action was made from. The engine
// gives arguments back as it stores them.
func origin(action client.ScheduleAction) string {
	w, ok := action.(*client.ScheduleWorkflowAction)
	if !ok || len(w.Args) != 1 {
		return ""
	}
	payload, stored := w.Args[0].(*common.Payload)
	if !stored {
		var err error
		if payload, err = converter.GetDefaultDataConverter().ToPayload(w.Args[0]); err != nil {
			return ""
		}
	}
	var words struct {
		Schedule string `json:"schedule"`
	}
	if converter.GetDefaultDataConverter().FromPayload(payload, &words) != nil {
		return ""
	}
	return words.Schedule
}

// deleteSchedule removes a schedule that need not exist.
func deleteSchedule(ctx context.Context, c client.Client, id string) error {
	err := c.ScheduleClient().GetHandle(ctx, id).Delete(ctx)
	var none *serviceerror.NotFound
	if errors.As(err, &none) {
		return nil
	}
	return unreachable(err)
}

// scheduleOf is the schedule of a server that must have one.
func scheduleOf(cat *catalog.Catalog) (*schedule.Stored, schedule.Spec, error) {
	stored, err := cat.Schedule()
	if err != nil {
		return nil, schedule.Spec{}, err
	}
	if stored == nil {
		return nil, schedule.Spec{}, fault.New(fault.NotFound, "find the schedule of", cat.Server, "it has none").
			WithHint(`make one: holdfast schedule set %s --cron "0 2 * * *"`, cat.Server)
	}
	spec, err := schedule.Parse(stored.Spec)
	return stored, spec, err
}

// scheduleReport is the schedule of a server as it is now; nil when it has none.
func scheduleReport(cat *catalog.Catalog, now time.Time) (*report.Schedule, error) {
	stored, err := cat.Schedule()
	if err != nil || stored == nil {
		return nil, err
	}
	last, err := cat.ScheduledRun()
	if err != nil {
		return nil, err
	}
	return report.NewSchedule(*stored, last, now, time.Local)
}
