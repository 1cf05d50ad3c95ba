package cloudcopy

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/bundle"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/memlimit"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/pagesum"
	"github.com/holdfast-pg/holdfast/internal/pgcontrol"
	"github.com/holdfast-pg/holdfast/internal/volumes"
)

// copying is one call of Copy.
type copying struct {
	Job
	j         journal
	trees     map[string]*volumes.Tree
	old       *previous
	judge     *pagesum.Judge
	pool      bundle.Pool
	allowance bundle.Allowance

	mu    sync.Mutex
	res   Result
	items map[string]*Item
}

// Copy stores the volumes of a cluster that is in backup mode, and reads pg_control
// last. It may be called again, for the same attempt and for later ones, when nobody
// else works for the backup.
func Copy(ctx context.Context, job Job) (Result, error) {
	began := time.Now()
	c, err := begin(job)
	if err != nil {
		return Result{}, err
	}
	buffers := c.buffers()
	defer memlimit.Reserve(buffers)()
	trees, err := c.list(ctx)
	if err == nil {
		err = c.Fence.Do(func() error { return c.j.keepTrees(trees) })
	}
	if err != nil {
		return Result{}, err
	}
	if err := AbortUploads(ctx, c.Store, c.Base); err != nil { // of whoever was killed
		return Result{}, err
	}
	c.old, err = c.previous(ctx)
	if fault.Is(err, fault.Corrupt) {
		c.res.Unusable, err = err.Error(), nil
	}
	if err != nil {
		return Result{}, err
	}
	defer c.old.close()
	plan, err := c.plan(ctx, trees)
	if err != nil {
		return Result{}, err
	}
	// Small files leave more than half of the buffers empty.
	defer memlimit.Reserve(max(0, 2*plan.Memory()-buffers/2))()
	c.old.compare(plan)
	for i := range trees {
		trees[i].Files = nil // the plan has them
	}
	c.res.Analysis = time.Since(began)
	if err := c.volumes(ctx, plan); err != nil {
		return Result{}, err
	}
	if c.old != nil {
		c.res.Lost = c.old.lost
	}
	if err := c.sum(plan); err != nil {
		return Result{}, err
	}
	control, _, err := volumes.ReadControl(ctx, c.Cluster.DataDir, c.SystemID)
	if err == nil {
		err = c.Fence.Do(func() error { return c.j.writeJSON(controlName, control) })
	}
	if err != nil {
		return Result{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(c.items)) {
		c.res.Items = append(c.res.Items, *c.items[name])
	}
	c.res.Copy = time.Since(began)
	return c.res, nil
}

// begin opens a job that nobody else works for.
func begin(job Job) (*copying, error) {
	c, err := open(job)
	if err != nil {
		return nil, err
	}
	return c, c.Fence.Do(c.j.sweep)
}

func open(job Job) (*copying, error) {
	c := &copying{Job: job, j: newJournal(filepath.Join(job.WorkDir, "run-volumes")), trees: map[string]*volumes.Tree{}, items: map[string]*Item{}}
	if err := os.MkdirAll(c.j.dir, 0o700); err != nil {
		return nil, fault.Wrap(fault.Internal, "create directory", c.j.dir, err)
	}
	return c, nil
}

// treeNames are those of the cluster's trees.
func (c *copying) treeNames() []string {
	names := []string{volumes.DataTree}
	for _, t := range c.Cluster.Tablespaces {
		names = append(names, strconv.FormatUint(uint64(t.OID), 10))
	}
	return names
}

// judgePages looks whether the cluster's pages have checksums.
func (c *copying) judgePages() error {
	control, err := pgcontrol.Read(filepath.Join(c.Cluster.DataDir, "global", "pg_control"))
	if err != nil {
		return err
	}
	c.Cluster.CatalogVersion = control.CatalogVersion
	if control.PageChecksums {
		c.judge = &pagesum.Judge{BlockSize: int(control.BlockSize), RelationBlocks: control.RelationBlocks, Start: c.Start}
	}
	return nil
}

func (c *copying) list(ctx context.Context) ([]volumes.Tree, error) {
	if err := c.judgePages(); err != nil {
		return nil, err
	}
	trees, err := volumes.List(ctx, c.Cluster)
	if err != nil {
		return nil, err
	}
	var total int64
	for i := range trees {
		t := &trees[i]
		c.trees[t.Name] = t
		c.items[t.Name] = &Item{Name: t.Name}
		total += t.Size()
		for _, link := range t.Links {
			c.res.Links = append(c.res.Links, path.Join(t.Root, link))
		}
	}
	c.Progress.Total.Store(total)
	return trees, nil
}

// plan is that of the attempt. One that the same attempt has made goes on.
func (c *copying) plan(ctx context.Context, trees []volumes.Tree) (*volumes.Plan, error) {
	var st state
	there, err := c.j.readJSON(stateName, &st)
	if err != nil {
		return nil, err
	}
	plan, err := c.j.plan()
	if err != nil {
		return nil, err
	}
	if there && st.Attempt == c.Attempt && plan != nil {
		return plan, nil
	}
	var total int64
	for i := range trees {
		total += trees[i].Size()
	}
	limit := volumes.Limit(c.VolumeSize, c.LargestSize, total, c.old.plan())
	if plan == nil {
		plan = volumes.Cut(trees, limit, c.old.plan())
	} else {
		kept, err := c.kept(ctx, plan, st)
		if err != nil {
			return nil, err
		}
		plan = plan.Resume(trees, limit, kept, st.Used)
	}
	st = state{Attempt: c.Attempt, World: c.World, Codec: c.Codec.String(), Used: maps.Clone(st.Used)}
	if st.Used == nil {
		st.Used = map[string]int{}
	}
	for _, v := range plan.Volumes {
		st.Used[v.Tree] = max(st.Used[v.Tree], v.Number)
	}
	return plan, c.Fence.Do(func() error {
		// A state without the plan would let the volumes of two attempts have one key.
		return errors.Join(c.j.write(planName, func(w io.Writer) error {
			_, err := plan.WriteTo(w)
			return err
		}), c.j.writeJSON(stateName, st))
	})
}

// kept are the volumes of an earlier attempt that are as good as new: the new session
// has begun since, and none of their files has changed.
func (c *copying) kept(ctx context.Context, plan *volumes.Plan, st state) ([]volumes.Volume, error) {
	var kept []volumes.Volume
	for _, v := range plan.Volumes {
		same := false
		if st.World == c.World && st.Codec == c.Codec.String() {
			var err error
			if same, err = c.unchanged(ctx, v); err != nil {
				return nil, err
			}
		}
		if same {
			kept = append(kept, v)
			continue
		}
		if err := c.Fence.Do(func() error { return c.j.forget(v.Name()) }); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

func (c *copying) unchanged(ctx context.Context, v volumes.Volume) (bool, error) {
	e, err := c.stored(ctx, v.Name())
	if err != nil || e == nil {
		return false, err
	}
	tree := c.trees[v.Tree]
	if tree == nil {
		return false, nil
	}
	var members []volumes.Member
	if err := c.j.members(v.Name(), func(m volumes.Member) error { members = append(members, m); return nil }); err != nil {
		return false, err
	}
	if len(members) != len(v.Files) {
		return false, nil // some had vanished
	}
	changed, err := volumes.Changed(ctx, tree.Root, members)
	return len(changed) == 0, err
}

// leveler is a store of several ones that hold the same. After a kill one may have what
// another lacks.
type leveler interface {
	Level(ctx context.Context, key string, is func(objstore.Object) bool) error
}

// stored is the entry of an archive that the store has as recorded; nil when it has not.
func (c *copying) stored(ctx context.Context, archive string) (*entry, error) {
	e, err := c.j.head(archive)
	if err != nil || e == nil {
		return nil, err
	}
	if several, is := c.Store.(leveler); is {
		if err := several.Level(ctx, e.Record.Key, func(o objstore.Object) bool { return matches(o, e.Record) }); err != nil {
			return nil, err
		}
	}
	o, err := c.Store.Stat(ctx, e.Record.Key)
	if fault.Is(err, fault.NotFound) {
		return nil, nil //nolint:nilnil // as said
	}
	if err != nil || !matches(o, e.Record) {
		return nil, err
	}
	return e, nil
}

// sum adds up what the plan's volumes are now.
func (c *copying) sum(plan *volumes.Plan) error {
	for _, v := range plan.Volumes {
		e, err := c.j.head(v.Name())
		if err != nil {
			return err
		}
		if e == nil {
			return fault.New(fault.Internal, "read the record of", v.Name(), "it is missing")
		}
		c.res.Bytes += e.Content
		c.res.Stored += e.Record.Size
		c.res.Sent += e.Sent
		c.items[v.Tree].Serialized += e.Took
		err = c.j.members(v.Name(), func(m volumes.Member) error {
			c.res.Files++
			if m.Resized {
				c.res.Resized = append(c.res.Resized, path.Join(c.trees[v.Tree].Root, m.Path))
			}
			if m.Pages.Bad > 0 {
				c.res.BadPages = append(c.res.BadPages, BadPages{path.Join(c.trees[v.Tree].Root, m.Path), m.Pages.Bad, m.Pages.Blocks})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// matches reports whether an object is the one that was recorded, as far as the store tells.
func matches(o objstore.Object, r *bundle.Record) bool {
	return o.Size == r.Size && (o.CRC32C == nil || *o.CRC32C == r.CRC32C)
}

// publishing is how many volumes may be on their way from what was sent to an object. That
// is the store's work, and long where it copies gigabytes, so that the next ones are made meanwhile.
const publishing = 4

// largestFirst is the order in which they are made: a large one that began last would be made
// while nothing else is left to do.
func largestFirst(list []volumes.Volume) []volumes.Volume {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b volumes.Volume) int { return cmp.Compare(b.Size(), a.Size()) })
	return list
}

// volumes makes those that are not stored, several at a time.
func (c *copying) volumes(ctx context.Context, plan *volumes.Plan) error {
	began := time.Now()
	jobs := min(max(c.Jobs, 1), max(len(plan.Volumes), 1))
	makers := make(chan *maker, jobs)
	for range jobs {
		makers <- c.newMaker(jobs, plan.Stride)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs + publishing)
	for _, v := range largestFirst(plan.Volumes) {
		var m *maker
		select {
		case m = <-makers:
		case <-ctx.Done():
			return cmp.Or(g.Wait(), context.Cause(ctx))
		}
		g.Go(func() error {
			if err := m.volume(ctx, v, func() { makers <- m }); err != nil {
				return err
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.items[v.Tree].Copy = time.Since(began)
			return nil
		})
	}
	return g.Wait()
}

// AbortUploads gives up what writers that are gone have begun.
func AbortUploads(ctx context.Context, s objstore.Store, prefix string) error {
	m, is := s.(objstore.Multipart)
	if !is {
		return nil
	}
	for u, err := range m.Uploads(ctx, prefix) {
		if err == nil {
			err = m.Abort(ctx, u)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
