package bundle

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/checksum"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/frame"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Piece is what a Source gives.
type Piece struct {
	// Data is a segment that was read: at least 1 byte, at most frame.MaxSegment. Whoever
	// got it calls Release, unless that is nil, when it is not needed any more.
	Data    []byte
	Release func()
	// Known says instead that the next segment is that of the old object with the number
	// Segment, from 0 on, which was not read because it is known to be unchanged.
	Known   bool
	Segment int
}

// Source cuts content into segments.
type Source interface {
	// Next returns the next segment. After the last one it returns io.EOF. What is not
	// released when Write fails is not released at all.
	Next(ctx context.Context) (Piece, error)
}

// Options say how an object is made.
type Options struct {
	Codec frame.Codec
	// Workers compress, one segment each at a time; 1 when less.
	Workers int
	// Senders send one part each at a time; 1 when less.
	Senders int
	// PartSize is that of parts; objstore.MinPart when less.
	PartSize int64
	// Before is called with the record when everything is sent, and before the object
	// appears; its error gives the object up. Of what is one stream it is called afterwards.
	Before func(*Record) error
	// Pool has the buffers of objects that were made before; nil for none.
	Pool *Pool
	// Old is the record of another object in the same store whose segments are used again; nil
	// for none. One that is not Reusable is left alone.
	Old *Record
	// Allowance is for what Old has and is sent again; nil for one of this object alone.
	Allowance *Allowance
}

// Memory is what Write needs at most for its buffers, in bytes, beside the pieces of its
// source, of which it holds one more than it has workers; for objects of less than a
// thousand parts.
func (o Options) Memory() int64 {
	workers, senders := o.parallel()
	part := objstore.PartSize(o.PartSize, 1) + frame.MaxRun
	return int64(workers+1)*frame.MaxRun + int64(senders+1)*part + insiders*little
}

func (o Options) parallel() (workers, senders int) { return max(o.Workers, 1), max(o.Senders, 1) }

// Write stores the stream of a source's segments under a key and returns its record, whose
// checksum is that of what was sent, and, where it knows one, the store's. An object of
// that key is replaced. When it fails nothing is stored; what was begun is given up, and
// after a kill is listed by objstore.Multipart. NotFound: the old object is gone.
func Write(ctx context.Context, store objstore.Store, key string, src Source, o Options) (*Record, error) {
	if err := objstore.CheckKey(key); err != nil {
		return nil, err
	}
	w := &writer{store: store, src: src, o: o, record: &Record{Key: key, Codec: o.Codec.String(), Hash: Lanes, TagKey: newTagKey(), Tags: quickest(), Segments: []Segment{}}}
	if _, parts := store.(objstore.Multipart); !parts || !o.Codec.Independent() {
		return w.stream(ctx)
	}
	return w.runs(ctx)
}

// writer makes one object.
type writer struct {
	store  objstore.Store
	src    Source
	o      Options
	record *Record
	sum    frame.Sum // of the content

	old    *places     // nil when nothing is reused
	known  map[Tag]int // pieces of the old object
	lookUp atomic.Bool // in known
	tag    func(content []byte) Tag
	layout layout
	same   bool // the object is the old one
}

// reuse prepares the old object.
func (w *writer) reuse() (err error) {
	old := w.o.Old
	if old == nil || !old.Reusable(w.o.Codec) || old.Key == w.record.Key {
		w.o.Old = nil
		return nil
	}
	if w.old, err = old.check(); err != nil {
		return err
	}
	w.record.TagKey, w.record.Tags = old.TagKey, old.Tags
	w.known = make(map[Tag]int, len(old.Segments))
	for i := len(old.Segments) - 1; i >= 0; i-- {
		w.known[old.Segments[i].Tag] = i + 1
	}
	_, ranges := w.store.(objstore.RangeCopier)
	_, whole := w.store.(objstore.Copier)
	joiner, joins := w.store.(objstore.Joiner)
	w.layout.old, w.layout.copies = w.old, ranges && old.Size > objstore.MinPart // Amazon copies no range of a smaller one
	w.layout.weaves = w.layout.copies && joins && joiner.Joins()
	w.lookUp.Store(ranges || whole)
	return nil
}

// slot is the place of one segment on its way.
type slot struct {
	piece   Piece
	run     []byte
	segment Segment
	old     int // piece of the old object; headPiece when it is new
}

