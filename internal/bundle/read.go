package bundle

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"slices"

	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/frame"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

const anotherCopy = "the object is damaged or was replaced; restore another backup, or another copy of this one"

// damaged is an object that does not hold what its record says.
func damaged(key string, at int64) error {
	return fault.New(fault.Corrupt, "read", key, "the segment at byte %d is not what was stored", at).WithHint(anotherCopy)
}

// short is an object that could not be read up to where its record says it ends.
func short(key string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fault.New(fault.Corrupt, "read", key, "it ends too early").WithHint(anotherCopy)
	}
	return err
}

// Read calls use with the content of each segment of an object, in order, and compares all of
// it with its record: each segment before it is used, the object's size and checksum at the
// end. workers expand, one segment each at a time. Corrupt: the object is not what its record says.
func Read(ctx context.Context, store objstore.Store, r *Record, workers int, use func(content []byte) error) error {
	p, err := r.check()
	if err != nil {
		return err
	}
	x := &reading{store: store, record: r, places: p, workers: max(workers, 1), use: use}
	if r.Stream {
		return x.stream(ctx)
	}
	body, o, err := store.Get(ctx, r.Key, objstore.Whole())
	if err != nil {
		return err
	}
	defer body.Close()
	if o.Size != r.Size {
		return fault.New(fault.Corrupt, "read", r.Key, "it has %d bytes, not %d", o.Size, r.Size).WithHint(anotherCopy)
	}
	in := &summing{r: body}
	if err := expect(in, r.Key, p.codec.Head()); err != nil {
		return err
	}
	if err := x.runs(ctx, in); err != nil {
		return err
	}
	if err := expect(in, r.Key, p.tail); err != nil {
		return err
	}
	return in.end(r)
}

// expect reads bytes that are known.
func expect(in io.Reader, key string, want []byte) error {
	got := make([]byte, len(want))
	if _, err := io.ReadFull(in, got); err != nil {
		return short(key, err)
	}
	if !bytes.Equal(got, want) {
		return fault.New(fault.Corrupt, "read", key, "its frame is not what was stored").WithHint(anotherCopy)
	}
	return nil
}

// summing reads an object and sums it up.
type summing struct {
	r    io.Reader
	crc  uint32
	size int64
	// failed is why it could not be read to its end.
	failed error
}

// Read implements io.Reader.
func (s *summing) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.crc, s.size = crc32.Update(s.crc, castagnoli, b[:n]), s.size+int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.failed = err
	}
	return n, err
}

// end reads the rest and compares.
func (s *summing) end(r *Record) error {
	if _, err := io.Copy(io.Discard, s); err != nil {
		return err
	}
	if s.size != r.Size || s.crc != r.CRC32C {
		return fault.New(fault.Corrupt, "read", r.Key, "its content does not match its checksum").WithHint(anotherCopy)
	}
	return nil
}

// reading reads the segments of an object.
type reading struct {
	store   objstore.Store
	record  *Record
	places  *places
	workers int
	use     func(content []byte) error
}

// piece is a segment on its way.
type piece struct {
	number       int
	run, content []byte
}

// runs reads runs that follow each other.
func (x *reading) runs(ctx context.Context, in io.Reader) error {
	workers := make([]func(*piece) error, x.workers)
	for i := range workers {
		d, err := x.places.codec.NewDecoder()
		if err != nil {
			return err
		}
		defer d.Close()
		workers[i] = func(p *piece) error { return x.expand(d, p) }
	}
	slots := make([]*piece, x.workers+1)
	for i := range slots {
		slots[i] = &piece{}
	}
	next := 0
	fill := func(ctx context.Context, p *piece) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if next == len(x.record.Segments) {
			return io.EOF
		}
		p.number, next = next, next+1
		n := int(x.record.Segments[p.number].Length)
		p.run = slices.Grow(p.run[:0], n)[:n]
		if _, err := io.ReadFull(in, p.run); err != nil {
			return short(x.record.Key, err)
		}
		return nil
	}
	return inOrder(ctx, slots, fill, workers, func(_ context.Context, p *piece) error { return x.use(p.content) })
}

// expand makes the content of a run, and verifies it.
func (x *reading) expand(d *frame.Decoder, p *piece) (err error) {
	s := &x.record.Segments[p.number]
	p.content, err = d.Append(p.content[:0], p.run, int(s.Sum.Size))
	if err != nil || x.record.Hash.sum(p.content) != s.SHA256 {
		return damaged(x.record.Key, x.places.offsets[p.number+1])
	}
	return nil
}

// stream reads an object without runs.
func (x *reading) stream(ctx context.Context) error {
	body, _, err := x.store.Get(ctx, x.record.Key, objstore.Whole())
	if err != nil {
		return err
	}
	defer body.Close()
	in := &summing{r: body}
	expanded, algorithm, err := codec.NewReader(in)
	if err != nil {
		return cmp.Or(in.failed, err)
	}
	defer expanded.Close()
	broken := func(at int64) error {
		if in.failed != nil {
			return in.failed
		}
		return fault.New(fault.Corrupt, "read", x.record.Key, "its content from byte %d on is not what was stored", at).WithHint(anotherCopy)
	}
	if algorithm != x.places.codec.Algorithm() {
		return broken(0)
	}
	buf := make([]byte, frame.MaxSegment)
	var at int64
	for i := range x.record.Segments {
		s := &x.record.Segments[i]
		content := buf[:s.Sum.Size]
		if _, err := io.ReadFull(expanded, content); err != nil || x.record.Hash.sum(content) != s.SHA256 {
			return broken(at)
		}
		at += s.Sum.Size
		if err := x.use(content); err != nil {
			return err
		}
	}
	if n, err := io.Copy(io.Discard, expanded); err != nil || n > 0 {
		return broken(at)
	}
	return in.end(x.record)
}
