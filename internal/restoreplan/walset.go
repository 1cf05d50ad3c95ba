package restoreplan

import (
	"sort"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// chooseWAL returns the archive's files that recovery may ask for, after it has
// made sure that the backup is consistent with them and that the target lies
// within them.
func (p *Plan) chooseWAL(b *backupinfo.Info, req Request, arch Archive) ([]string, error) {
	size := wal.DefaultSegmentSize
	if b.SegmentSize != nil {
		size = *b.SegmentSize
	}
	have := map[string]time.Time{}
	for _, f := range arch.Files {
		have[f.Name] = f.At
	}
	if err := wal.EachSegment(*b.BeginWAL, *b.EndWAL, size, func(name string) error {
		if _, ok := have[name]; !ok {
			return fault.New(fault.Refused, op, string(b.ID), "WAL segment %s, which the backup needs to be consistent, is not in the archive", name).
				WithHint("wait until it is archived (holdfast status %s), or restore another backup", b.ServerName)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	last, lastAt, err := p.reach(b, size, have, arch)
	if err != nil {
		return nil, err
	}
	if err := checkTarget(b, req, last, lastAt); err != nil {
		return nil, err
	}
	if err := p.checkFork(b, req, last, arch); err != nil {
		return nil, err
	}

	stop := last
	switch {
	case req.Target.Immediate:
		stop, err = wal.ParseSegment(*b.EndWAL, size)
	case req.Target.LSN != 0:
		// A record that ends exactly at a segment's end lies in the one before.
		stop = wal.SegmentOf(p.Timeline, req.Target.LSN-1, size)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, op, string(b.ID), err)
	}
	var out []string
	for _, f := range arch.Files {
		switch wal.Classify(f.Name) {
		case wal.HistoryFile:
			out = append(out, f.Name)
		case wal.SegmentFile:
			if strings.ToUpper(f.Name[8:]) < (*b.BeginWAL)[8:] {
				continue
			}
			seg, err := wal.ParseSegment(f.Name, size)
			if err != nil || seg.No > stop.No || !p.follows(seg, arch) {
				continue
			}
			out = append(out, f.Name)
		}
	}
	sort.Strings(out)
	return out, nil
}

// follows reports whether recovery along the plan's timeline may read seg.
func (p *Plan) follows(seg wal.Segment, arch Archive) bool {
	if seg.TLI == p.Timeline {
		return true
	}
	h, ok := arch.Histories[p.Timeline]
	return ok && h.Contains(seg.TLI, seg.Start())
}

// reach walks the WAL from the backup's end along the plan's timeline and
// returns the last segment before the first hole.
func (p *Plan) reach(b *backupinfo.Info, size uint64, have map[string]time.Time, arch Archive) (wal.Segment, time.Time, error) {
	seg, err := wal.ParseSegment(*b.EndWAL, size)
	if err != nil {
		return seg, time.Time{}, fault.Wrap(fault.Corrupt, op, string(b.ID), err)
	}
	at := have[seg.Name()]
	for {
		next, ok := p.successor(seg, have, arch)
		if !ok {
			return seg, at, nil
		}
		seg, at = next, have[next.Name()]
	}
}

// successor is the segment that recovery reads after seg: the same position on
// a newer timeline of the history wins over the next one of the old timeline.
func (p *Plan) successor(seg wal.Segment, have map[string]time.Time, arch Archive) (wal.Segment, bool) {
	next := seg.Next()
	candidates := []wal.Segment{}
	_, forks := p.fork(seg, arch)
	for tli := p.Timeline; tli > seg.TLI; tli-- {
		candidates = append(candidates, wal.Segment{TLI: tli, No: seg.No, Size: seg.Size})
		if !forks {
			candidates = append(candidates, wal.Segment{TLI: tli, No: next.No, Size: seg.Size})
		}
	}
	candidates = append(candidates, next)
	for _, s := range candidates {
		if _, ok := have[s.Name()]; ok && (s.TLI == p.Timeline || p.follows(s, arch)) {
			return s, true
		}
	}
	return next, false
}

// fork is the position within seg at which the plan's timeline left that of seg.
// The newer timeline then has a segment of the same position, and what the old
// one holds behind the fork never happened.
func (p *Plan) fork(seg wal.Segment, arch Archive) (wal.LSN, bool) {
	for _, s := range arch.Histories[p.Timeline].Switches {
		if s.TLI == seg.TLI && s.At > seg.Start() && s.At < seg.End() {
			return s.At, true
		}
	}
	return 0, false
}

// checkFork refuses a recovery in which PostgreSQL would take the old
// timeline's segment for the one that the fork lies in, and read on behind it.
func (p *Plan) checkFork(b *backupinfo.Info, req Request, last wal.Segment, arch Archive) error {
	at, forks := p.fork(last, arch)
	if !forks || req.Target.Immediate || req.Target.LSN != 0 && req.Target.LSN <= at {
		return nil
	}
	lacking := wal.Segment{TLI: p.Timeline, No: last.No, Size: last.Size}
	return fault.New(fault.Refused, op, string(b.ID), "WAL segment %s, in which timeline %d left timeline %d at %s, is not in the archive", lacking.Name(), p.Timeline, last.TLI, at).
		WithHint("wait until it is archived (holdfast status %s), or stay on the old timeline with --target-tli %d", b.ServerName, last.TLI)
}

// checkTarget refuses what recovery could only fail at.
func checkTarget(b *backupinfo.Info, req Request, last wal.Segment, lastAt time.Time) error {
	t := req.Target
	const layout = "2006-01-02 15:04:05.999999-07:00"
	if !t.Time.IsZero() && b.EndTime != nil {
		until := "now"
		if !lastAt.IsZero() {
			until = lastAt.In(t.Time.Location()).Format(layout)
		}
		window := b.EndTime.In(t.Time.Location()).Format(layout) + " to " + until
		if t.Time.Before(*b.EndTime) {
			return fault.New(fault.Refused, op, "--target-time "+t.Time.Format(layout), "it lies before the end of backup %s", b.ID).
				WithHint("this backup can be restored to times from %s; for earlier ones choose an earlier backup", window)
		}
		if !req.GetWAL && !lastAt.IsZero() && t.Time.After(lastAt) {
			return fault.New(fault.Refused, op, "--target-time "+t.Time.Format(layout), "the archive ends with %s, last written at %s", last.Name(), until).
				WithHint("this backup can be restored to times from %s; without a target, everything that is archived is restored", window)
		}
	}
	if t.LSN != 0 {
		window := b.EndLSN.String() + " to " + last.End().String()
		if t.LSN < *b.EndLSN {
			return fault.New(fault.Refused, op, "--target-lsn "+t.LSN.String(), "it lies before the end of backup %s", b.ID).
				WithHint("this backup can be restored to %s; for earlier ones choose an earlier backup", window)
		}
		if !req.GetWAL && t.LSN > last.End() {
			return fault.New(fault.Refused, op, "--target-lsn "+t.LSN.String(), "the archive ends with %s", last.Name()).
				WithHint("this backup can be restored to %s", window)
		}
	}
	return nil
}
