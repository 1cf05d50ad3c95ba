package activities

import (
	"context"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// impasse finds out that a standby never archives the segment which
// pg_basebackup waits for: one that came with the base backup that the standby
// was made of, and that it has not streamed since. PostgreSQL itself would wait
// for ever; another copy ends in a later segment.
type impasse struct {
	connect  Connect
	conninfo string
	asked    time.Time
	replayed *wal.Segment // when the wait began
	passed   time.Time    // when a later one was archived; zero before
}

// look asks the server, from time to time. A server that does not answer is
// asked again later.
func (i *impasse) look(ctx context.Context, now time.Time) error {
	if now.Sub(i.asked) < askEvery {
		return nil
	}
	i.asked = now
	ctx, cancel := context.WithTimeout(ctx, askEvery)
	defer cancel()
	c, err := i.connect(ctx, i.conninfo)
	if err != nil {
		return nil
	}
	defer c.Close()
	f, err := c.Facts(ctx)
	if err != nil || !f.InRecovery {
		return nil
	}
	if i.replayed == nil {
		if lsn, err := wal.ParseLSN(f.CurrentLSN); err == nil {
			seg := wal.SegmentOf(f.Timeline, lsn, f.SegmentSize)
			i.replayed = &seg
		}
		return nil
	}
	a, err := c.Archiver(ctx)
	if err != nil {
		return nil
	}
	if last, err := wal.ParseSegment(a.LastWAL, f.SegmentSize); err != nil || last.No <= i.replayed.No {
		return nil // nothing was archived, or a history file
	}
	if i.passed.IsZero() {
		i.passed = now // pg_basebackup is told within a second
		return nil
	}
	return fault.New(fault.Connection, "back up", "the standby", "it has archived %s, and still lets pg_basebackup wait for WAL before %s: it never archives the WAL that it was made with", a.LastWAL, i.replayed.Name()).
		WithHint("the copy is begun anew, and ends in later WAL")
}
