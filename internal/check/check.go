package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Item is one thing that was checked.
type Item struct {
	Name     string
	OK       bool
	Hint     string
	Critical bool // a backup is not taken when it fails
}

// Key is the item's name in JSON.
func (i Item) Key() string {
	return strings.NewReplacer(" ", "_", "-", "_", ".", "").Replace(strings.ToLower(i.Name))
}

// Result is OK or FAILED.
func (i Item) Result() string {
	if i.OK {
		return "OK"
	}
	return "FAILED"
}

// String is the item as a line.
func (i Item) String() string {
	if i.Hint == "" {
		return i.Name + ": " + i.Result()
	}
	return i.Name + ": " + i.Result() + " (" + i.Hint + ")"
}

// Failed reports whether anything is wrong, Critical whether it keeps a backup
// from being taken.
func Failed(items []Item) bool {
	return slices.ContainsFunc(items, func(i Item) bool { return !i.OK })
}

// Critical is described with Failed.
func Critical(items []Item) bool {
	return slices.ContainsFunc(items, func(i Item) bool { return !i.OK && i.Critical })
}

type list struct{ items []Item }

func (l *list) add(name string, ok bool, hint string) {
	l.items = append(l.items, Item{name, ok, oneLine(hint), true})
}

// advise adds an item that keeps no backup from being taken.
func (l *list) advise(name string, ok bool, hint string) {
	l.items = append(l.items, Item{name, ok, oneLine(hint), false})
}

// failing adds an item only when there is something to say.
func (l *list) failing(name string, failed bool, hint string) {
	if failed {
		l.add(name, false, hint)
	}
}

func (l *list) adviseFailing(name string, failed bool, hint string) {
	if failed {
		l.advise(name, false, hint)
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// reason is an error with its remedy.
func reason(err error) string {
	if err == nil {
		return ""
	}
	if hint := fault.HintOf(err); hint != "" {
		return err.Error() + "; " + hint
	}
	return err.Error()
}

// Items decides every item that concerns the server, in Barman's order.
func Items(f Facts) []Item {
	l := &list{}
	f.archive(l)
	if !f.Settings.Inactive {
		f.server(l)
	}
	f.store(l)
	if !f.Settings.Inactive {
		f.copying(l)
	}
	l.failing("configuration", len(f.Errors) > 0, strings.Join(f.Errors, "; "))
	f.coherence(l)
	if !f.Settings.Inactive && f.Settings.Streaming {
		f.receiving(l)
	}
	if !f.Settings.Inactive && f.Postgres.Err == nil && f.Settings.Archiver {
		f.archiving(l)
	}
	hint := ""
	if f.Store.Rejected > 0 {
		hint = plural(f.Store.Rejected, "file") + " in the errors directory: compare with the archive, then remove"
	}
	l.advise("archiver errors", f.Store.Rejected == 0, hint)
	f.holes(l)
	if s := f.Schedule; s != nil {
		l.advise("backup schedule", s.Missed.IsZero(), s.Trouble())
	}
	l.failing("check timeout", f.Settings.TimeoutPassed, "the check took longer than check_timeout")
	return l.items
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
