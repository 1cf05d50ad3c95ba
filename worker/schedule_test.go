//go:build integration

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/schedule"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// awaitRun waits for a run of the schedule that has become something.
func (b *bed) awaitRun(t *testing.T, what string, ok func(schedule.Run) bool) schedule.Run {
	t.Helper()
	var last *schedule.Run
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var err error
		if last, err = b.cat.ScheduledRun(); err != nil {
			t.Fatal(err)
		}
		if last != nil && ok(*last) {
			return *last
		}
	}
	t.Fatalf("%s: the latest run is %+v", what, last)
	return schedule.Run{}
}

func after(begin time.Time, outcome schedule.Outcome) func(schedule.Run) bool {
	return func(r schedule.Run) bool { return r.Due.After(begin) && r.Outcome == outcome }
}

// listed is a line of "schedule list".
type listed struct {
	Schedule string
	Paused   bool
	Note     string
	Next     *time.Time
}

func (b *bed) schedules(t *testing.T) map[string]listed {
	t.Helper()
	var out map[string]listed
	if err := json.Unmarshal([]byte(b.Must(t, "-f", "json", "schedule", "list").Stdout), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A schedule fires, records what it skips, and outlives the engine and its database.
func TestASchedule(t *testing.T) {
	t.Parallel()
	b := newBed(t, config.MethodPostgres, pgtest.Versions()[0])
	if r := b.Holdfast(t, "schedule", "show", stacktest.Server); r.Code != 3 || !strings.Contains(r.Stderr, "schedule set") {
		t.Errorf("%d %s", r.Code, r.Stderr)
	}
	b.Must(t, "schedule", "set", stacktest.Server, "--every", "15s")
	first := b.awaitRun(t, "the first run", after(time.Time{}, schedule.Done))
	if info, err := b.cat.Get(first.Backup); err != nil || info.Status != "DONE" {
		t.Errorf("%+v, %v", info, err)
	}

	// Whatever is due while a backup runs is skipped and recorded as such, and
	// whoever comes by hand while a scheduled one runs is refused.
	b.on(t, nil)
	var r stacktest.Result
	for r = b.Holdfast(t, "backup", stacktest.Server, "--detach", "--bwlimit", "1000"); r.Code == 4; r = b.Holdfast(t, "backup", stacktest.Server, "--detach", "--bwlimit", "1000") {
		if !strings.Contains(r.Stderr, "runs already") {
			t.Fatal(r.Stderr)
		}
	}
	if r.Code != 0 {
		t.Fatalf("%d %s", r.Code, r.Stderr)
	}
	skipped := b.awaitRun(t, "a run beside a backup", after(time.Now(), schedule.Skipped))
	if !strings.Contains(skipped.Reason, "running") {
		t.Errorf("%+v", skipped)
	}
	b.Must(t, "cancel", stacktest.Server)

	killed := time.Now()
	b.Kill(t, "engine")
	b.awaitRun(t, "after the engine's death", after(killed, schedule.Done))

	b.Must(t, "schedule", "pause", stacktest.Server, "--note", "moving house")
	for b.running(t) {
		time.Sleep(100 * time.Millisecond)
	}
	b.Down(t)
	b.forgetEngine(t)
	b.Up(t)
	if s := b.schedules(t)[stacktest.Server]; s.Schedule != "every 15s" || !s.Paused || s.Note != "moving house" || s.Next != nil {
		t.Errorf("%+v", s)
	}
	b.awaitSchedule(t)
	resumed := time.Now()
	b.Must(t, "schedule", "resume", stacktest.Server)
	b.awaitRun(t, "after the loss of the engine's database", after(resumed, schedule.Done))
	b.Must(t, "schedule", "delete", stacktest.Server)
	if r := b.Must(t, "schedule", "list"); !strings.Contains(r.Stdout, "no schedules") {
		t.Error(r.Stdout)
	}
	if r := b.Holdfast(t, "schedule", "trigger", stacktest.Server); r.Code != 3 {
		t.Errorf("%d %s", r.Code, r.Stderr)
	}
}

// awaitSchedule waits until the engine has the paused schedule: "up" restores
// it, without being asked.
func (b *bed) awaitSchedule(t *testing.T) {
	t.Helper()
	c, ctx := b.client(t)
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		d, err := c.ScheduleClient().GetHandle(ctx, "backup/"+stacktest.Server).Describe(ctx)
		if err == nil {
			if !d.Schedule.State.Paused || d.Schedule.State.Note != "moving house" {
				t.Errorf("%+v", d.Schedule.State)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// running reports whether a backup runs.
func (b *bed) running(t *testing.T) bool {
	t.Helper()
	return strings.Contains(b.Must(t, "status", stacktest.Server).Stdout, "Running backup")
}

// forgetEngine deletes the engine's database.
func (b *bed) forgetEngine(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(b.Home, ".holdfast", "*.db*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// scheduledID is the workflow ID of the latest scheduled run.
func (b *bed) scheduledID(t *testing.T) string {
	t.Helper()
	c, ctx := b.client(t)
	list, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: "WorkflowType = 'ScheduledBackupWorkflow'"})
	if err != nil || len(list.GetExecutions()) == 0 {
		t.Fatal(list, err)
	}
	return list.GetExecutions()[0].GetExecution().GetWorkflowId()
}

// A configured schedule is applied, changed and removed with the configuration,
// and with nothing else.
func TestAConfiguredSchedule(t *testing.T) {
	t.Parallel()
	b := newBed(t, config.MethodPostgres, pgtest.Versions()[1])
	b.Configure(t, config.MethodPostgres, "holdfast_backup_schedule = 0 2 * * * timezone Europe/Berlin")
	b.Must(t, "schedule", "apply")
	if s := b.schedules(t)[stacktest.Server]; s.Schedule != "0 2 * * * timezone Europe/Berlin" || s.Next == nil {
		t.Errorf("%+v", s)
	}
	c, ctx := b.client(t)
	d, err := c.ScheduleClient().GetHandle(ctx, "backup/"+stacktest.Server).Describe(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if next := b.schedules(t)[stacktest.Server].Next; len(d.Info.NextActionTimes) == 0 || !d.Info.NextActionTimes[0].Equal(*next) {
		t.Errorf("we say %v, the engine %v", next, d.Info.NextActionTimes)
	}
	for _, id := range []string{"backup/", "maintenance/"} {
		// What is as it should be is left alone.
		handle := c.ScheduleClient().GetHandle(ctx, id+stacktest.Server)
		before, err := handle.Describe(ctx)
		b.Must(t, "schedule", "apply")
		after, err2 := handle.Describe(ctx)
		if err != nil || err2 != nil || !after.Info.LastUpdateAt.Equal(before.Info.LastUpdateAt) {
			t.Errorf("%s was updated: %v, %v", id, err, err2)
		}
	}
	for _, args := range [][]string{{"schedule", "set", stacktest.Server, "--every", "6h"}, {"schedule", "delete", stacktest.Server}} {
		if r := b.Holdfast(t, args...); r.Code != 4 || !strings.Contains(r.Stderr, "barman.conf:") || !strings.Contains(r.Stderr, "schedule apply") {
			t.Errorf("%v: %d %s", args, r.Code, r.Stderr)
		}
	}
	for _, hours := range []string{"1h", "2h", "3h", "4h", "6h"} {
		b.Must(t, "schedule", "resume", stacktest.Server)
		b.Must(t, "schedule", "pause", stacktest.Server)
		b.Configure(t, config.MethodPostgres, "holdfast_backup_schedule = every "+hours)
		b.Must(t, "schedule", "apply")
		d, err := c.ScheduleClient().GetHandle(ctx, "backup/"+stacktest.Server).Describe(ctx)
		if s := b.schedules(t)[stacktest.Server]; err != nil || s.Schedule != "every "+hours || !s.Paused || !d.Schedule.State.Paused {
			t.Errorf("a pause is lost when the schedule is changed at once: %+v, %v", s, err)
		}
	}
	began := time.Now()
	b.Must(t, "schedule", "trigger", stacktest.Server)
	b.awaitRun(t, "the run that was asked for", after(began.Add(-2*time.Second), schedule.Done))
	b.keepHistory(t, "scheduled", b.scheduledID(t))
	b.Configure(t, config.MethodPostgres)
	b.Must(t, "schedule", "apply")
	if stored, err := b.cat.Schedule(); err != nil || stored != nil {
		t.Errorf("%+v, %v", stored, err)
	}
	if _, err := c.ScheduleClient().GetHandle(ctx, "backup/"+stacktest.Server).Describe(ctx); err == nil {
		t.Error("the engine still has the schedule")
	}
}
