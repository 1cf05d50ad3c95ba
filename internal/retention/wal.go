package retention

import (
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// need is what the backups of a timeline ask of the archive: whatever recovery
// can read that starts at begin and must come past end.
type need struct {
	tli        uint32
	begin, end wal.LSN
	reason     string
}

// stretch is WAL that makes a backup consistent, and no more.
type stretch struct {
	tli        uint32
	begin, end wal.LSN
	reason     string
}

// judge decides on files.
type judge struct {
	size      uint64
	newest    uint32 // the highest timeline of a complete backup
	needs     []need
	stretches []stretch
	histories map[uint32]wal.History
	ahead     string // why files of newer timelines stay
}

func (p *Plan) purgeIfDoomed(c catalogue, in Input) {
	if len(p.Doomed) == 0 {
		p.NoPurge = "no backup is deleted"
		return
	}
	p.purge(c, in)
}

// purge decides on the archive's files, given the backups that are doomed.
func (p *Plan) purge(c catalogue, in Input) {
	j, why := newJudge(c, p.Doomed, in)
	if why != "" {
		p.NoPurge = why
		return
	}
	names := slices.Clone(in.Names)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		del, reason := j.file(name)
		p.Files = append(p.Files, File{name, del, reason})
	}
}

func newJudge(c catalogue, doomed []backup.ID, in Input) (*judge, string) {
	if in.Policy.WORM {
		return nil, "the archive is write-once (worm_mode)"
	}
	dies := map[backup.ID]bool{}
	for _, id := range doomed {
		dies[id] = true
	}
	// The newest complete backup counts even when it is deleted now: what
	// follows its begin is the present.
	newest := slices.IndexFunc(c.all, Backup.complete)
	if newest < 0 {
		return nil, "there is no complete backup"
	}
	j := &judge{histories: in.Histories}
	byTimeline := map[uint32]need{}
	systemID := c.all[newest].SystemID
	for i, b := range c.all {
		needed := b.Status != backup.Failed && !b.Deleting && !dies[b.ID]
		if !needed && i != newest {
			continue
		}
		switch {
		case !b.begun():
			return nil, fmt.Sprintf("the begin of backup %s (%s) is not known", b.ID, b.Status)
		case !wal.ValidSegmentSize(b.SegmentSize):
			return nil, fmt.Sprintf("the segment size of backup %s is not known", b.ID)
		case j.size != 0 && j.size != b.SegmentSize:
			return nil, fmt.Sprintf("backup %s has WAL segments of another size", b.ID)
		case b.SystemID != systemID:
			return nil, fmt.Sprintf("backup %s is of another cluster", b.ID)
		}
		j.size = b.SegmentSize
		if b.complete() {
			j.newest = max(j.newest, b.Timeline)
		}
		if b.Keep == KeepStandalone && b.Status == backup.Done && i != newest && b.InUse == "" && b.End > b.Begin {
			j.stretches = append(j.stretches, stretch{b.Timeline, b.Begin, b.End,
				fmt.Sprintf("backup %s, which is kept standalone, needs it", b.ID)})
			continue
		}
		end := b.End
		if end < b.Begin {
			end = b.Begin + 1
		}
		n, ok := byTimeline[b.Timeline]
		// Together the backups of a timeline need no more than the one that begins
		// first, were its end the first one, too.
		if !ok || b.Begin < n.begin {
			n.reason = fmt.Sprintf("backup %s, which begins at %s of timeline %d, needs it", b.ID, b.Begin, b.Timeline)
			n.begin = b.Begin
		}
		if !ok || end < n.end {
			n.end = end
		}
		n.tli = b.Timeline
		byTimeline[b.Timeline] = n
	}
	for _, tli := range slices.Sorted(maps.Keys(byTimeline)) {
		j.needs = append(j.needs, byTimeline[tli])
	}
	j.ahead = fmt.Sprintf("its timeline is newer than every complete backup, of which the newest one is on timeline %d", j.newest)
	return j, ""
}

// file decides on one. Labels and partial segments share the fate of their segment.
func (j *judge) file(name string) (bool, string) {
	switch wal.Classify(name) {
	case wal.Unknown:
		return false, "not a WAL file"
	case wal.HistoryFile:
		return false, "history files are kept"
	}
	seg, err := wal.ParseSegment(name, j.size)
	if err != nil {
		return false, "not a segment of this size"
	}
	for _, s := range j.stretches {
		if seg.TLI == s.tli && seg.End() > s.begin && seg.Start() < s.end {
			return false, s.reason
		}
	}
	if seg.TLI > j.newest {
		return false, j.ahead
	}
	for _, n := range j.needs {
		if why := j.wants(n, seg); why != "" {
			return false, why
		}
	}
	return true, "no backup that stays can use it"
}

// wants says why recovery from n may read seg; "" when it never does.
func (j *judge) wants(n need, seg wal.Segment) string {
	if seg.End() <= n.begin {
		return ""
	}
	switch {
	case seg.TLI == n.tli:
		return n.reason
	case seg.TLI > n.tli:
		h, ok := j.histories[seg.TLI]
		if !ok {
			return fmt.Sprintf("the history of timeline %d is not archived", seg.TLI)
		}
		for _, s := range h.Switches {
			if s.TLI == n.tli && n.end <= s.At {
				return n.reason
			}
		}
		return ""
	}
	h, ok := j.histories[n.tli]
	if !ok {
		return fmt.Sprintf("the history of timeline %d is not archived", n.tli)
	}
	for _, s := range h.Switches {
		// A backup begins after its timeline did; otherwise the history is not to be trusted.
		if s.TLI == seg.TLI && n.begin < s.At {
			return n.reason
		}
	}
	return ""
}
