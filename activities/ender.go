package activities

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
)

// ender has the server end the WAL segment that a backup waits for; for a
// standby only its primary can, if the configuration names it.
type ender struct {
	connect  Connect
	settings *config.Server
	began    time.Time // of the wait
	asked    time.Time
	forced   bool
	trouble  string
}

const (
	// askEvery is how often a server is asked to end a segment.
	askEvery = 10 * time.Second
	// idleAfter is how long a primary that nobody asks may take to fill a
	// segment before somebody is told that it does not.
	idleAfter = 30 * time.Second
)

// ask asks for the end of a segment, from time to time; "" is the current one
// of a primary. It returns, in words for people, why the segment may never end.
func (e *ender) ask(ctx context.Context, now time.Time, name string) (trouble string) {
	if now.Sub(e.asked) < askEvery {
		return e.trouble
	}
	e.asked, e.trouble = now, ""
	ctx, cancel := context.WithTimeout(ctx, askEvery)
	defer cancel()
	standby, failing, err := e.endHere(ctx, name)
	e.trouble = failing
	if err != nil || !standby || failing != "" {
		return e.trouble
	}
	if e.settings.PrimaryConninfo.IsZero() {
		if now.Sub(e.began) >= idleAfter {
			e.trouble = "the server is a standby, and an idle primary does not end its segment; set primary_conninfo, or run on the primary: SELECT pg_switch_wal()"
		}
		return e.trouble
	}
	if standby, err = e.endOnPrimary(ctx, now, name); err != nil {
		e.trouble = "the primary cannot be asked to end its segment: " + err.Error()
	} else if standby {
		e.trouble = "primary_conninfo names a standby, too"
	}
	return e.trouble
}

func (e *ender) end(ctx context.Context, conninfo, name string) (standby bool, err error) {
	c, err := e.connect(ctx, conninfo)
	if err != nil {
		return false, err
	}
	defer c.Close()
	return c.EndSegment(ctx, name)
}

// endHere is end for the server itself, which also says why it cannot archive.
func (e *ender) endHere(ctx context.Context, name string) (standby bool, failing string, err error) {
	c, err := e.connect(ctx, e.settings.Conninfo.Reveal())
	if err != nil {
		return false, "", err
	}
	defer c.Close()
	if standby, err = c.EndSegment(ctx, name); err != nil {
		return standby, "", err
	}
	if e.settings.StreamingArchiver && name != "" {
		return standby, "", nil // the WAL comes another way
	}
	if a, err := c.Archiver(ctx); err == nil && a.Failing() {
		failing = fmt.Sprintf("archive_command fails, at %s for %s; the server's log says why", a.FailedAt.Local().Format(time.TimeOnly), a.LastFailed)
	}
	return standby, failing, nil
}

// endOnPrimary is end for the primary, which after primary_checkpoint_timeout
// makes a checkpoint, once: it switches even if nobody has written anything.
func (e *ender) endOnPrimary(ctx context.Context, now time.Time, name string) (standby bool, err error) {
	limit := e.settings.PrimaryCheckpointTimeout
	force := limit > 0 && !e.forced && now.Sub(e.began) >= limit
	if name != "" && !force {
		return e.end(ctx, e.settings.PrimaryConninfo.Reveal(), name)
	}
	c, err := e.connect(ctx, e.settings.PrimaryConninfo.Reveal())
	if err != nil {
		return false, err
	}
	defer c.Close()
	if standby, err = c.EndSegment(ctx, ""); err != nil || standby {
		return standby, err
	}
	_, err = c.SwitchWAL(ctx, force)
	e.forced = e.forced || force && err == nil
	return false, err
}

// saying is what a heartbeat says while that changes.
type saying struct{ now atomic.Pointer[Progress] }

func (s *saying) set(what, trouble string) { s.now.Store(&Progress{What: what, Trouble: trouble}) }

func (s *saying) progress() Progress { return *s.now.Load() }
