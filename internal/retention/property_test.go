package retention_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/retention"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// cluster is the life of a server, which writes WAL, is promoted, goes back in
// time, and is backed up meanwhile.
type cluster struct {
	*rand.Rand
	size   uint64
	forks  []fork // of timeline 1, 2, ...
	at     wal.LSN
	day    int
	reach  []wal.LSN // how far each timeline was written
	names  map[string]bool
	in     retention.Input
	doubts bool // something is unknown on purpose
}

// fork is where a timeline comes from.
type fork struct {
	parent uint32
	at     wal.LSN
}

func (c *cluster) tli() uint32 { return uint32(len(c.forks)) }

func (c *cluster) one(in int) bool { return c.IntN(in) == 0 }

// advance writes WAL of up to three segments.
func (c *cluster) advance() {
	to := c.at + wal.LSN(c.Int64N(3*int64(c.size))) + 1
	for at := c.at; ; at += wal.LSN(c.size) {
		seg := wal.SegmentOf(c.tli(), min(at, to), c.size)
		if !c.one(40) {
			c.names[seg.Name()] = true
		}
		if at >= to {
			break
		}
	}
	c.at, c.reach[c.tli()-1] = to, to
}

// leave begins another timeline: here, or somewhere in the past.
func (c *cluster) leave() {
	f := fork{c.tli(), c.at}
	c.names[wal.SegmentOf(c.tli(), c.at, c.size).Name()+".partial"] = true
	if c.one(2) {
		f.parent = 1 + c.Uint32N(c.tli())
		low := wal.LSN(c.size)
		if f.parent > 1 {
			low = c.forks[f.parent-1].at
		}
		if high := c.reach[f.parent-1]; high > low {
			f.at = low + wal.LSN(c.Uint64N(uint64(high-low))) + 1
		} else {
			f.at = high
		}
	}
	c.forks, c.reach = append(c.forks, f), append(c.reach, f.at)
	c.at = f.at
	c.names[wal.HistoryName(c.tli())] = true
	if c.one(10) {
		c.doubts = true
	} else {
		c.in.Histories[c.tli()] = wal.History{TLI: c.tli(), Switches: c.switches(c.tli())}
	}
}

func (c *cluster) switches(tli uint32) []wal.Switch {
	var out []wal.Switch
	for ; tli > 1; tli = c.forks[tli-1].parent {
		f := c.forks[tli-1]
		at := f.at
		out = append([]wal.Switch{{TLI: f.parent, At: at}}, out...)
	}
	return out
}

func (c *cluster) backup() {
	c.day++
	at := now.AddDate(0, 0, c.day-40)
	b := retention.Backup{ID: backup.NewID(at), SystemID: "1", SegmentSize: c.size, Timeline: c.tli(), EndTime: at.Add(time.Hour), Status: backup.Done}
	c.advance()
	b.Begin = c.at
	c.advance()
	b.End = c.at
	c.names[fmt.Sprintf("%s.%08X.backup", wal.SegmentOf(b.Timeline, b.Begin, c.size).Name(), wal.Offset(b.Begin, c.size))] = true
	switch c.IntN(12) {
	case 0:
		b.Status = backup.Failed
	case 1:
		b.Status = backup.WaitingForWALs
	case 2:
		b.Status, b.End, b.EndTime = backup.Started, 0, time.Time{}
	case 3:
		if c.one(4) {
			b.Status, b.Begin, b.End, b.Timeline, b.EndTime = backup.Empty, 0, 0, 0, time.Time{}
		}
	case 4:
		b.Status, b.Deleting = backup.Failed, true
	case 5:
		b.Orphan = c.one(3)
	case 6:
		b.InUse = "a restore reads it"
	}
	if len(c.in.Backups) > 0 && c.one(3) {
		b.Parent = c.in.Backups[c.IntN(len(c.in.Backups))].ID
	} else if b.Status == backup.Done && c.one(5) {
		b.Keep = []retention.Word{retention.KeepFull, retention.KeepStandalone}[c.IntN(2)]
	}
	c.in.Backups = append(c.in.Backups, b)
}

