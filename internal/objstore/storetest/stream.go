package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// failing yields n bytes, then an error.
type failing struct {
	n   int
	err error
}

func (f *failing) Read(b []byte) (int, error) {
	if f.n <= 0 {
		return 0, f.err
	}
	n := min(f.n, len(b))
	f.n -= n
	return n, nil
}

func (s Suite) sourceFails(t *testing.T) {
	store := s.Open(t, &objstore.Policy{Patience: time.Minute})
	broken := errors.New("the source broke")
	for _, n := range []int{0, 100, objstore.MinPart + 100} {
		if _, err := store.Put(t.Context(), "source/x", &failing{n, broken}, objstore.PutOptions{}); !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v", n, err)
		}
		s.nothing(t, store, "source/")
	}
}

// nothing: neither an object nor an upload is there.
func (s Suite) nothing(t *testing.T, store objstore.Store, prefix string) {
	t.Helper()
	if left := keys(t, store, prefix); len(left) > 0 {
		t.Errorf("objects: %q", left)
	}
	if m, is := store.(objstore.Multipart); is {
		for u, err := range m.Uploads(t.Context(), prefix) {
			t.Errorf("an upload: %+v, %v", u, err)
		}
	}
}

// cancelling cancels after n bytes.
type cancelling struct {
	n      int
	cancel func()
}

func (c *cancelling) Read(b []byte) (int, error) {
	if c.n -= len(b); c.n < 0 {
		c.cancel()
	}
	return len(b), nil
}

func (s Suite) cancelled(t *testing.T) {
	store := s.Open(t, &objstore.Policy{Patience: time.Minute})
	stop := errors.New("somebody stopped it")
	for _, n := range []int{0, objstore.MinPart * 2} {
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := store.Put(ctx, "cancelled/x", &cancelling{n, func() { cancel(stop) }}, objstore.PutOptions{})
		if !errors.Is(err, stop) {
			t.Errorf("put: %v", err)
		}
		s.nothing(t, store, "cancelled/")
	}
	put(t, store, "cancelled/y", Bytes(20<<20, 1))
	ctx, cancel := context.WithCancelCause(t.Context())
	in, _, err := store.Get(ctx, "cancelled/y", objstore.Whole())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := io.CopyN(io.Discard, in, 1000); err != nil {
		t.Error(err)
	}
	cancel(stop)
	if _, err := io.Copy(io.Discard, in); !errors.Is(err, stop) {
		t.Errorf("read: %v", err)
	}
	if _, err := store.Stat(ctx, "cancelled/y"); !errors.Is(err, stop) && err != nil {
		t.Errorf("stat: %v", err)
	}
}

// limit: two streams share one limit, and what passed is counted.
func (s Suite) limit(t *testing.T) {
	const rate, size = 4 << 20, 2 << 20
	p := &objstore.Policy{Limit: objstore.NewLimit(rate)}
	store := s.Open(t, p)
	began := time.Now()
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			if _, err := store.Put(t.Context(), fmt.Sprintf("limit/%d", i), stream(Bytes(size, 1)), objstore.PutOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took < 800*time.Millisecond || took > 5*time.Second {
		t.Errorf("4 MiB at 4 MiB/s took %v", took)
	}
	if sent, requests := p.Counts.Sent.Load(), p.Counts.Requests.Load(); sent < 2*size || sent > 2*size+1<<20 || requests < 2 {
		t.Errorf("%d bytes were counted in %d requests", sent, requests)
	}
	began = time.Now()
	get(t, store, "limit/0", objstore.Whole())
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("reading 2 MiB took %v", took)
	}
	if got := p.Counts.Received.Load(); got < size {
		t.Errorf("%d bytes were counted", got)
	}
}

// memory: a stream of 20 MB holds a part, not all of it.
func (s Suite) memory(t *testing.T) {
	store := s.Open(t, &objstore.Policy{PartSize: objstore.MinPart})
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var most uint64
	r := &watching{n: 20 << 20, look: func() {
		runtime.GC()
		runtime.ReadMemStats(&now)
		most = max(most, now.HeapAlloc)
	}}
	if _, err := store.Put(t.Context(), "memory/x", r, objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if grown := int64(most) - int64(before.HeapAlloc); grown > 12<<20 {
		t.Errorf("20 MiB in parts of 5 MiB held %d MiB", grown>>20)
	}
}

// watching yields n zeros, and looks after each MiB.
type watching struct {
	n, next int
	look    func()
}

func (w *watching) Read(b []byte) (int, error) {
	if w.n <= 0 {
		return 0, io.EOF
	}
	n := min(len(b), w.n)
	w.n -= n
	if w.next -= n; w.next < 0 {
		w.next = 1 << 20
		w.look()
	}
	return n, nil
}
