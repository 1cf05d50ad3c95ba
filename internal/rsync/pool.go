package rsync

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// arrived is a batch at its destination: the files that did not vanish.
type arrived struct {
	tree    Tree
	entries []entry
	linked  []bool // hard-linked by us to the previous backup; nil for none
}

// copyBatches copies with several jobs; what has arrived is hashed while the
// next batches are copied.
func (c *copier) copyBatches(ctx context.Context, batches []batch) error {
	if len(batches) == 0 {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	jobs := c.streams(batches)
	todo, copied := make(chan batch), make(chan arrived, jobs)
	g.Go(func() error {
		defer close(todo)
		for _, b := range batches {
			select {
			case todo <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	var streams sync.WaitGroup
	streams.Add(jobs)
	for job := range jobs {
		g.Go(func() error {
			defer streams.Done()
			if err := pause(ctx, time.Duration(job/max(1, c.StartBatch))*c.StartPeriod); err != nil {
				return err
			}
			for b := range todo {
				a, err := c.copyBatch(ctx, b, job, jobs)
				if err != nil {
					return err
				}
				select {
				case copied <- a:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		})
		g.Go(func() error {
			h := newHasher()
			for a := range copied {
				if err := c.seal(ctx, h, a); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		streams.Wait()
		close(copied)
		return nil
	})
	return fault.Wrap(fault.Internal, "copy", "files", g.Wait())
}

// pause returns early, with an error, when ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 && ctx.Err() == nil {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return fault.Wrap(fault.Cancelled, "copy", "files", context.Cause(ctx))
	case <-t.C:
		return nil
	}
}

func (c *copier) copyBatch(ctx context.Context, b batch, job, jobs int) (arrived, error) {
	t := c.Trees[b.tree]
	defer c.clock.copied(t.Name, time.Now())
	entries, err := c.listing.read(b.keys)
	if err != nil {
		return arrived{}, err
	}
	tr := transfer{source: t.Source, dest: t.Dest, rateKB: share(t.RateKB, jobs, job)}
	switch b.class {
	case send:
	case check:
		tr.reference, tr.link = t.Previous, c.Reuse == ReuseLink
	case reuse:
		return c.reuseBatch(ctx, t, entries, tr)
	}
	there, err := c.transfer(ctx, tr, entries)
	return arrived{tree: t, entries: there}, err
}
