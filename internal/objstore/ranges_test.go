package objstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/file"
)

// slow is a store that answers late, and counts who waits.
type slow struct {
	objstore.Store
	now, most atomic.Int64
	requests  atomic.Int64
	before    func(request int64) error
	want      int64         // so many are to wait at the same time
	together  chan struct{} // closed when they do; nil where none has to
	met       sync.Once
}

func (s *slow) Get(ctx context.Context, key string, r objstore.Range) (io.ReadCloser, objstore.Object, error) {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	if s.together != nil {
		if n == s.want {
			s.met.Do(func() { close(s.together) })
		}
		select {
		case <-s.together:
		case <-time.After(time.Minute):
			return nil, objstore.Object{}, fmt.Errorf("%d at a time", s.most.Load())
		}
	}
	time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	if request := s.requests.Add(1); s.before != nil {
		if err := s.before(request); err != nil {
			return nil, objstore.Object{}, err
		}
	}
	return s.Store.Get(ctx, key, r)
}

func TestGetRanges(t *testing.T) {
	const mib = 1 << 20
	disk, err := file.Open(objstore.Location{Provider: objstore.File, Bucket: t.TempDir()}, &objstore.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	put := func(size int) []byte {
		t.Helper()
		data := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(data)
		if _, err := disk.Put(t.Context(), "it", bytes.NewReader(data), objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		return data
	}
	for _, size := range []int{0, 1, 8 * mib, 8*mib + 1, 26*mib - 1} {
		data := put(size)
		for _, n := range []int{1, 3} {
			s := &slow{Store: disk}
			if size > 20*mib {
				s.want, s.together = int64(n), make(chan struct{})
			}
			r := objstore.GetRanges(t.Context(), s, "it", int64(size), n)
			got, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes by %d: %d, %v", size, n, len(got), err)
			}
			if s.most.Load() > int64(n) {
				t.Errorf("%d bytes by %d: %d at a time", size, n, s.most.Load())
			}
		}
	}

	data := put(26 * mib)
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	for name, c := range map[string]struct {
		size   int64
		before func(request int64) error
		want   func(error) bool
	}{
		"a request fails": {26 * mib, func(n int64) error {
			if n == 4 {
				return gone
			}
			return nil
		}, func(err error) bool { return errors.Is(err, gone) }},
		"another size": {25 * mib, nil, func(err error) bool { return fault.Is(err, fault.Corrupt) }},
		"replaced": {26 * mib, func(n int64) error {
			if n == 4 {
				put(26 * mib)
			}
			return nil
		}, func(err error) bool { return fault.Is(err, fault.Corrupt) }},
		"cancelled": {26 * mib, func(n int64) error {
			if n == 4 {
				cancel(gone)
			}
			return nil
		}, func(err error) bool { return errors.Is(err, gone) }},
	} {
		s := &slow{Store: disk, before: c.before}
		r := objstore.GetRanges(ctx, s, "it", c.size, 2)
		got, err := io.ReadAll(r)
		if !c.want(err) || len(got) >= len(data) || !bytes.HasPrefix(data, got) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if err := r.Close(); err != nil || s.now.Load() > 0 {
			t.Errorf("%s: %d requests are left, %v", name, s.now.Load(), err)
		}
		ctx, cancel = context.WithCancelCause(t.Context())
	}
	cancel(nil)
}

// throttled sends 50 MB/s to each request, as a store far away does.
type throttled struct{ objstore.Store }

func (s throttled) Get(ctx context.Context, key string, r objstore.Range) (io.ReadCloser, objstore.Object, error) {
	in, o, err := s.Store.Get(ctx, key, r)
	return &trickle{ReadCloser: in, limit: objstore.NewLimit(50e6)}, o, err
}

type trickle struct {
	io.ReadCloser
	limit *objstore.Limit
}

func (t *trickle) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p[:min(len(p), 64<<10)])
	if waited := t.limit.Wait(context.Background(), n); waited != nil {
		return n, waited
	}
	return n, err
}

// BenchmarkGetRanges reads one object of 256 MiB by one request and by four.
func BenchmarkGetRanges(b *testing.B) {
	const size = 256 << 20
	disk, err := file.Open(objstore.Location{Provider: objstore.File, Bucket: b.TempDir()}, &objstore.Policy{})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := disk.Put(b.Context(), "it", bytes.NewReader(make([]byte, size)), objstore.PutOptions{}); err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1, 4} {
		b.Run(fmt.Sprintf("requests=%d", n), func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				r := objstore.GetRanges(b.Context(), throttled{disk}, "it", size, n)
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}