func live(seed uint64) *cluster {
	c := &cluster{Rand: rand.New(rand.NewPCG(seed, 1)), forks: []fork{{}}, names: map[string]bool{}, in: retention.Input{Now: now, Histories: map[uint32]wal.History{}}}
	c.size = uint64(1) << (20 + c.IntN(11))
	c.at = wal.LSN(c.size) + wal.LSN(c.Uint64N(c.size))
	c.reach = []wal.LSN{c.at}
	for range 1 + c.IntN(14) {
		switch {
		case c.one(8):
			c.leave()
		case c.one(4):
			c.advance()
		default:
			c.backup()
		}
	}
	c.advance()
	c.in.Policy.Minimum = c.IntN(4)
	c.in.Policy.WORM = c.one(50)
	if c.one(2) {
		c.in.Policy.Retention = config.Retention{Redundancy: 1 + c.IntN(4)}
	} else if !c.one(8) {
		c.in.Policy.Retention = config.Retention{Window: time.Duration(1+c.IntN(40)) * 24 * time.Hour}
	}
	for name := range c.names {
		c.in.Names = append(c.in.Names, name)
	}
	c.Shuffle(len(c.in.Names), func(i, j int) { c.in.Names[i], c.in.Names[j] = c.in.Names[j], c.in.Names[i] })
	return c
}

// plan asks for one of the plans that there are.
func (c *cluster) plan() (string, *retention.Plan) {
	switch c.IntN(5) {
	case 0:
		var ids []backup.ID
		for _, b := range c.in.Backups {
			if c.one(4) {
				ids = append(ids, b.ID)
			}
		}
		p, err := retention.Delete(c.in, ids)
		if err != nil {
			p = &retention.Plan{NoPurge: err.Error()}
		}
		return "delete", p
	case 1:
		return "finish", retention.Finish(c.in)
	case 2:
		if len(c.in.Backups) > 0 {
			return "first", retention.AfterFirst(c.in, c.in.Backups[c.IntN(len(c.in.Backups))].ID)
		}
	}
	return "policy", retention.Make(c.in)
}

// piece is WAL of a timeline.
type piece struct {
	tli      uint32
	from, to wal.LSN
}

// oracle is all the WAL that a backup can be restored with; it knows the true
// descent of timelines.
func (c *cluster) oracle(b retention.Backup) []piece {
	if b.Keep == retention.KeepStandalone && b.InUse == "" {
		return []piece{{b.Timeline, b.Begin, b.End}}
	}
	var out []piece
	for target := b.Timeline; target <= c.tli(); target++ {
		// The pieces of the target's line, from its end to its beginning.
		tli, to := target, c.reach[target-1]+1
		var line []piece
		for {
			line = append(line, piece{tli, max(c.forks[tli-1].at, b.Begin), to})
			if tli == b.Timeline || tli == 1 {
				break
			}
			tli, to = c.forks[tli-1].parent, c.forks[tli-1].at
		}
		if tli == b.Timeline && to >= max(b.End, b.Begin+1) {
			out = append(out, line...)
		}
	}
	return out
}

