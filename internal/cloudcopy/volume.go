package cloudcopy

import (
	"context"
	"errors"
	"io"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/bundle"
	"github.com/holdfast-pg/holdfast/internal/volumes"
)

// senders is how many parts are on their way at the same time, at least: one of each volume
// that is made, two of one that is made alone.
const senders = 2

// ahead is how many segments are there beside those that are compressed.
const ahead = 2

// maker makes one volume after the other.
type maker struct {
	*copying
	reader           *volumes.Reader
	workers, senders int
}

// newMaker is one of several that share what there is.
func (c *copying) newMaker(jobs, stride int) *maker {
	workers := max(1, runtime.NumCPU()/jobs)
	return &maker{c, &volumes.Reader{Buffers: volumes.NewBuffers(workers + ahead), Stride: stride, Judge: c.judge}, workers, max(1, senders/jobs)}
}

func (m *maker) options() bundle.Options {
	return bundle.Options{Codec: m.Codec, Workers: m.workers, Senders: m.senders, PartSize: m.PartSize, Pool: &m.pool, Allowance: &m.allowance}
}

// buffers is what those of all makers need, in bytes.
func (c *copying) buffers() int64 {
	jobs := max(c.Jobs, 1)
	m := c.newMaker(jobs, 0)
	return int64(jobs) * (m.options().Memory() + int64(m.workers+ahead)*volumes.SegmentSize)
}

// volume makes a volume, unless it is stored. When it has succeeded, or has only to wait
// for the store, it calls free: the maker can make another one.
func (m *maker) volume(ctx context.Context, v volumes.Volume, free func()) error {
	e, err := m.stored(ctx, v.Name())
	if err != nil {
		return err
	}
	if e != nil {
		defer free()
		m.Progress.Done.Add(e.Content)
		m.Progress.Files.Add(int64(len(v.Files)))
		m.mu.Lock()
		m.res.Kept += int64(len(v.Files))
		m.mu.Unlock()
		return nil
	}
	old, err := m.old.counterpart(v)
	if err != nil {
		return err
	}
	m.reader.Known = nil
	if m.Reuse == Mtime {
		if m.reader.Known, err = old.known(m.World, m.Codec); err != nil {
			return err
		}
	}
	return m.archive(ctx, v.Name(), old, free, func(ctx context.Context, emit func(volumes.Segment) error) (volumes.Result, error) {
		return m.reader.Volume(ctx, m.trees[v.Tree].Root, v, emit)
	})
}

// archive stores what read reads, and writes it down.
func (m *maker) archive(ctx context.Context, name string, old *counterpart, free func(), read func(context.Context, func(volumes.Segment) error) (volumes.Result, error)) error {
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	in := &segments{queue: make(chan volumes.Segment), progress: m.Progress, archive: old.name()}
	var res volumes.Result
	g.Go(func() (err error) {
		defer close(in.queue)
		res, err = read(gctx, func(s volumes.Segment) error {
			select {
			case in.queue <- s:
				return nil
			case <-gctx.Done():
				s.Release()
				return context.Cause(gctx)
			}
		})
		in.err = err
		return err
	})
	g.Go(func() error {
		defer in.drain()
		o := m.options()
		o.Old = old.record()
		o.Before = func(r *bundle.Record) error {
			m.Progress.Files.Add(int64(len(res.Members)))
			for i := range res.Members {
				res.Members[i].SumUp(func(index int) ([32]byte, int64) { return r.Segments[index].SHA256, r.Segments[index].Sum.Size })
			}
			err := m.Fence.Do(func() error {
				return m.j.enter(name, res.Members, entry{Record: r, Sent: old.sent(r, m.Codec), Took: time.Since(began)})
			})
			if err == nil {
				res.Members = nil // the store may take its time
				free()
			}
			return err
		}
		_, err := bundle.Write(gctx, m.Store, m.Base+name+m.Codec.Suffix(), in, o)
		return err
	})
	return g.Wait()
}

// segments is a volume on its way from the reader to the store.
type segments struct {
	queue    chan volumes.Segment
	err      error // of the reader, once the queue is closed
	progress *Progress
	archive  string // the old one that known segments are of
}

// Next implements bundle.Source.
func (s *segments) Next(ctx context.Context) (bundle.Piece, error) {
	select {
	case <-ctx.Done():
		return bundle.Piece{}, context.Cause(ctx)
	case seg, more := <-s.queue:
		if !more {
			if s.err != nil {
				return bundle.Piece{}, s.err
			}
			return bundle.Piece{}, io.EOF
		}
		s.progress.Done.Add(int64(seg.Size))
		if seg.Data == nil {
			if seg.Archive != s.archive {
				return bundle.Piece{}, errors.New("a segment of another archive than the old one")
			}
			return bundle.Piece{Known: true, Segment: seg.Stored}, nil
		}
		return bundle.Piece{Data: seg.Data, Release: seg.Release}, nil
	}
}

// drain lets a reader end whose segments nobody takes any more.
func (s *segments) drain() {
	for seg := range s.queue {
		seg.Release()
	}
}
