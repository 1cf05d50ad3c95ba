package replicas

import (
	"cmp"
	"context"
	"hash/crc32"
	"io"
	"iter"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// long is how long the others bear with one that does the work of the store itself, such as
// joining what was sent, for each GiB that there may be.
const long = 10 * time.Minute

// piece is how much of a stream all stores have to take before more of it is read.
const piece = 256 << 10

// flow is a stream on its way into one store.
type flow struct {
	out    *io.PipeWriter
	cancel context.CancelCauseFunc
	ended  chan struct{}
	object objstore.Object
	err    error
}

// Put implements objstore.Store: all of them read the same stream, at the pace of the slowest.
// IfAbsent is refused: of several writers one could win here, and another one there.
func (s *Set) Put(ctx context.Context, key string, r io.Reader, o objstore.PutOptions) (objstore.Object, error) {
	if o.IfAbsent {
		return objstore.Object{}, fault.New(fault.Internal, "put", key, "several stores cannot agree that it is absent")
	}
	flows := map[int]*flow{}
	for _, i := range s.taking() {
		fctx, cancel := context.WithCancelCause(ctx)
		in, out := io.Pipe()
		f := &flow{out: out, cancel: cancel, ended: make(chan struct{})}
		flows[i] = f
		go func() {
			defer close(f.ended)
			f.object, f.err = s.all[i].Store.Put(fctx, key, in, o)
			in.CloseWithError(cmp.Or(f.err, io.ErrClosedPipe))
		}()
	}
	defer func() {
		for _, f := range flows {
			f.cancel(context.Canceled)
			f.out.CloseWithError(context.Canceled)
		}
		for _, i := range s.taking() {
			<-flows[i].ended
		}
	}()
	buf := make([]byte, piece)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := s.each(ctx, s.o.Stall, func(ctx context.Context, i int) error { return flows[i].write(ctx, buf[:n]) }); err != nil {
				return objstore.Object{}, err
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			for _, f := range flows {
				f.out.CloseWithError(err)
			}
			return objstore.Object{}, err
		}
	}
	return s.first(ctx, long, func(ctx context.Context, i int) (objstore.Object, error) {
		f := flows[i]
		f.out.CloseWithError(io.EOF)
		select {
		case <-f.ended:
			return f.object, f.err
		case <-ctx.Done():
			return objstore.Object{}, context.Cause(ctx)
		}
	})
}

func (f *flow) write(ctx context.Context, data []byte) error {
	stop := context.AfterFunc(ctx, func() { f.out.CloseWithError(context.Cause(ctx)) })
	defer stop()
	_, err := f.out.Write(data)
	return err
}

// first calls do for all, and returns what the first one of those that succeed says.
func (s *Set) first(ctx context.Context, stall time.Duration, do func(ctx context.Context, i int) (objstore.Object, error)) (objstore.Object, error) {
	objects := make([]objstore.Object, len(s.all))
	err := s.each(ctx, stall, func(ctx context.Context, i int) (err error) {
		objects[i], err = do(ctx, i)
		return err
	})
	if err != nil {
		return objstore.Object{}, err
	}
	return objects[s.taking()[0]], nil
}

// Get implements objstore.Store: it reads what the first store has that can be read.
func (s *Set) Get(ctx context.Context, key string, r objstore.Range) (in io.ReadCloser, o objstore.Object, err error) {
	for _, i := range s.taking() {
		var e error
		if in, o, e = s.all[i].Store.Get(ctx, key, r); e == nil || ctx.Err() != nil {
			return in, o, e
		}
		err = cmp.Or(err, e)
	}
	return nil, objstore.Object{}, err
}

