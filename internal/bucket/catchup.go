package bucket

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/replicas"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// copies is how many objects are copied between stores at the same time.
const copies = 2

// CatchUp makes what a bucket has of a backup the same as what another one has: it copies
// what is missing or differs, the record last, and removes the rest. It may be called again.
// Progress is told of bytes that are there.
func (b *Bucket) CatchUp(ctx context.Context, from *Bucket, id backup.ID, progress func(done, total int64)) error {
	if err := b.abortUploads(ctx, id); err != nil {
		return err
	}
	want, err := from.list(ctx, from.dir(id))
	if err != nil {
		return err
	}
	record := slices.IndexFunc(want, func(o objstore.Object) bool { return o.Key == from.recordKey(id) })
	if record < 0 {
		return fault.New(fault.NotFound, "copy", string(id), "%s has no record of it", from.URL).WithHint("see with holdfast verify-backup what is left of the backup, and take another one")
	}
	have, err := b.list(ctx, b.dir(id))
	if err != nil {
		return err
	}
	there := map[string]int64{}
	for _, o := range have {
		there[o.Key] = o.Size
	}
	var mu sync.Mutex
	var done, total int64
	for _, o := range want {
		total += o.Size
	}
	last := want[record]
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(copies)
	for _, o := range want {
		size, is := there[o.Key]
		delete(there, o.Key)
		if o.Key == last.Key {
			continue
		}
		g.Go(func() error {
			if err := b.take(gctx, from, o.Key, is && size == o.Size); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			done += o.Size
			progress(done, total)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var foreign []string
	for key := range there {
		foreign = append(foreign, key)
	}
	slices.Sort(foreign)
	if err := b.store.Delete(ctx, foreign...); err != nil {
		return b.named(err)
	}
	return b.take(ctx, from, last.Key, false)
}

// take copies an object, unless it is the same. perhaps says that it may be.
func (b *Bucket) take(ctx context.Context, from *Bucket, key string, perhaps bool) error {
	if perhaps {
		same, err := replicas.Same(ctx, from.store, b.store, key)
		if err != nil || same {
			return b.named(err)
		}
	}
	_, err := replicas.Transfer(ctx, from.store, b.store, key)
	return b.named(err)
}

func (b *Bucket) abortUploads(ctx context.Context, id backup.ID) error {
	many, is := b.store.(objstore.Multipart)
	if !is {
		return nil
	}
	for u, err := range many.Uploads(ctx, b.dir(id)) {
		if err == nil {
			err = many.Abort(ctx, u)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TakeWAL copies the WAL that makes a backup consistent, and the history of its timeline,
// from another bucket. It may be called again.
func (b *Bucket) TakeWAL(ctx context.Context, from *Bucket, info *backupinfo.Info) error {
	if info.BeginWAL == nil || info.EndWAL == nil || info.SegmentSize == nil {
		return fault.New(fault.Corrupt, "copy the WAL of", string(info.ID), "its record lacks the begin or end of the WAL")
	}
	w, err := from.WAL(ctx, *info.BeginWAL)
	if err != nil {
		return from.named(err)
	}
	here, err := b.WAL(ctx, *info.BeginWAL)
	if err != nil {
		return b.named(err)
	}
	var names []string
	if err := wal.EachSegment(*info.BeginWAL, *info.EndWAL, *info.SegmentSize, func(name string) error {
		names = append(names, name)
		return nil
	}); err != nil {
		return err
	}
	if history := historyOf(info); history != "" {
		names = append(names, history)
	}
	return each(ctx, len(names), func(ctx context.Context, i int) error {
		list := w.objects[names[i]]
		if len(list) == 0 {
			return fault.New(fault.NotFound, "copy WAL", names[i], "it is not below %s/%s", from.URL, from.wals()).
				WithHint("take another backup, and see who removes WAL there")
		}
		o := list[0]
		perhaps := slices.ContainsFunc(here.objects[names[i]], func(h objstore.Object) bool { return h.Key == o.Key && h.Size == o.Size })
		return b.take(ctx, from, o.Key, perhaps)
	})
}

// WALs is the bucket that has a server's WAL; nil when a directory has it.
func WALs(ctx context.Context, s *config.Server, stores objstore.Stores, p *objstore.Policy) (*Bucket, error) {
	if s.WALsCloud == nil {
		return nil, nil //nolint:nilnil // as said
	}
	return at(ctx, s, s.WALsDirectory, stores, p)
}