// verify finds out what is wrong with a plan.
func (c *cluster) verify(kind string, p *retention.Plan) error {
	dies := map[backup.ID]bool{}
	for _, id := range p.Doomed {
		dies[id] = true
	}
	purged := p.Purge()
	var segments []wal.Segment
	for _, name := range purged {
		s, err := wal.ParseSegment(name, c.size)
		if err != nil {
			return err
		}
		segments = append(segments, s)
	}
	stay, were, unknown := 0, 0, false
	byID := map[backup.ID]retention.Backup{}
	for _, b := range c.in.Backups {
		byID[b.ID] = b
		good := b.Status == backup.Done && b.Parent == "" && !b.Orphan
		if good {
			were++
			if !dies[b.ID] {
				stay++
			}
		}
		if dies[b.ID] {
			switch {
			case b.Keep != "":
				return fmt.Errorf("%s is kept and would be deleted", b.ID)
			case b.InUse != "":
				return fmt.Errorf("%s is in use and would be deleted", b.ID)
			case kind != "delete" && b.Status != backup.Done && b.Status != backup.Failed:
				return fmt.Errorf("%s is %s and would be deleted", b.ID, b.Status)
			case kind == "policy" && b.Status == backup.Failed && b.Parent == "" && !b.Deleting:
				return fmt.Errorf("%s is FAILED and would be deleted", b.ID)
			case kind == "first":
				return fmt.Errorf("%s would be deleted after a first backup", b.ID)
			}
			continue
		}
		if b.Parent != "" && dies[b.Parent] {
			return fmt.Errorf("%s would lose %s", b.ID, b.Parent)
		}
		if b.Status == backup.Failed || b.Deleting {
			continue
		}
		if b.Begin == 0 {
			unknown = true
			continue
		}
		for _, p := range c.oracle(b) {
			for _, s := range segments {
				if s.TLI == p.tli && s.Start() < p.to && s.End() > p.from {
					return fmt.Errorf("%s would lose %s", b.ID, s.Name())
				}
			}
		}
	}
	switch {
	case len(p.Doomed) > 0 && stay < min(were, c.in.Policy.Minimum):
		return fmt.Errorf("%d of %d good backups would stay, minimum_redundancy is %d", stay, were, c.in.Policy.Minimum)
	case unknown && len(purged) > 0:
		return fmt.Errorf("WAL would be deleted while the begin of a backup is unknown")
	case c.in.Policy.WORM && len(purged) > 0:
		return fmt.Errorf("WAL would be deleted from a write-once archive")
	}
	for i, id := range p.Doomed {
		if parent := byID[id].Parent; slices.Contains(p.Doomed[:i], parent) {
			return fmt.Errorf("%s would be deleted after %s, which it depends on", id, parent)
		}
	}
	if kind == "policy" {
		if err := c.retained(dies); err != nil {
			return err
		}
	}
	return c.useful(p)
}

// retained makes sure that what the policy promises is left.
func (c *cluster) retained(dies map[backup.ID]bool) error {
	n, since := 0, now.Add(-c.in.Policy.Window)
	for _, b := range slices.Backward(c.in.Backups) {
		if b.Status != backup.Done || b.Parent != "" || b.Orphan || b.Deleting {
			continue
		}
		if dies[b.ID] {
			return fmt.Errorf("%s would be deleted, which the policy wants", b.ID)
		}
		n++
		if c.in.Policy.Window > 0 && b.EndTime.Before(since) || c.in.Policy.Redundancy > 0 && n == c.in.Policy.Redundancy {
			return nil
		}
	}
	return nil
}

// useful makes sure that WAL before every backup does go, where nothing is in doubt.
func (c *cluster) useful(p *retention.Plan) error {
	if c.tli() > 1 || p.NoPurge != "" {
		return nil
	}
	limit := wal.LSN(1) << 62
	dies := map[backup.ID]bool{}
	for _, id := range p.Doomed {
		dies[id] = true
	}
	// The newest complete backup guards the present even while it is deleted.
	guard := true
	for _, b := range slices.Backward(c.in.Backups) {
		guards := guard && b.Status.CopyDone() && !b.Orphan && !b.Deleting
		if guards || b.Status != backup.Failed && !dies[b.ID] {
			limit = min(limit, b.Begin)
		}
		guard = guard && !guards
	}
	if limit == 1<<62 {
		return nil
	}
	purged := p.Purge()
	for _, name := range c.in.Names {
		if seg, err := wal.ParseSegment(name, c.size); err == nil && seg.End() <= limit && !slices.Contains(purged, name) {
			return fmt.Errorf("%s would stay, which nobody needs", name)
		}
	}
	return nil
}

// TestNothingNeededGoes makes 10,000 catalogues and asks an oracle.
func TestNothingNeededGoes(t *testing.T) {
	const catalogues, shards = 10000, 8
	for shard := range uint64(shards) {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			backups, files := 0, 0
			for seed := shard; seed < catalogues; seed += shards {
				c := live(seed)
				kind, p := c.plan()
				if err := c.verify(kind, p); err != nil {
					t.Fatalf("catalogue %d, %s: %v\n%+v\n%+v\n%+v\n%+v", seed, kind, err, c.in.Policy, c.forks, c.in.Backups, p)
				}
				backups += len(p.Doomed)
				files += len(p.Purge())
			}
			if backups < 500 || files < 2000 {
				t.Errorf("only %d backups and %d files were deleted: the test proves nothing", backups, files)
			}
		})
	}
}
