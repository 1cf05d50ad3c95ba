package replicas

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Store is the set with the abilities that all its stores have.
func (s *Set) Store() objstore.Store {
	manyParts, copies, ranges := true, true, true
	for _, d := range s.all {
		_, is := d.Store.(objstore.Multipart)
		manyParts = manyParts && is
		_, is = d.Store.(objstore.Copier)
		copies = copies && is
		_, is = d.Store.(objstore.RangeCopier)
		ranges = ranges && is
	}
	switch {
	case manyParts && copies && ranges:
		return withRanges{withParts{s}}
	case manyParts && copies:
		return withParts{s}
	}
	return s
}

// withParts is a set of stores that take parts and copy objects.
type withParts struct{ *Set }

// withRanges is one of stores that copy ranges, too.
type withRanges struct{ withParts }

// upload is one of the set: one of each store.
type upload struct {
	of    map[int]objstore.Upload
	parts map[int]map[int]objstore.Part // by store and number
}

// begun is what the ID of an upload of the set begins with; that of one of a store's begins with its number.
const begun = "set"

func (s *Set) begin(ctx context.Context, key string, copies bool) (objstore.Upload, error) {
	u := &upload{of: map[int]objstore.Upload{}, parts: map[int]map[int]objstore.Part{}}
	err := s.each(ctx, s.o.Stall, func(ctx context.Context, i int) (err error) {
		var one objstore.Upload
		if copies {
			one, err = s.all[i].Store.(objstore.RangeCopier).BeginCopy(ctx, key)
		} else {
			one, err = s.all[i].Store.(objstore.Multipart).Begin(ctx, key)
		}
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			u.of[i], u.parts[i] = one, map[int]objstore.Part{}
		}
		return err
	})
	if err != nil {
		return objstore.Upload{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun++
	id := begun + ":" + strconv.Itoa(s.begun)
	s.uploads[id] = u
	return objstore.Upload{Key: key, ID: id, Begun: time.Now(), Copies: copies}, nil
}

// Begin implements objstore.Multipart.
func (s withParts) Begin(ctx context.Context, key string) (objstore.Upload, error) {
	return s.begin(ctx, key, false)
}

// BeginCopy implements objstore.RangeCopier.
func (s withRanges) BeginCopy(ctx context.Context, key string) (objstore.Upload, error) {
	return s.begin(ctx, key, true)
}

// part makes a part in all stores.
func (s *Set) part(ctx context.Context, stall time.Duration, u objstore.Upload, number int, do func(ctx context.Context, i int, u objstore.Upload) (objstore.Part, error)) (objstore.Part, error) {
	up, err := s.upload(u)
	if err != nil {
		return objstore.Part{}, err
	}
	err = s.each(ctx, stall, func(ctx context.Context, i int) error {
		p, err := do(ctx, i, up.of[i])
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			up.parts[i][number] = p
		}
		return err
	})
	if err != nil {
		return objstore.Part{}, err
	}
	first := s.taking()[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	return up.parts[first][number], nil
}

func (s *Set) upload(u objstore.Upload) (*upload, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if up := s.uploads[u.ID]; up != nil {
		return up, nil
	}
	return nil, fault.New(fault.Internal, "put", u.Key, "the upload is not one of this set")
}

// PutPart implements objstore.Multipart.
func (s withParts) PutPart(ctx context.Context, u objstore.Upload, number int, data []byte) (objstore.Part, error) {
	return s.part(ctx, s.o.Stall, u, number, func(ctx context.Context, i int, u objstore.Upload) (objstore.Part, error) {
		return s.all[i].Store.(objstore.Multipart).PutPart(ctx, u, number, data)
	})
}

// CopyPart implements objstore.RangeCopier.
func (s withRanges) CopyPart(ctx context.Context, u objstore.Upload, number int, from string, r objstore.Range) (objstore.Part, error) {
	return s.part(ctx, long, u, number, func(ctx context.Context, i int, u objstore.Upload) (objstore.Part, error) {
		return s.all[i].Store.(objstore.RangeCopier).CopyPart(ctx, u, number, from, r)
	})
}

// Complete implements objstore.Multipart.
func (s withParts) Complete(ctx context.Context, u objstore.Upload, parts []objstore.Part, o objstore.PutOptions) (objstore.Object, error) {
	up, err := s.upload(u)
	if err != nil {
		return objstore.Object{}, err
	}
	out, err := s.first(ctx, long, func(ctx context.Context, i int) (objstore.Object, error) {
		store := s.all[i].Store.(objstore.Multipart)
		var mine []objstore.Part
		s.mu.Lock()
		for _, p := range parts {
			mine = append(mine, up.parts[i][p.Number])
		}
		s.mu.Unlock()
		slices.SortFunc(mine, func(a, b objstore.Part) int { return cmp.Compare(a.Number, b.Number) })
		done, err := store.Complete(ctx, up.of[i], mine, o)
		if err == nil && done.CRC32C == nil {
			done, err = s.all[i].Store.Stat(ctx, u.Key)
		}
		if err == nil && o.CRC32C != nil && done.CRC32C != nil && *o.CRC32C != *done.CRC32C {
			err = objstore.Mismatch("put", u.Key)
		}
		return done, err
	})
	if err == nil {
		s.forget(u)
	}
	return out, err
}

func (s *Set) forget(u objstore.Upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.uploads, u.ID)
}

// Abort implements objstore.Multipart.
func (s withParts) Abort(ctx context.Context, u objstore.Upload) error {
	number, id, _ := strings.Cut(u.ID, ":")
	if number != begun {
		i, err := strconv.Atoi(number)
		if err != nil || i < 0 || i >= len(s.all) {
			return fault.New(fault.Internal, "give up", u.Key, "the upload is not one of this set")
		}
		u.ID = id
		return s.each(ctx, s.o.Stall, func(ctx context.Context, n int) error {
			if n != i {
				return nil
			}
			return s.all[i].Store.(objstore.Multipart).Abort(ctx, u)
		})
	}
	up, err := s.upload(u)
	if err != nil {
		return nil //nolint:nilerr // it is not there any more
	}
	defer s.forget(u)
	return s.each(ctx, s.o.Stall, func(ctx context.Context, i int) error {
		return s.all[i].Store.(objstore.Multipart).Abort(ctx, up.of[i])
	})
}

// Uploads implements objstore.Multipart: those of all stores.
func (s withParts) Uploads(ctx context.Context, prefix string) iter.Seq2[objstore.Upload, error] {
	return func(yield func(objstore.Upload, error) bool) {
		found := make([][]objstore.Upload, len(s.all))
		err := s.each(ctx, s.o.Stall, func(ctx context.Context, i int) error {
			for u, err := range s.all[i].Store.(objstore.Multipart).Uploads(ctx, prefix) {
				if err != nil {
					return err
				}
				u.ID = strconv.Itoa(i) + ":" + u.ID
				found[i] = append(found[i], u)
			}
			return nil
		})
		if err != nil {
			yield(objstore.Upload{}, err)
			return
		}
		for _, list := range found {
			for _, u := range list {
				if !yield(u, nil) {
					return
				}
			}
		}
	}
}

// Copy implements objstore.Copier.
func (s withParts) Copy(ctx context.Context, from, to string) (objstore.Object, error) {
	return s.first(ctx, long, func(ctx context.Context, i int) (objstore.Object, error) {
		return s.all[i].Store.(objstore.Copier).Copy(ctx, from, to)
	})
}
