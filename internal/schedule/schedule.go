// Package schedule knows when backups are due: it reads and writes schedules as
// the configuration and the command line have them, and computes due times. It
// starts nothing and knows no clock.
package schedule

import (
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Spec is a schedule: either Cron or Every is set.
type Spec struct {
	Cron   string        // five fields, or @hourly, @daily, @weekly, @monthly, @yearly
	Every  time.Duration // counted from 1970-01-01 00:00 UTC
	Jitter time.Duration // a run begins at most so long after it was due
	Zone   string        // IANA name of the time zone of Cron; "" is UTC
}

// Shortest is the shortest interval between two backups that may be asked for.
const Shortest = time.Second

// Form is what Parse accepts, in words.
const Form = `five cron fields, @hourly, @daily, @weekly, @monthly or "every 6h"; then, if wanted, "jitter 10m" and "timezone Europe/Berlin"`

var parser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// Parse reads what String writes. It refuses what the engine would read
// differently.
func Parse(text string) (Spec, error) {
	var s Spec
	words := strings.Fields(text)
	bad := func(format string, args ...any) (Spec, error) {
		return Spec{}, fault.New(fault.Usage, "read schedule", text, format, args...).WithHint("a schedule is %s", Form)
	}
	for len(words) >= 2 {
		name, value := strings.ToLower(words[len(words)-2]), words[len(words)-1]
		switch name {
		case "jitter":
			d, err := time.ParseDuration(value)
			if err != nil || d < 0 {
				return bad("the jitter %q is no duration such as 10m", value)
			}
			s.Jitter = d
		case "timezone":
			if _, err := time.LoadLocation(value); err != nil || value == "Local" {
				return bad("there is no time zone %q", value)
			}
			s.Zone = value
		default:
			name = ""
		}
		if name == "" {
			break
		}
		words = words[:len(words)-2]
	}
	if len(words) == 2 && strings.TrimPrefix(strings.ToLower(words[0]), "@") == "every" {
		d, err := time.ParseDuration(words[1])
		if err != nil || d < Shortest {
			return bad("the interval %q is no duration of at least %s, such as 6h", words[1], Shortest)
		}
		if s.Zone != "" {
			return bad("an interval has no time zone")
		}
		s.Every = d
		return s, nil
	}
	s.Cron = strings.Join(words, " ")
	if len(words) != 5 && (len(words) != 1 || !strings.HasPrefix(s.Cron, "@")) {
		return bad("it has %d fields", len(words))
	}
	if strings.ContainsAny(s.Cron, "=?") {
		return bad("%q is not understood", s.Cron)
	}
	when, err := parser.Parse(s.Cron)
	if err != nil {
		return bad("%q is not understood: %w", s.Cron, err)
	}
	if when.Next(time.Unix(0, 0)).IsZero() {
		return bad("%q is no date", s.Cron)
	}
	return s, nil
}

// String is the schedule as a configuration file has it.
func (s Spec) String() string {
	text := s.Cron
	if s.Every > 0 {
		text = "every " + short(s.Every)
	}
	if s.Jitter > 0 {
		text += " jitter " + short(s.Jitter)
	}
	if s.Zone != "" {
		text += " timezone " + s.Zone
	}
	return text
}

// short leaves out the minutes and seconds that are 0.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Crons are the cron expressions that the engine is given. It demands that both
// fields for the day match, cron that one of them does: two expressions then
// say what cron means.
func (s Spec) Crons() []string {
	f := strings.Fields(s.Cron)
	if len(f) != 5 || strings.HasPrefix(f[2], "*") || strings.HasPrefix(f[4], "*") {
		return []string{s.Cron}
	}
	return []string{
		strings.Join([]string{f[0], f[1], f[2], f[3], "*"}, " "),
		strings.Join([]string{f[0], f[1], "*", f[3], f[4]}, " "),
	}
}

// Next is the first time after t at which a run is due.
func (s Spec) Next(t time.Time) time.Time {
	if s.Every > 0 {
		return t.Add(s.Every - sinceEpoch(t)%s.Every)
	}
	zone, err := time.LoadLocation(s.Zone)
	if err != nil {
		return time.Time{}
	}
	when, err := parser.Parse(s.Cron)
	if err != nil {
		return time.Time{}
	}
	return when.Next(t.In(zone))
}

// Last is the last time, not before since and not after t, at which a run was
// due; zero if there is none.
func (s Spec) Last(since, t time.Time) time.Time {
	if s.Every > 0 {
		last := t.Add(-(sinceEpoch(t) % s.Every))
		if last.Before(since) {
			return time.Time{}
		}
		return last
	}
	// Looked for in windows that grow, so that few due times are passed.
	for window := time.Hour; ; window *= 8 {
		from, final := t.Add(-window), window > longest
		if from.Before(since) {
			from, final = since.Add(-time.Second), true
		}
		var last time.Time
		for due := s.Next(from); !due.IsZero() && !due.After(t); due = s.Next(due) {
			last = due
		}
		if !last.IsZero() || final {
			return last
		}
	}
}

// longest is more than the time between two due times: 29 February is rare.
const longest = 9 * 366 * 24 * time.Hour

// Tolerance is how late a run may be before it counts as missed.
const Tolerance = 10 * time.Minute

// Missed is the time at which a run was due that did not begin; zero when none
// is missing. The latest run that did begin, or was skipped, was due at
// lastDue; what was due before since was not asked for.
func (s Spec) Missed(since, lastDue, now time.Time) time.Time {
	due := s.Last(since, now.Add(-s.Jitter-Tolerance))
	if !due.After(lastDue) {
		return time.Time{}
	}
	return due
}

// sinceEpoch is the time since 1970 in UTC, from where the engine counts
// intervals.
func sinceEpoch(t time.Time) time.Duration { return time.Duration(t.UnixNano()) }
