package main

import (
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// readTarget reads the options that say where recovery stops.
func (a *app) readTarget(t *restoreplan.Target, o restoreOptions) error {
	var err error
	if o.targetTime != "" {
		var zoned bool
		if t.Time, zoned, err = parseTime(o.targetTime, time.Local); err != nil {
			return err
		}
		if !zoned {
			a.warn("--target-time has no time zone: it is taken as %s", t.Time.Format("2006-01-02 15:04:05.999999-07:00"))
		}
	}
	if o.targetLSN != "" {
		if t.LSN, err = wal.ParseLSN(o.targetLSN); err != nil || t.LSN == 0 {
			return fault.New(fault.Usage, "read", "--target-lsn "+o.targetLSN, "it is no WAL position").WithHint("write it as PostgreSQL does: 16/B374D848")
		}
	}
	switch o.targetAction {
	case "":
	case "pause", "promote", "shutdown":
		if !t.PointInTime() {
			return fault.New(fault.Usage, "read", "--target-action "+o.targetAction, "there is no target").
				WithHint("give one with --target-time, --target-lsn, --target-immediate or --target-tli")
		}
	default:
		return fault.New(fault.Usage, "read", "--target-action "+o.targetAction, "it is pause, promote or shutdown")
	}
	return nil
}

// parseTime reads a time as people and PostgreSQL write it, and tells whether
// it names its zone.
func parseTime(text string, local *time.Location) (t time.Time, zoned bool, err error) {
	s := strings.TrimSpace(text)
	where := local
	if i := strings.LastIndexByte(s, ' '); i > 0 {
		switch name := s[i+1:]; {
		case name == "UTC", name == "GMT", name == "Z":
			s, where, zoned = s[:i], time.UTC, true
		case strings.ContainsRune(name, '/'):
			zone, err := time.LoadLocation(name)
			if err != nil {
				return t, false, fault.New(fault.Usage, "read", "--target-time "+text, "the time zone %s is not known", name)
			}
			s, where, zoned = s[:i], zone, true
		case strings.ContainsAny(name[:1], "+-"):
			s = s[:i] + name
		}
	}
	s = strings.Replace(s, "T", " ", 1)
	for _, form := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(form, s, where); err == nil {
			return t, zoned, nil
		}
		if zoned {
			continue
		}
		for _, offset := range []string{"Z07:00", "-0700", "-07"} {
			if t, err := time.Parse(form+offset, s); err == nil {
				return t, true, nil
			}
		}
	}
	return t, false, fault.New(fault.Usage, "read", "--target-time "+text, "it is no time").
		WithHint("write it as 2026-11-23 02:40:00+00:00, or without a zone for local time")
}
