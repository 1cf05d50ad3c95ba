package replicas_test

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/file"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
	"github.com/holdfast-pg/holdfast/internal/replicas"
)

func open(t *testing.T, dir string, p *objstore.Policy) *file.Store {
	t.Helper()
	s, err := file.Open(objstore.Location{Provider: objstore.File, Bucket: dir}, p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestAllHaveTheSame: whatever is stored can be read from each store by itself.
func TestAllHaveTheSame(t *testing.T) {
	three := newTrio(t, replicas.Options{Quorum: 3})
	s := three.store()
	data := storetest.Bytes(2*objstore.MinPart+1000, 1)
	crc := crc32.Checksum(data, objstore.Castagnoli)
	if _, err := three.Put(t.Context(), "put", bytes.NewReader(data), objstore.PutOptions{CRC32C: &crc}); err != nil {
		t.Fatal(err)
	}
	if _, err := three.Put(t.Context(), "empty", strings.NewReader(""), objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	wrong := crc + 1
	if _, err := three.Put(t.Context(), "wrong", bytes.NewReader(data), objstore.PutOptions{CRC32C: &wrong}); !fault.Is(err, fault.Corrupt) || len(three.has(t, "wrong")) > 0 {
		t.Errorf("of another checksum: %v", err)
	}
	if _, err := three.Put(t.Context(), "source", iotest.ErrReader(io.ErrNoProgress), objstore.PutOptions{}); !errors.Is(err, io.ErrNoProgress) || len(three.has(t, "source")) > 0 {
		t.Errorf("of a source that fails: %v", err)
	}
	if _, err := s.(objstore.Copier).Copy(t.Context(), "put", "copied"); err != nil {
		t.Fatal(err)
	}
	u, err := s.BeginCopy(t.Context(), "joined")
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.PutPart(t.Context(), u, 2, data[objstore.MinPart:])
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.CopyPart(t.Context(), u, 1, "put", objstore.Range{Length: objstore.MinPart})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Complete(t.Context(), u, []objstore.Part{last, first}, objstore.PutOptions{CRC32C: &crc}); err != nil {
		t.Fatal(err)
	}
	for i, one := range three.stores {
		for key, want := range map[string][]byte{"put": data, "copied": data, "joined": data, "empty": nil} {
			in, _, err := one.Get(t.Context(), key, objstore.Whole())
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(in)
			in.Close()
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("store %d: %s has %d bytes, %v", i, key, len(got), err)
			}
		}
	}
	if err := three.Delete(t.Context(), "put", "copied"); err != nil || len(three.has(t, "put")) > 0 {
		t.Error(err)
	}
}

// weak is a store that fails when it is told to.
type weak struct {
	*file.Store
	mu   sync.Mutex
	fail func(ctx context.Context, op string) error
}

func (w *weak) does(ctx context.Context, op string) error {
	w.mu.Lock()
	fail := w.fail
	w.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(ctx, op)
}

func (w *weak) Put(ctx context.Context, key string, r io.Reader, o objstore.PutOptions) (objstore.Object, error) {
	if err := w.does(ctx, "put"); err != nil {
		return objstore.Object{}, err
	}
	return w.Store.Put(ctx, key, r, o)
}

func (w *weak) PutPart(ctx context.Context, u objstore.Upload, number int, data []byte) (objstore.Part, error) {
	if err := w.does(ctx, "part"); err != nil {
		return objstore.Part{}, err
	}
	return w.Store.PutPart(ctx, u, number, data)
}

func (w *weak) Complete(ctx context.Context, u objstore.Upload, parts []objstore.Part, o objstore.PutOptions) (objstore.Object, error) {
	if err := w.does(ctx, "complete"); err != nil {
		return objstore.Object{}, err
	}
	return w.Store.Complete(ctx, u, parts, o)
}

// trio is a set of three stores, and what is written down of them.
type trio struct {
	*replicas.Set
	stores []*weak
	aside  []string
}

func newTrio(t *testing.T, o replicas.Options) *trio {
	t.Helper()
	three := &trio{}
	var all []replicas.Destination
	for _, url := range []string{"main", "second", "third"} {
		w := &weak{Store: open(t, t.TempDir(), &objstore.Policy{})}
		three.stores = append(three.stores, w)
		all = append(all, replicas.Destination{URL: url, Store: w, Trouble: func() string { return "no route" }})
	}
	o.Aside = func(url string, _ error) error {
		three.aside = append(three.aside, url)
		return nil
	}
	var err error
	if three.Set, err = replicas.New(all, o); err != nil {
		t.Fatal(err)
	}
	return three
}

func (three *trio) store() objstore.RangeCopier { return three.Store().(objstore.RangeCopier) }

// send stores an object of two parts.
func (three *trio) send(t *testing.T, key string) error {
	t.Helper()
	s := three.store()
	u, err := s.Begin(t.Context(), key)
	if err != nil {
		return err
	}
	var parts []objstore.Part
	for n := range 2 {
		p, err := s.PutPart(t.Context(), u, n+1, bytes.Repeat([]byte{byte(n)}, objstore.MinPart))
		if err != nil {
			return errors.Join(err, s.Abort(t.Context(), u))
		}
		parts = append(parts, p)
	}
	_, err = s.Complete(t.Context(), u, parts, objstore.PutOptions{})
	return err
}

// has lists which stores have an object.
func (three *trio) has(t *testing.T, key string) (out []int) {
	t.Helper()
	for i, s := range three.stores {
		if _, err := s.Stat(t.Context(), key); err == nil {
			out = append(out, i)
		} else if !fault.Is(err, fault.NotFound) {
			t.Fatal(err)
		}
	}
	return out
}

func refuses(op string) func(context.Context, string) error {
	return func(_ context.Context, does string) error {
		if does == op {
			return fault.New(fault.Permission, op, "x", "access denied").WithHint("allow it")
		}
		return nil
	}
}

// TestOneThatFailsIsSetAside: at every step the others go on, and get all of it.
func TestOneThatFailsIsSetAside(t *testing.T) {
	for _, op := range []string{"part", "complete", "put"} {
		t.Run(op, func(t *testing.T) {
			three := newTrio(t, replicas.Options{Quorum: 2})
			three.stores[0].fail = refuses(op) // the main one, too
			if err := three.send(t, "a"); err != nil {
				t.Fatal(err)
			}
			if _, err := three.Put(t.Context(), "b", strings.NewReader(strings.Repeat("x", 1<<20)), objstore.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			if got := three.has(t, "b"); len(got) != 2 || got[0] != 1 {
				t.Errorf("b is in %v", got)
			}
			if len(three.aside) != 1 || three.aside[0] != "main" || !strings.Contains(three.Trouble(), "goes on without main") {
				t.Errorf("aside: %v; %s", three.aside, three.Trouble())
			}
			three.stores[2].fail = refuses("part")
			err := three.send(t, "c")
			if !fault.Is(err, fault.Permission) || !strings.Contains(err.Error(), "third") || !strings.Contains(err.Error(), "main was set aside before") || fault.HintOf(err) != "allow it" {
				t.Errorf("below the quorum: %v (%s)", err, fault.HintOf(err))
			}
			if len(three.aside) != 1 {
				t.Errorf("aside: %v", three.aside) // what ends the attempt is no reason to leave one out of the next
			}
		})
	}
}

// TestOneThatStallsIsSetAside: the others do not wait for one that takes nothing, unless the quorum needs it.
func TestOneThatStallsIsSetAside(t *testing.T) {
	for _, op := range []string{"part", "put"} {
		t.Run(op, func(t *testing.T) {
			release := make(chan struct{})
			t.Cleanup(func() { close(release) })
			three := newTrio(t, replicas.Options{Quorum: 1, Stall: 300 * time.Millisecond})
			three.stores[1].fail = func(_ context.Context, does string) error { // as a hung mount, it does not even hear that it is to stop
				if does == op {
					select {
					case <-release:
					case <-time.After(time.Minute):
						t.Error("somebody waited for it")
					}
				}
				return nil
			}
			if err := three.send(t, "a"); err != nil {
				t.Fatal(err)
			}
			if _, err := three.Put(t.Context(), "b", strings.NewReader(strings.Repeat("x", 1<<20)), objstore.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			why := three.Aside()["second"]
			if why == nil || !strings.Contains(why.Error(), "held up") || !strings.Contains(why.Error(), "no route") {
				t.Errorf("set aside: %v", three.Aside())
			}
		})
	}
	three := newTrio(t, replicas.Options{Quorum: 3, Stall: 10 * time.Millisecond})
	three.stores[1].fail = func(context.Context, string) error { time.Sleep(50 * time.Millisecond); return nil }
	if err := three.send(t, "a"); err != nil || len(three.Aside()) > 0 {
		t.Errorf("one that the quorum needs: %v, %v", err, three.Aside())
	}
}

// TestNobodyIsSetAsideForACancellation: who is told to stop says nothing of the stores.
func TestNobodyIsSetAsideForACancellation(t *testing.T) {
	three := newTrio(t, replicas.Options{Quorum: 1})
	ctx, cancel := context.WithCancel(t.Context())
	three.stores[2].fail = func(ctx context.Context, _ string) error { cancel(); <-ctx.Done(); return context.Cause(ctx) }
	if _, err := three.Put(ctx, "a", strings.NewReader("x"), objstore.PutOptions{}); !errors.Is(err, context.Canceled) || len(three.Aside()) > 0 {
		t.Errorf("%v, %v", err, three.Aside())
	}
}

// TestLevel: what a kill left in some of the stores comes to the others, and to nobody twice.
func TestLevel(t *testing.T) {
	three := newTrio(t, replicas.Options{Quorum: 3})
	data := strings.Repeat("0123456789", 100000)
	for i, text := range []string{"", data, "of an earlier one"} {
		if text != "" {
			if _, err := three.stores[i].Store.Put(t.Context(), "a", strings.NewReader(text), objstore.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if o, err := three.Stat(t.Context(), "a"); !fault.Is(err, fault.NotFound) {
		t.Errorf("one lacks it: %v, %v", o, err)
	}
	three.stores[1].fail = refuses("put") // it has it
	if err := three.Level(t.Context(), "a", func(o objstore.Object) bool { return o.Size == int64(len(data)) }); err != nil {
		t.Fatal(err)
	}
	if o, err := three.Stat(t.Context(), "a"); err != nil || o.Size != int64(len(data)) || len(three.has(t, "a")) != 3 {
		t.Errorf("%v, %v", o, err)
	}
	if same, err := replicas.Same(t.Context(), three.stores[0], three.stores[2], "a"); err != nil || !same {
		t.Errorf("%v, %v", same, err)
	}
	if _, err := three.stores[2].Store.Put(t.Context(), "a", strings.NewReader(strings.ToUpper(data[1:])+"x"), objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if same, err := replicas.Same(t.Context(), three.stores[0], three.stores[2], "a"); err != nil || same {
		t.Errorf("of other content and the same size: %v, %v", same, err)
	}
}

// TestUploadsOfAll: what a killed set has begun is listed and given up in each store.
func TestUploadsOfAll(t *testing.T) {
	three := newTrio(t, replicas.Options{Quorum: 3})
	if _, err := three.store().Begin(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	count := func(abort bool) (n int) {
		for u, err := range three.store().Uploads(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			n++
			if abort {
				if err := three.store().Abort(t.Context(), u); err != nil {
					t.Error(err)
				}
			}
		}
		return n
	}
	if n := count(true); n != 3 {
		t.Errorf("%d uploads", n)
	}
	if n := count(false); n != 0 {
		t.Errorf("%d uploads are left", n)
	}
}

func TestTooFew(t *testing.T) {
	one := replicas.Destination{URL: "main", Store: open(t, t.TempDir(), &objstore.Policy{})}
	if _, err := replicas.New([]replicas.Destination{one}, replicas.Options{Quorum: 2}); err == nil || !strings.Contains(err.Error(), "holdfast_replica_quorum = 2") {
		t.Error(err)
	}
}
