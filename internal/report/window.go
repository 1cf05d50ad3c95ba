package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/window"
)

// mostTold bounds what one line tells of one kind.
const mostTold = 5

// Spans are missing segments for people.
func Spans(spans []window.Span) string {
	var text []string
	for _, s := range spans[:min(len(spans), mostTold)] {
		text = append(text, s.String())
	}
	if more := len(spans) - mostTold; more > 0 {
		text = append(text, fmt.Sprintf("and %d more holes", more))
	}
	return strings.Join(text, ", ")
}

// Lacking says what a backup lacks.
func Lacking(l window.Lacking) string {
	switch {
	case l.Reason != "":
		return string(l.ID) + ": " + l.Reason
	case l.Status == backup.WaitingForWALs:
		return string(l.ID) + " waits for " + Spans(l.Missing)
	}
	return string(l.ID) + " cannot be restored without " + Spans(l.Missing)
}

// Recoverable is what a server's backups and WAL can be restored to.
type Recoverable struct {
	Zone    *time.Location
	Backups []*backupinfo.Info
	Window  *window.Result // nil when the archive cannot be read
}

// Rows tell what can be restored, where the holes are, and which backups wait
// or lack something.
func (v Recoverable) Rows() []StatusRow {
	w := v.Window
	if w == nil {
		return nil
	}
	var ranges []string
	for _, t := range w.Timelines {
		for _, r := range t.Ranges {
			ranges = append(ranges, fmt.Sprintf("timeline %d: %s (%s) to %s (%s), from backup %s", t.TLI, v.when(r.FromTime), r.From, v.when(r.ToTime), r.To, r.First))
		}
		if t.NoHistory {
			ranges = append(ranges, fmt.Sprintf("timeline %d: unknown, its history file is not archived", t.TLI))
		}
	}
	if len(ranges) == 0 {
		ranges = []string{"nothing can be restored yet"}
	}
	slices.Reverse(ranges) // the newest first
	whole := row("recoverable_window", "Recoverable window", Some(ranges, "\n"))
	whole.Detail = v.detail()
	rows := []StatusRow{whole}
	if gaps := w.Gaps(); len(gaps) > 0 {
		rows = append(rows, row("wal_gaps", "WAL gaps", Spans(gaps)))
	}
	if waiting := v.waiting(); len(waiting) > 0 {
		rows = append(rows, row("waiting_for_wals", "Backups that wait for WAL", fmt.Sprintf("%d\n%s", len(waiting), Some(waiting, "\n"))))
	}
	var broken []string
	for _, l := range w.Lacking {
		if l.Status != backup.WaitingForWALs {
			broken = append(broken, Lacking(l))
		}
	}
	if len(broken) > 0 {
		rows = append(rows, row("unrestorable_backups", "Backups that cannot be restored", Some(broken, "\n")))
	}
	return rows
}

// Some is the beginning of a list.
func Some(list []string, separator string) string {
	if more := len(list) - mostTold; more > 0 {
		list = append(list[:mostTold:mostTold], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, separator)
}

// waiting are the backups that wait for WAL, with what each waits for.
func (v Recoverable) waiting() []string {
	lacks := map[backup.ID]window.Lacking{}
	for _, l := range v.Window.Lacking {
		lacks[l.ID] = l
	}
	var out []string
	for _, b := range v.Backups {
		if b.Status != backup.WaitingForWALs {
			continue
		}
		if l, is := lacks[b.ID]; is {
			out = append(out, Lacking(l))
		} else {
			out = append(out, string(b.ID)+" has all of its WAL and is yet to be proven: holdfast cron does it")
		}
	}
	return out
}

func (v Recoverable) when(t time.Time) string {
	if t.IsZero() {
		return "unknown time"
	}
	return When(t.In(v.Zone))
}

func (v Recoverable) detail() Object {
	stamp := func(t time.Time) any {
		if t.IsZero() {
			return nil
		}
		return t.In(v.Zone).Format(time.RFC3339)
	}
	timelines := []Object{}
	for _, t := range v.Window.Timelines {
		ranges := []Object{}
		for _, r := range t.Ranges {
			ranges = append(ranges, Object{"from_backup": r.First, "backups": r.Backups, "from_lsn": r.From.String(), "from_time": stamp(r.FromTime),
				"to_lsn": r.To.String(), "to_time": stamp(r.ToTime), "last_wal": r.Last})
		}
		timelines = append(timelines, Object{"timeline": t.TLI, "ranges": ranges, "gaps": spanObjects(t.Gaps), "history_missing": t.NoHistory})
	}
	lacking := []Object{}
	for _, l := range v.Window.Lacking {
		lacking = append(lacking, Object{"backup_id": l.ID, "status": l.Status, "missing": spanObjects(l.Missing), "reason": l.Reason})
	}
	return Object{"timelines": timelines, "lacking": lacking}
}

func spanObjects(spans []window.Span) []Object {
	out := []Object{}
	for _, s := range spans {
		out = append(out, Object{"first": s.First, "last": s.Last, "count": s.Count})
	}
	return out
}
