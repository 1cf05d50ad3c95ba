package bundle

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// A store takes parts that are shorter than objstore.MinPart at the end of an object only. So a part
// of several short strands is woven: an object for each two that are joined, whose first part is the
// left one with as much before it as makes it long enough, and whose last part is the right one.
// After a kill these are objects that are unknown.

// cord is the stretch that ends at an offset of an object; or data, which no object has yet.
type cord struct {
	key         string
	end, length int64
	data        []byte
}

// weaver makes one part.
type weaver struct {
	store  objstore.Joiner
	object string // which the part is of
	number int
	pad    cord // something that is long enough
	mu     sync.Mutex
	keys   []string // of what is joined
}

func (s *sender) weave(ctx context.Context, p part) (objstore.Part, error) {
	w := &weaver{store: s.store.(objstore.Joiner), object: s.key, number: p.number,
		pad: cord{key: s.old.Key, end: objstore.MinPart, length: objstore.MinPart}}
	cords, data := make([]cord, 0, len(p.strands)), p.data
	for _, t := range p.strands {
		c := cord{key: s.old.Key, end: t.old.Offset + t.old.Length, length: t.old.Length}
		if t.data > 0 {
			c = cord{length: int64(t.data), data: data[:t.data]}
			data = data[t.data:]
		}
		cords = append(cords, c)
	}
	var done objstore.Part
	whole, err := w.join(ctx, cords)
	if err == nil {
		done, err = w.store.CopyPart(ctx, *s.upload, p.number, whole.key, objstore.Range{Offset: whole.end - whole.length, Length: whole.length})
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	return done, cmp.Or(err, s.store.Delete(ctx, w.keys...))
}

// join makes one cord of several: of each half one, side by side, and then of both.
func (w *weaver) join(ctx context.Context, cords []cord) (cord, error) {
	if len(cords) == 1 {
		return cords[0], nil
	}
	half := len(cords) / 2
	if cords[half].data != nil && half+1 < len(cords) {
		half++ // what is before data can make it long enough
	}
	var left, right cord
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		left, err = w.join(gctx, cords[:half])
		return err
	})
	g.Go(func() (err error) {
		right, err = w.join(gctx, cords[half:])
		return err
	})
	if err := g.Wait(); err != nil {
		return cord{}, err
	}
	return w.two(ctx, left, right)
}

// two joins two cords.
func (w *weaver) two(ctx context.Context, left, right cord) (cord, error) {
	before := max(left.length, objstore.MinPart)
	if left.data != nil || left.end < before {
		padded, err := w.two(ctx, w.pad, left)
		if err != nil {
			return cord{}, err
		}
		padded.length = left.length
		left = padded
	}
	longer, cancel := lasting(ctx)
	defer cancel()
	key := w.key()
	u, err := w.store.BeginCopy(longer, key)
	if err != nil {
		return cord{}, err
	}
	var parts [2]objstore.Part
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		parts[0], err = w.store.CopyPart(gctx, u, 1, left.key, objstore.Range{Offset: left.end - before, Length: before})
		return err
	})
	g.Go(func() (err error) {
		if right.data != nil {
			parts[1], err = w.store.PutPart(gctx, u, 2, right.data)
		} else {
			parts[1], err = w.store.CopyPart(gctx, u, 2, right.key, objstore.Range{Offset: right.end - right.length, Length: right.length})
		}
		return err
	})
	err = g.Wait()
	if err == nil {
		_, err = w.store.Complete(longer, u, parts[:], objstore.PutOptions{})
	}
	if err != nil {
		abort(ctx, w.store, u)
		return cord{}, err
	}
	return cord{key: key, end: before + right.length, length: left.length + right.length}, nil
}

// key is that of one more object; it is remembered, whether the object will be or not.
func (w *weaver) key() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keys = append(w.keys, fmt.Sprintf("%s.part-%d-%d", w.object, w.number, len(w.keys)+1))
	return w.keys[len(w.keys)-1]
}
