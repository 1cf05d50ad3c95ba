package retention

import (
	"fmt"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
)

// Verdict is a policy's word on a backup, and why.
type Verdict struct {
	Word   Word
	Reason string

	bare Word // the word without the request to keep it
}

// Judge gives the policy's word on each backup. Incremental backups share the
// fate of their full one. Only DONE backups count: one that waits for WAL
// displaces none that is proven.
func Judge(backups []Backup, p Policy, now time.Time) map[backup.ID]Verdict {
	return sorted(backups).judge(p, now)
}

func (c catalogue) judge(p Policy, now time.Time) map[backup.ID]Verdict {
	out := make(map[backup.ID]Verdict, len(c.all))
	if p.IsZero() {
		for _, b := range c.all {
			out[b.ID] = Verdict{Word: None, bare: None, Reason: "no retention policy"}
		}
		return out
	}
	rule := p.rule(now)
	for _, b := range c.all {
		if b.Parent != "" {
			continue
		}
		if why := uncounted(b); why != "" {
			out[b.ID] = Verdict{None, why, None}
			continue
		}
		word, why := rule(b)
		v := Verdict{word, why, word}
		if b.Keep != "" {
			v.Word, v.Reason = b.Keep, "kept on request; the policy says: "+why
		}
		out[b.ID] = v
	}
	for _, b := range c.all {
		if b.Parent != "" {
			out[b.ID] = c.inherit(b, out)
		}
	}
	return out
}

func uncounted(b Backup) string {
	switch {
	case b.Deleting:
		return "its deletion has begun"
	case b.Status == backup.WaitingForWALs:
		return "it waits for WAL and does not count before it is DONE"
	case b.Status != backup.Done:
		return fmt.Sprintf("it is %s, the policy is about DONE backups", b.Status)
	case b.Orphan:
		return "its files are missing"
	}
	return ""
}

// rule judges the full DONE backups that it is called with, newest first.
func (p Policy) rule(now time.Time) func(Backup) (Word, string) {
	valid := 0
	if p.Redundancy > 0 {
		want := max(p.Redundancy, p.Minimum)
		beyond := fmt.Sprintf("not among the newest %d", want)
		return func(Backup) (Word, string) {
			valid++
			if valid <= want {
				return Valid, fmt.Sprintf("number %d of the newest %d", valid, want)
			}
			return Obsolete, beyond
		}
	}
	since := now.Add(-p.Window)
	from := since.Format("2006-01-02 15:04:05-07:00")
	beyond := "the recovery window, which begins at " + from + ", does not need it"
	reached := false
	return func(b Backup) (Word, string) {
		before := !b.EndTime.IsZero() && b.EndTime.Before(since)
		switch {
		case !reached && !before:
			valid++
			return Valid, "it ended within the recovery window, which begins at " + from
		case !reached:
			valid++
			reached = true
			return Valid, "the recovery window, which begins at " + from + ", is restored from it"
		case valid < p.Minimum:
			valid++
			return Potentially, fmt.Sprintf("not needed for the recovery window, but minimum_redundancy is %d", p.Minimum)
		}
		return Obsolete, beyond
	}
}

// inherit is the verdict on an incremental backup.
func (c catalogue) inherit(b Backup, verdicts map[backup.ID]Verdict) Verdict {
	root, ok := c.root(b)
	switch {
	case b.Deleting:
		return Verdict{None, "its deletion has begun", None}
	case !ok:
		return Verdict{None, "a backup that it depends on is missing", None}
	case !b.Status.CopyDone():
		return Verdict{None, fmt.Sprintf("it is %s, the policy is about DONE backups", b.Status), None}
	}
	v := verdicts[root.ID]
	word := v.Word
	switch {
	case v.Word == KeepStandalone && v.bare == Obsolete:
		word = Obsolete
	case v.Word == KeepFull, v.Word == KeepStandalone:
		word = Valid
	}
	return Verdict{word, fmt.Sprintf("it depends on %s: %s", root.ID, v.Reason), word}
}