// Stat implements objstore.Store. Of an object that is not the same everywhere it tells what
// differs from that of the first store.
func (s *Set) Stat(ctx context.Context, key string) (objstore.Object, error) {
	found := make([]*objstore.Object, len(s.all))
	err := s.each(ctx, s.o.Stall, func(ctx context.Context, i int) error {
		o, err := s.all[i].Store.Stat(ctx, key)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		found[i] = &o
		return err
	})
	if err != nil {
		return objstore.Object{}, err
	}
	taking := s.taking()
	for _, i := range taking {
		switch o, first := found[i], found[taking[0]]; {
		case o == nil:
			return objstore.Object{}, objstore.Absent("look at", key)
		case o.Size != first.Size || o.CRC32C != nil && (first.CRC32C == nil || *o.CRC32C != *first.CRC32C):
			return *o, nil
		}
	}
	return *found[taking[0]], nil
}

// List implements objstore.Store, as the first store says.
func (s *Set) List(ctx context.Context, prefix string) iter.Seq2[objstore.Object, error] {
	return s.all[s.taking()[0]].Store.List(ctx, prefix)
}

// Delete implements objstore.Store.
func (s *Set) Delete(ctx context.Context, keys ...string) error {
	return s.each(ctx, long, func(ctx context.Context, i int) error { return s.all[i].Store.Delete(ctx, keys...) })
}

// Level brings an object that some stores have, as is says, to those that have it not: a
// kill came between them.
func (s *Set) Level(ctx context.Context, key string, is func(objstore.Object) bool) error {
	have := make([]bool, len(s.all))
	err := s.each(ctx, s.o.Stall, func(ctx context.Context, i int) error {
		o, err := s.all[i].Store.Stat(ctx, key)
		have[i] = err == nil && is(o)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	from, lacks := -1, false
	for _, i := range s.taking() {
		if have[i] && from < 0 {
			from = i
		}
		lacks = lacks || !have[i]
	}
	if from < 0 || !lacks {
		return nil
	}
	return s.each(ctx, long, func(ctx context.Context, i int) error {
		if have[i] {
			return nil
		}
		_, err := Transfer(ctx, s.all[from].Store, s.all[i].Store, key)
		return err
	})
}

// Transfer copies an object from one store to another; it compares what it read with the
// checksums of both. Memory is that of a Put.
func Transfer(ctx context.Context, from, to objstore.Store, key string) (objstore.Object, error) {
	in, there, err := from.Get(ctx, key, objstore.Whole())
	if err != nil {
		return objstore.Object{}, err
	}
	defer in.Close()
	sum := crc32.New(objstore.Castagnoli)
	o, err := to.Put(ctx, key, io.TeeReader(in, sum), objstore.PutOptions{CRC32C: there.CRC32C})
	if err == nil && o.CRC32C == nil {
		o, err = to.Stat(ctx, key)
	}
	if err == nil && (o.Size != there.Size || o.CRC32C != nil && *o.CRC32C != sum.Sum32()) {
		err = objstore.Mismatch("copy", key)
	}
	return o, err
}

// Same reports whether two stores have the same content under a key. What a store has no
// checksum of is read.
func Same(ctx context.Context, a, b objstore.Store, key string) (bool, error) {
	sums := [2]uint32{}
	var size int64
	for i, s := range []objstore.Store{a, b} {
		o, err := s.Stat(ctx, key)
		if fault.Is(err, fault.NotFound) || err == nil && i > 0 && o.Size != size {
			return false, nil
		}
		if err == nil {
			size = o.Size
			sums[i], err = sumOf(ctx, s, o)
		}
		if err != nil {
			return false, err
		}
	}
	return sums[0] == sums[1], nil
}

func sumOf(ctx context.Context, s objstore.Store, o objstore.Object) (uint32, error) {
	if o.CRC32C != nil {
		return *o.CRC32C, nil
	}
	in, _, err := s.Get(ctx, o.Key, objstore.Whole())
	if err != nil {
		return 0, err
	}
	defer in.Close()
	sum := crc32.New(objstore.Castagnoli)
	_, err = io.Copy(sum, in)
	return sum.Sum32(), err
}
