package cloudcopy

import (
	"context"

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
	where map[string]map[string]int // by tree and path, the volume in the plan
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
	old := &previous{j: j, where: map[string]map[string]int{}}
	var st state
	if _, err = j.readJSON(stateName, &st); err == nil {
		old.p, err = j.plan()
	}
	if err != nil || old.p == nil {
		j.close()
		return nil, err
	}
	old.world = st.World
	for i, v := range old.p.Volumes {
		if old.where[v.Tree] == nil {
			old.where[v.Tree] = map[string]int{}
		}
		for _, f := range v.Files {
			old.where[v.Tree][f.Path] = i
		}
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

// counterpart is an archive that a new one has the most in common with. A nil one is none.
type counterpart struct {
	volume volumes.Volume
	world  datadir.World
	e      *entry
	j      records
}

// counterpart looks for the volume that has most of the files.
func (p *previous) counterpart(v volumes.Volume) (*counterpart, error) {
	if p == nil {
		return nil, nil //nolint:nilnil // as said
	}
	common := map[int]int64{}
	best, most := -1, int64(0)
	for _, f := range v.Files {
		if i, is := p.where[v.Tree][f.Path]; is {
			common[i] += f.Size + 1
			if common[i] > most {
				best, most = i, common[i]
			}
		}
	}
	if best < 0 {
		return nil, nil //nolint:nilnil // as said
	}
	c := &counterpart{volume: p.p.Volumes[best], world: p.world, j: p.j.records}
	var err error
	if c.e, err = p.j.entry(c.volume.Name()); err != nil || c.e == nil {
		return nil, err
	}
	return c, nil
}

func (c *counterpart) name() string {
	if c == nil {
		return ""
	}
	return c.volume.Name()
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