// runs makes the object of runs, in parts.
func (w *writer) runs(ctx context.Context) (*Record, error) {
	if err := w.reuse(); err != nil {
		return nil, err
	}
	w.layout.allowance = cmp.Or(w.o.Allowance, &Allowance{})
	_, senders := w.o.parallel()
	s := &sender{store: w.store, key: w.record.Key, old: w.o.Old, places: w.old, queue: make(chan part), inside: make(chan part), buffers: make(chan []byte, senders+1)}
	for range senders + 1 {
		s.buffers <- w.o.Pool.part()
	}
	g, gctx := errgroup.WithContext(ctx)
	for range senders {
		g.Go(func() error { return s.run(gctx, s.queue, s.giveBack) })
	}
	if w.layout.copies {
		for range insiders {
			g.Go(func() error { return s.run(gctx, s.inside, func(part) {}) })
		}
	}
	g.Go(func() error {
		defer close(s.queue)
		defer close(s.inside)
		w.layout.size = func(number int) int64 { return objstore.PartSize(w.o.PartSize, number) }
		w.layout.buffer = func() ([]byte, error) { return s.buffer(gctx) }
		w.layout.emit = func(p part) error { return s.put(gctx, p) }
		return w.pieces(gctx)
	})
	err := g.Wait()
	if err == nil { // else a request that failed may still be reading
		close(s.buffers)
		for b := range s.buffers {
			w.o.Pool.givePart(b)
		}
		err = w.publish(ctx, s)
	}
	if err != nil {
		s.abort(ctx)
		return nil, err
	}
	if w.layout.filling {
		w.o.Pool.givePart(w.layout.data)
	}
	return w.record, nil
}

// publish makes the object appear.
func (w *writer) publish(ctx context.Context, s *sender) error {
	if err := w.before(); err != nil {
		return err
	}
	var o objstore.Object
	var err error
	if w.same {
		o, err = w.store.(objstore.Copier).Copy(ctx, w.o.Old.Key, w.record.Key)
	} else {
		o, err = s.complete(ctx, w.record, w.layout.data, w.layout.holes)
	}
	if err != nil {
		return err
	}
	return w.confirm(ctx, o)
}

func (w *writer) before() error {
	if w.o.Before == nil {
		return nil
	}
	return w.o.Before(w.record)
}

// confirm compares what the store says with what was sent. Where it has no checksum its
// answer may only repeat what it was told.
func (w *writer) confirm(ctx context.Context, o objstore.Object) (err error) {
	if o.CRC32C == nil {
		if o, err = w.store.Stat(ctx, w.record.Key); err != nil {
			return err
		}
	}
	if o.Size == w.record.Size && (o.CRC32C == nil || *o.CRC32C == w.record.CRC32C) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	return errors.Join(objstore.Mismatch("put", w.record.Key), w.store.Delete(ctx, w.record.Key))
}

// pieces brings the pieces of the object in order.
func (w *writer) pieces(ctx context.Context) error {
	if err := w.segments(ctx, w.place); err != nil {
		return err
	}
	if len(w.record.Segments) == 0 {
		if err := w.head(headPiece); err != nil {
			return err
		}
	}
	tail := w.o.Codec.Tail(w.sum)
	w.count(tail)
	l := &w.layout
	if w.old != nil && l.first < l.end && l.end == w.old.tailPiece() && bytes.Equal(tail, w.old.tail) {
		if err := l.same(l.end); err != nil {
			return err
		}
	} else if err := l.add(tail); err != nil {
		return err
	}
	if _, copies := w.store.(objstore.Copier); copies && l.whole() {
		w.same = true
		return nil
	}
	return l.finish()
}

// segments brings the segments in order, hashed, and compressed unless they are the old object's.
func (w *writer) segments(ctx context.Context, use func(*slot) error) error {
	w.tag = w.record.Tags.tagger(w.record.TagKey)
	n, _ := w.o.parallel()
	workers := make([]func(*slot) error, n)
	for i := range workers {
		e, err := w.o.Codec.NewEncoder()
		if err != nil {
			return err
		}
		defer e.Close()
		workers[i] = func(s *slot) error { return w.compress(e, s) }
	}
	slots := make([]*slot, n+1)
	for i := range slots {
		slots[i] = &slot{run: w.o.Pool.run()}
	}
	defer func() {
		for _, s := range slots {
			w.o.Pool.giveRun(s.run)
		}
	}()
	return inOrder(ctx, slots, w.fill, workers, func(_ context.Context, s *slot) error { return use(s) })
}

// fill reads a segment.
func (w *writer) fill(ctx context.Context, s *slot) error {
	p, err := w.src.Next(ctx)
	if err != nil {
		return err
	}
	s.piece, s.old = p, headPiece
	switch {
	case p.Known && (w.old == nil || p.Segment < 0 || p.Segment >= len(w.o.Old.Segments)):
		return fault.New(fault.Internal, "put", w.record.Key, "there is no segment %d to use again", p.Segment)
	case p.Known:
		s.old = p.Segment + 1
	case len(p.Data) == 0 || len(p.Data) > frame.MaxSegment:
		return fault.New(fault.Internal, "put", w.record.Key, "a segment of %d bytes", len(p.Data))
	}
	return nil
}

