package cloudcopy

import (
	"context"
	"sync"

	"github.com/holdfast-pg/holdfast/internal/bundle"
	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/frame"
	"github.com/holdfast-pg/holdfast/internal/volumes"
)

// recordsKey is that of a backup's records: the files of its journal in a tar archive.
const recordsKey = "holdfast/records.tar.zst"

// previous is the backup that is reused. A nil one is none.
type previous struct {
	j     *packed
	p     *volumes.Plan
	world datadir.World
	match map[string]string // volumes by the names of those that will have most of their files
	sizes map[string]int64  // of the objects that the store has, by key

	mu   sync.Mutex
	lost []string // keys of those that it should have
}

// previous fetches the records of the backup that is to be reused.
func (c *copying) previous(ctx context.Context) (*previous, error) {
	if c.Reuse == Off || c.Previous == "" {
		return nil, nil //nolint:nilnil // as said
	}
	j, err := fetchRecords(ctx, c.Job, c.Previous)
	if err != nil || j == nil {
		return nil, err
	}
	old := &previous{j: j}
	var st state
	if _, err = j.readJSON(stateName, &st); err == nil {
		old.p, err = j.plan()
	}
	if err != nil || old.p == nil {
		j.close()
		return nil, err
	}
	old.world, old.sizes = st.World, map[string]int64{}
	for o, err := range c.Store.List(ctx, c.Previous) {
		if err != nil {
			j.close()
			return nil, err
		}
		old.sizes[o.Key] = o.Size
	}
	return old, nil
}

// close may be called for none.
func (p *previous) close() {
	if p != nil {
		p.j.close()
	}
}

func (p *previous) plan() *volumes.Plan {
	if p == nil {
		return nil
	}
	return p.p
}

// compare finds the volumes that those of a plan have the most in common with. The lists of files, which take
// memory, are let go.
func (p *previous) compare(plan *volumes.Plan) {
	if p == nil {
		return
	}
	where := map[string]map[string]int{} // by tree and path
	for i, v := range p.p.Volumes {
		if where[v.Tree] == nil {
			where[v.Tree] = map[string]int{}
		}
		for _, f := range v.Files {
			where[v.Tree][f.Path] = i
		}
	}
	p.match = make(map[string]string, len(plan.Volumes))
	for _, v := range plan.Volumes {
		common := map[int]int64{}
		most := int64(0)
		for _, f := range v.Files {
			if i, is := where[v.Tree][f.Path]; is {
				common[i] += f.Size + 1
				if common[i] > most {
					p.match[v.Name()], most = p.p.Volumes[i].Name(), common[i]
				}
			}
		}
	}
	p.p = nil
}

// counterpart is an archive that a new one has the most in common with. A nil one is none.
type counterpart struct {
	archive string
	world   datadir.World
	e       *entry
	j       records
}

// counterpart reads what is known of the volume that has most of the files. One that the store has lost is none:
// else every backup after that would fail.
func (p *previous) counterpart(v volumes.Volume) (*counterpart, error) {
	if p == nil || p.match[v.Name()] == "" {
		return nil, nil //nolint:nilnil // as said
	}
	c := &counterpart{archive: p.match[v.Name()], world: p.world, j: p.j.records}
	var err error
	if c.e, err = p.j.entry(c.archive); err != nil || c.e == nil {
		return nil, err
	}
	if size, there := p.sizes[c.e.Record.Key]; !there || size != c.e.Record.Size {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.lost = append(p.lost, c.e.Record.Key)
		return nil, nil //nolint:nilnil // as said
	}
	return c, nil
}

func (c *counterpart) name() string {
	if c == nil {
		return ""
	}
	return c.archive
}

func (c *counterpart) record() *bundle.Record {
	if c == nil {
		return nil
	}
	return c.e.Record
}

// sent is how much of an object is not of the counterpart.
func (c *counterpart) sent(r *bundle.Record, codec frame.Codec) int64 {
	if c == nil || !c.e.Record.Reusable(codec) {
		return r.Size
	}
	had := map[[32]byte]bool{}
	for _, s := range c.e.Record.Segments {
		had[s.SHA256] = true
	}
	var sent int64
	for _, s := range r.Segments {
		if !had[s.SHA256] {
			sent += s.Length
		}
	}
	return sent
}
