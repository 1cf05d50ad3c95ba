package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/restore"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// runRestore carries out a plan while it shows how far that has come.
func (a *app) runRestore(ctx context.Context, src restore.Source, plan *restoreplan.Plan, opt restore.Options) (*restore.Result, error) {
	meter := &byteMeter{what: "restores", line: a.liveLine()}
	opt.Progress = meter.show
	opt.Resumed = func(id string, done, all int) {
		a.say("An earlier restore to %s did not finish; this one goes on: %d of %d archives of backup %s are unpacked.", plan.Dest, done, all, id)
	}
	res, err := restore.Run(ctx, src, plan, opt)
	meter.line.clear()
	return res, endOfRestore(plan.Dest, err, ctx.Err() != nil)
}

// endOfRestore says what a restore that failed has left behind.
func endOfRestore(dest string, err error, interrupted bool) error {
	var unfinished *restore.Unfinished
	switch goesOn := errors.As(err, &unfinished); {
	case err == nil:
		return nil
	case interrupted && !goesOn:
		return fault.New(fault.Cancelled, "restore to", dest, "it was interrupted; nothing was left behind")
	case interrupted:
		err = fault.New(fault.Cancelled, "restore to", dest, "it was interrupted")
	case !goesOn:
		return err
	}
	remedy := "to go on from there give the same command again; else remove what is unpacked in " + strings.Join(unfinished.Dirs, ", ")
	if hint := fault.HintOf(err); hint != "" {
		remedy = hint + "; " + remedy
	}
	return &fault.Error{Kind: fault.KindOf(err), Err: err, Hint: remedy}
}

// byteMeter draws how many bytes are done, not too often.
type byteMeter struct {
	what  string
	mu    sync.Mutex
	line  *progressLine
	speed speed
	last  time.Time
}

func (m *byteMeter) show(done, total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.last) >= 200*time.Millisecond {
		m.last = now
		m.speed.add(now, done)
		m.line.draw(describeProgress(activities.Progress{What: m.what, Done: done, Total: total}, &m.speed))
	}
}

// tellRestore says what was done and what the user should look at.
func (a *app) tellRestore(server string, info *backupinfo.Info, plan *restoreplan.Plan, res *restore.Result, began time.Time) {
	took := time.Since(began).Seconds()
	list := func(changes []restore.Change) [][]any {
		out := [][]any{}
		for _, c := range changes {
			out = append(out, []any{c.File, c.Line, c.Key, c.Value})
		}
		return out
	}
	missing := res.MissingFiles
	if missing == nil {
		missing = []string{}
	}
	for key, value := range (report.Object{
		"changes": list(res.Changes), "changes_count": len(res.Changes), "warnings": list(res.Warnings), "warnings_count": len(res.Warnings),
		"missing_files": missing, "recovery_start_time": report.CTime(began), "recovery_start_time_timestamp": fmt.Sprint(began.Unix()),
		"recovery_elapsed_time": report.Seconds(took), "recovery_elapsed_time_seconds": took,
	}) {
		a.json[key] = value
	}
	for _, n := range plan.Notes {
		a.warn("%s", n)
	}
	if a.format == "json" {
		return
	}
	for _, c := range res.Changes {
		a.print("%s, line %d: %s was switched off", c.File, c.Line, c.Key)
	}
	for _, c := range res.Warnings {
		a.warn("%s, line %d: look at %s = %s, it may lead to files of the source", c.File, c.Line, c.Key, c.Value)
	}
	for _, f := range res.MissingFiles {
		a.warn("the backup has no %s: put one into %s before you start the server", f, plan.Dest)
	}
	a.print("Backup %s of server %s is restored to %s (%s, %s, %s of WAL, in %s).", info.ID, server, plan.Dest,
		count(int(res.Files), "file"), report.Size(res.Bytes), count(res.WALFiles, "file"), report.Seconds(took))
}