// compress looks for a segment in the old object, else makes its run.
func (w *writer) compress(e *frame.Encoder, s *slot) (err error) {
	if s.old != headPiece {
		return nil
	}
	defer s.done()
	s.segment = Segment{Tag: w.tag(s.piece.Data)}
	if w.lookUp.Load() {
		if s.old = w.known[s.segment.Tag]; s.old != headPiece {
			return nil
		}
	}
	s.segment.SHA256 = w.record.Hash.sum(s.piece.Data)
	s.run, s.segment.Sum, err = e.Append(s.run[:0], s.piece.Data)
	s.segment.Length, s.segment.CRC32C = int64(len(s.run)), crc32.Checksum(s.run, castagnoli)
	return err
}

// done gives the piece back.
func (s *slot) done() {
	if s.piece.Release != nil {
		s.piece.Release()
	}
	s.piece = Piece{}
}

// place puts a segment into the object.
func (w *writer) place(s *slot) error {
	l, piece := &w.layout, s.old
	if piece != headPiece {
		// Of several that are the same the one that goes on where the last one was can be copied with it.
		if next := l.end; l.first < next && next < w.old.tailPiece() && w.o.Old.Segments[next-1].SHA256 == w.o.Old.Segments[piece-1].SHA256 {
			piece = next
		}
		s.segment = w.o.Old.Segments[piece-1]
	}
	if len(w.record.Segments) == 0 {
		if err := w.head(piece); err != nil {
			return err
		}
	}
	w.append(s.segment)
	if piece != headPiece {
		return l.same(piece)
	}
	if !l.copies {
		w.lookUp.Store(false) // the whole will not be copied
	}
	return l.add(s.run)
}

// head begins the object; piece is that of its first segment.
func (w *writer) head(piece int) error {
	head := w.o.Codec.Head()
	w.count(head)
	if piece == headPiece+1 {
		return w.layout.same(headPiece)
	}
	return w.layout.add(head)
}

// count adds bytes to the record.
func (w *writer) count(b []byte) {
	w.record.Size += int64(len(b))
	w.record.CRC32C = crc32.Update(w.record.CRC32C, castagnoli, b)
}

// append adds a segment to the record.
func (w *writer) append(s Segment) {
	w.record.Segments = append(w.record.Segments, s)
	w.record.Size += s.Length
	w.record.CRC32C = checksum.Join(crc32.Castagnoli, w.record.CRC32C, s.CRC32C, s.Length)
	w.sum = w.sum.Join(s.Sum)
}

// stream makes the object by one Put: of a codec without runs, or for a store without parts.
func (w *writer) stream(ctx context.Context) (*Record, error) {
	in, out := io.Pipe()
	g, gctx := errgroup.WithContext(ctx)
	var o objstore.Object
	g.Go(func() (err error) {
		o, err = w.store.Put(gctx, w.record.Key, in, objstore.PutOptions{})
		in.CloseWithError(cmp.Or(err, io.ErrClosedPipe))
		return err
	})
	g.Go(func() error {
		err := w.pour(gctx, out)
		out.CloseWithError(err)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := w.confirm(ctx, o); err != nil {
		return nil, err
	}
	return w.record, w.before()
}

// pour writes the object.
func (w *writer) pour(ctx context.Context, out io.Writer) error {
	if !w.o.Codec.Independent() {
		w.record.Stream, w.record.TagKey, w.record.Tags = true, nil, ""
		return w.one(ctx, writerFunc(func(b []byte) (int, error) {
			w.count(b)
			return out.Write(b)
		}))
	}
	write := func(b []byte) error {
		_, err := out.Write(b)
		return err
	}
	head := w.o.Codec.Head()
	w.count(head)
	if err := write(head); err != nil {
		return err
	}
	err := w.segments(ctx, func(s *slot) error {
		w.append(s.segment)
		return write(s.run)
	})
	if err != nil {
		return err
	}
	tail := w.o.Codec.Tail(w.sum)
	w.count(tail)
	return write(tail)
}

// one writes the segments as one stream.
func (w *writer) one(ctx context.Context, out io.Writer) error {
	z, err := w.o.Codec.NewWriter(out)
	if err != nil {
		return err
	}
	var s slot
	for {
		if err = w.fill(ctx, &s); err != nil {
			break
		}
		data := s.piece.Data
		w.record.Segments = append(w.record.Segments, Segment{SHA256: w.record.Hash.sum(data), Sum: frame.Sum{Size: int64(len(data))}})
		_, err = z.Write(data)
		s.done()
		if err != nil {
			break
		}
	}
	if err == io.EOF { //nolint:errorlint // a wrapped one is a failure that must not pass for the end
		err = nil
	}
	return cmp.Or(err, z.Close())
}

type writerFunc func([]byte) (int, error)

// Write implements io.Writer.
func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
