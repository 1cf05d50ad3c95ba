package report

import (
	"fmt"
	"time"

	"github.com/holdfast-pg/holdfast/internal/schedule"
)

// Schedule is when backups of a server are due, and what became of the latest
// run.
type Schedule struct {
	Stored schedule.Stored
	Last   *schedule.Run // nil when there was none
	Next   time.Time     // zero when it is paused
	Missed time.Time     // a run was due then, and did not begin; zero when none is missing
	zone   *time.Location
}

// NewSchedule looks at a schedule at a time.
func NewSchedule(stored schedule.Stored, last *schedule.Run, now time.Time, zone *time.Location) (*Schedule, error) {
	spec, err := schedule.Parse(stored.Spec)
	if err != nil {
		return nil, err
	}
	s := &Schedule{Stored: stored, Last: last, zone: zone}
	if stored.Paused {
		return s, nil
	}
	var lastDue time.Time
	if last != nil {
		lastDue = last.Due
	}
	s.Next, s.Missed = spec.Next(now), spec.Missed(stored.Since, lastDue, now)
	return s, nil
}

// String is the schedule in a line.
func (s *Schedule) String() string {
	text := s.Stored.Spec
	switch {
	case s.Stored.Paused && s.Stored.Note != "":
		text += "; paused: " + s.Stored.Note
	case s.Stored.Paused:
		text += "; paused"
	default:
		text += "; next " + When(s.Next.In(s.zone))
	}
	if r := s.Last; r == nil {
		text += "; no run yet"
	} else {
		text += fmt.Sprintf("; latest %s: %s", When(r.Due.In(s.zone)), r.Outcome)
		if r.Backup != "" {
			text += " (" + string(r.Backup) + ")"
		}
		if r.Reason != "" {
			text += ", " + r.Reason
		}
	}
	if missed := s.Trouble(); missed != "" {
		text += "; " + missed
	}
	return text
}

// Trouble says which run did not begin, and what to look at; "" when none is missing.
func (s *Schedule) Trouble() string {
	if s.Missed.IsZero() {
		return ""
	}
	return "the run due " + When(s.Missed.In(s.zone)) + " has not begun: is holdfast up running?"
}

// Object is the schedule for JSON. Times are in RFC 3339, null when there are none.
func (s *Schedule) Object() Object {
	when := func(t time.Time) any {
		if t.IsZero() {
			return nil
		}
		return t.In(s.zone).Format(time.RFC3339)
	}
	o := Object{"schedule": s.Stored.Spec, "configured": s.Stored.Configured, "paused": s.Stored.Paused, "note": s.Stored.Note,
		"next": when(s.Next), "missed": when(s.Missed), "latest": nil}
	if r := s.Last; r != nil {
		o["latest"] = Object{"due": when(r.Due), "began": when(r.Began), "outcome": r.Outcome, "backup_id": r.Backup, "reason": r.Reason}
	}
	return o
}

// When is a time for people, with its zone.
func When(t time.Time) string { return t.Format("Mon 2006-01-02 15:04:05 MST") }
