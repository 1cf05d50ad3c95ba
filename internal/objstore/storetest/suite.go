package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Suite is a store under test.
type Suite struct {
	// Open opens the store under a policy, again and again.
	Open func(t *testing.T, p *objstore.Policy) objstore.Store
	// Abilities are those that the store must have: multipart, copy, range copy, locks.
	Abilities []string
	// Keys is how many objects are listed: more than two of the store's pages.
	Keys int
	// Refused are characters that the store takes in no key, although others do.
	Refused string
	// Kill and Start end and start its server; nil when there is none.
	Kill, Start func(t testing.TB)
}

// Run runs the suite. The store is to be empty.
func (s Suite) Run(t *testing.T) {
	t.Run("abilities", s.abilities)
	t.Run("contents", s.contents)
	t.Run("names", s.names)
	t.Run("absent", s.absent)
	t.Run("races", s.races)
	t.Run("ranges", s.ranges)
	t.Run("checksums", s.checksums)
	t.Run("listing", s.listing)
	t.Run("source fails", s.sourceFails)
	t.Run("closed early", s.closedEarly)
	t.Run("cancelled", s.cancelled)
	t.Run("limit", s.limit)
	t.Run("memory", s.memory)
	store := s.Open(t, &objstore.Policy{})
	if _, is := store.(objstore.Multipart); is {
		t.Run("multipart", s.multipart)
	}
	if _, is := store.(objstore.Copier); is {
		t.Run("copy", s.copy)
	}
	if _, is := store.(objstore.RangeCopier); is {
		t.Run("range copy", s.rangeCopy)
	}
	if s.Kill != nil {
		t.Run("server dies", s.serverDies)
	}
}

func (s Suite) abilities(t *testing.T) {
	store := s.Open(t, &objstore.Policy{})
	var have []string
	if _, is := store.(objstore.Multipart); is {
		have = append(have, "multipart")
	}
	if _, is := store.(objstore.Copier); is {
		have = append(have, "copy")
	}
	if _, is := store.(objstore.RangeCopier); is {
		have = append(have, "range copy")
	}
	if _, is := store.(objstore.Locker); is {
		have = append(have, "locks")
	}
	if !slices.Equal(have, s.Abilities) {
		t.Errorf("abilities %v, not %v", have, s.Abilities)
	}
}

// Bytes are n bytes that look random and are the same each time.
func Bytes(n int, seed uint64) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// stream hides what a reader can do besides reading.
func stream(b []byte) io.Reader { return struct{ io.Reader }{bytes.NewReader(b)} }

func put(t *testing.T, s objstore.Store, key string, data []byte) objstore.Object {
	t.Helper()
	o, err := s.Put(t.Context(), key, stream(data), objstore.PutOptions{})
	if err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
	return o
}

func get(t *testing.T, s objstore.Store, key string, r objstore.Range) []byte {
	t.Helper()
	in, _, err := s.Get(t.Context(), key, r)
	if err != nil {
		t.Fatalf("get %q: %v", key, err)
	}
	defer in.Close()
	data, err := io.ReadAll(in)
	if err != nil {
		t.Fatalf("read %q: %v", key, err)
	}
	return data
}

func keys(t *testing.T, s objstore.Store, prefix string) []string {
	t.Helper()
	var all []string
	for o, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o.Key)
	}
	return all
}

func (s Suite) contents(t *testing.T) {
	store := s.Open(t, &objstore.Policy{})
	for i, size := range []int{0, 1, 4096, objstore.MinPart, objstore.MinPart + 1, 20 << 20} {
		key, data := fmt.Sprintf("contents/%d", size), Bytes(size, uint64(i))
		o := put(t, store, key, data)
		if o.Key != key || o.Size != int64(size) {
			t.Errorf("put of %d bytes: %+v", size, o)
		}
		st, err := store.Stat(t.Context(), key)
		if err != nil || st.Key != key || st.Size != int64(size) || st.ETag == "" || time.Since(st.Modified).Abs() > time.Minute {
			t.Errorf("stat of %d bytes: %+v, %v", size, st, err)
		}
		if got := get(t, store, key, objstore.Whole()); !bytes.Equal(got, data) {
			t.Errorf("%d bytes came back as %d others", size, len(got))
		}
		put(t, store, key, []byte("another"))
		if got := get(t, store, key, objstore.Whole()); string(got) != "another" {
			t.Errorf("after it was replaced: %d bytes", len(got))
		}
	}
}

func (s Suite) names(t *testing.T) {
	store := s.Open(t, &objstore.Policy{})
	names := []string{"a b", "a+b", "a%20b", "a%2Fb", `it's "quoted"`, "..a", "a..", "...", "a..b/..c", "ä€𝄞", "e\u0301", "&amp;<x>", "semi;colon", "q?x=1", "h#1", "back\\slash",
		"~tilde", "*star*", "[x]", "{y}", "$(id)", "a=b", "@at", "a,b", "trailing.", " leading", "trailing ", strings.Repeat("long", 50)}
	names = slices.DeleteFunc(names, func(n string) bool {
		refused := strings.ContainsAny(n, s.Refused)
		if refused {
			if _, err := store.Put(t.Context(), n, stream(nil), objstore.PutOptions{}); !fault.Is(err, fault.Usage) || fault.HintOf(err) == "" {
				t.Errorf("put of %q: %v", n, err)
			}
		}
		return refused
	})
	for _, n := range names {
		put(t, store, "names/"+n, []byte(n))
	}
	got := keys(t, store, "names/")
	want := make([]string, len(names))
	for i, n := range names {
		want[i] = "names/" + n
		if content := get(t, store, want[i], objstore.Whole()); string(content) != n {
			t.Errorf("%q has the content %q", n, content)
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("listed as %q\nnot %q", got, want)
	}
	if err := store.Delete(t.Context(), want...); err != nil {
		t.Error(err)
	}
	if left := keys(t, store, "names/"); len(left) > 0 {
		t.Errorf("after the deletion: %q", left)
	}
	for _, bad := range []string{"", "/a", "a/", "a//b", "a/../b", ".", "./a", "..", "a/..", "a\x00b", "a\nb", "\xff", strings.Repeat("x", 1025)} {
		_, perr := store.Put(t.Context(), bad, stream(nil), objstore.PutOptions{})
		_, _, gerr := store.Get(t.Context(), bad, objstore.Whole())
		_, serr := store.Stat(t.Context(), bad)
		derr := store.Delete(t.Context(), bad)
		for op, err := range map[string]error{"put": perr, "get": gerr, "stat": serr, "delete": derr} {
			if !fault.Is(err, fault.Usage) || fault.HintOf(err) == "" {
				t.Errorf("%s of %q: %v", op, bad, err)
			}
		}
	}
}

func (s Suite) absent(t *testing.T) {
	store := s.Open(t, &objstore.Policy{})
	_, _, gerr := store.Get(t.Context(), "absent/x", objstore.Whole())
	_, rerr := store.Stat(t.Context(), "absent/x")
	_, _, zerr := store.Get(t.Context(), "absent/x", objstore.Range{Offset: 0, Length: 0})
	for op, err := range map[string]error{"get": gerr, "stat": rerr, "get nothing": zerr} {
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", op, err)
		}
	}
	put(t, store, "absent/there", nil)
	if err := store.Delete(t.Context(), "absent/x", "absent/there", "absent/y/z"); err != nil {
		t.Error(err)
	}
	if err := store.Delete(t.Context(), "absent/x"); err != nil {
		t.Error(err)
	}
	if err := store.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if left := keys(t, store, "absent/"); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// races: of two writers of one key at the same time one wins, and what is there is his, whole.
func (s Suite) races(t *testing.T) {
	store := s.Open(t, &objstore.Policy{})
	for _, size := range []int{0, 10, objstore.MinPart * 2} {
		for round := range 3 {
			key := fmt.Sprintf("races/%d-%d", size, round)
			var wg sync.WaitGroup
			errs := make([]error, 4)
			data := make([][]byte, len(errs))
			for i := range errs {
				data[i] = append(Bytes(size, uint64(i)), byte(i))
				wg.Go(func() {
					_, errs[i] = store.Put(t.Context(), key, stream(data[i]), objstore.PutOptions{IfAbsent: true})
				})
			}
			wg.Wait()
			got, winner := get(t, store, key, objstore.Whole()), -1
			for i, err := range errs {
				switch {
				case err == nil && winner >= 0:
					t.Errorf("%s: %d and %d both won", key, winner, i)
				case err == nil:
					winner = i
				case !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.Connection):
					t.Errorf("%s: %v", key, err)
				}
			}
			if winner < 0 || !bytes.Equal(got, data[winner]) {
				t.Errorf("%s: %d won, and %d bytes of somebody else are there: %v", key, winner, len(got), errs)
			}
			if _, err := store.Put(t.Context(), key, stream(data[0]), objstore.PutOptions{IfAbsent: true}); !fault.Is(err, fault.Conflict) || fault.HintOf(err) == "" {
				t.Errorf("%s: a late writer: %v", key, err)
			}
		}
	}
	if m, is := store.(objstore.Multipart); is {
		for u, err := range m.Uploads(t.Context(), "races/") {
			t.Errorf("an upload is left: %+v, %v", u, err)
		}
	}
}

func (s Suite) ranges(t *testing.T) {
	store := s.Open(t, &objstore.Policy{})
	data := Bytes(10000, 7)
	put(t, store, "ranges/x", data)
	put(t, store, "ranges/empty", nil)
	for _, span := range [][2]int64{{0, 1}, {0, 10000}, {0, 10001}, {0, -1}, {9999, 1}, {9999, -1}, {9999, 5}, {5000, 100}, {10000, 1}, {10000, -1}, {20000, 3}, {3, 0}, {0, 0}} {
		r := objstore.Range{Offset: span[0], Length: span[1]}
		want := data[min(r.Offset, 10000):]
		if r.Length >= 0 {
			want = want[:min(r.Length, int64(len(want)))]
		}
		in, o, err := store.Get(t.Context(), "ranges/x", r)
		if err != nil || o.Size != 10000 {
			t.Errorf("%+v: %+v, %v", r, o, err)
			continue
		}
		got, err := io.ReadAll(in)
		in.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%+v: %d bytes instead of %d, %v", r, len(got), len(want), err)
		}
	}
	for _, r := range []objstore.Range{objstore.Whole(), {Length: 5}, {Offset: 1, Length: 1}} {
		if got := get(t, store, "ranges/empty", r); len(got) > 0 {
			t.Errorf("%+v of nothing: %d bytes", r, len(got))
		}
	}
	if _, _, err := store.Get(t.Context(), "ranges/x", objstore.Range{Offset: -1, Length: 1}); !fault.Is(err, fault.Usage) {
		t.Errorf("a negative offset: %v", err)
	}
}

func (s Suite) checksums(t *testing.T) {
	store := s.Open(t, &objstore.Policy{})
	for _, size := range []int{100, objstore.MinPart + 100} {
		data := Bytes(size, 3)
		good := crc32.Checksum(data, objstore.Castagnoli)
		bad := good + 1
		if _, err := store.Put(t.Context(), "checksums/x", stream(data), objstore.PutOptions{CRC32C: &bad}); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%d bytes with another checksum: %v", size, err)
		}
		if _, err := store.Stat(t.Context(), "checksums/x"); !fault.Is(err, fault.NotFound) {
			t.Errorf("they were stored all the same: %v", err)
		}
		o, err := store.Put(t.Context(), "checksums/x", stream(data), objstore.PutOptions{CRC32C: &good})
		if err != nil || o.CRC32C != nil && *o.CRC32C != good {
			t.Errorf("%+v, %v", o, err)
		}
		if err := store.Delete(t.Context(), "checksums/x"); err != nil {
			t.Error(err)
		}
	}
}

func (s Suite) listing(t *testing.T) {
	store := s.Open(t, &objstore.Policy{})
	want := make([]string, s.Keys)
	var wg sync.WaitGroup
	slots := make(chan bool, 8)
	for i := range want {
		want[i] = fmt.Sprintf("listing/%03d/k-%d", i%7, i)
		wg.Go(func() {
			slots <- true
			defer func() { <-slots }()
			if _, err := store.Put(t.Context(), want[i], stream([]byte{1}), objstore.PutOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	put(t, store, "listing-x", []byte{1})
	slices.Sort(want)
	if got := keys(t, store, "listing/"); !slices.Equal(got, want) {
		t.Errorf("%d keys are listed, not %d", len(got), len(want))
	}
	some := slices.DeleteFunc(slices.Clone(want), func(k string) bool { return !strings.HasPrefix(k, "listing/003/k-1") })
	if got := keys(t, store, "listing/003/k-1"); !slices.Equal(got, some) {
		t.Errorf("%d keys of a part of a name, not %d", len(got), len(some))
	}
	if got := keys(t, store, "listing/9"); len(got) > 0 {
		t.Errorf("nothing begins so, but %q", got)
	}
	if by, is := store.(objstore.Levels); is {
		levels(t, by, want)
	}
	n := 0
	for _, err := range store.List(t.Context(), "listing") {
		if n++; n == 3 || err != nil {
			if err != nil {
				t.Error(err)
			}
			break
		}
	}
	if err := store.Delete(t.Context(), append(want, "listing-x")...); err != nil {
		t.Error(err)
	}
	if got := keys(t, store, "listing"); len(got) > 0 {
		t.Errorf("%d keys are left", len(got))
	}
}

// levels lists what listing has stored, level by level.
func levels(t *testing.T, store objstore.Levels, want []string) {
	t.Helper()
	level := func(prefix string) (names []string) {
		for o, err := range store.ListLevel(t.Context(), prefix) {
			if err != nil {
				t.Fatal(err)
			}
			if folder := strings.HasSuffix(o.Key, "/"); folder != (o.Size == 0) {
				t.Errorf("%+v", o)
			}
			names = append(names, o.Key)
		}
		return names
	}
	var folders, third []string
	for i := range 7 {
		folders = append(folders, fmt.Sprintf("listing/%03d/", i))
	}
	for _, k := range want {
		if strings.HasPrefix(k, "listing/003/") {
			third = append(third, k)
		}
	}
	if got := level("listing/"); !slices.Equal(got, folders) {
		t.Errorf("a level of folders: %q", got)
	}
	if got := level("listing/003/"); !slices.Equal(got, third) {
		t.Errorf("%d objects on a level, not %d", len(got), len(third))
	}
	if got := level(""); !slices.Contains(got, "listing/") || !slices.Contains(got, "listing-x") || !slices.IsSorted(got) {
		t.Errorf("the first level: %q", got)
	}
	if got := level("listing/9/"); len(got) > 0 {
		t.Errorf("an empty level: %q", got)
	}
}

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

func (s Suite) closedEarly(t *testing.T) {
	store := s.Open(t, &objstore.Policy{})
	data := Bytes(20<<20, 5)
	put(t, store, "closed/x", data)
	for range 20 {
		in, _, err := store.Get(t.Context(), "closed/x", objstore.Whole())
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, 1000)
		if _, err := io.ReadFull(in, head); err != nil || !bytes.Equal(head, data[:1000]) {
			t.Error(err)
		}
		in.Close()
	}
	if got := get(t, store, "closed/x", objstore.Whole()); !bytes.Equal(got, data) {
		t.Error("after readers that were closed early another one reads something else")
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

func (s Suite) multipart(t *testing.T) {
	store := s.Open(t, &objstore.Policy{})
	m := store.(objstore.Multipart)
	data := Bytes(2*objstore.MinPart+100, 9)
	begin := func(key string) objstore.Upload {
		u, err := m.Begin(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	part := func(u objstore.Upload, n int, data []byte) objstore.Part {
		p, err := m.PutPart(t.Context(), u, n, data)
		if err != nil || p.Size != int64(len(data)) || p.Number != n {
			t.Fatalf("part %d: %+v, %v", n, p, err)
		}
		return p
	}
	listed := func() (ids []string) {
		for u, err := range m.Uploads(t.Context(), "multipart/") {
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(u.Key, "multipart/") || time.Since(u.Begun).Abs() > time.Minute {
				t.Errorf("an upload: %+v", u)
			}
			ids = append(ids, u.ID)
		}
		return ids
	}
	first, second := begin("multipart/a b+c"), begin("multipart/second")
	wants := []string{first.ID, second.ID}
	got := listed()
	slices.Sort(wants)
	slices.Sort(got)
	if !slices.Equal(got, wants) {
		t.Errorf("uploads %q, not %q", got, wants)
	}
	third := part(first, 3, data[2*objstore.MinPart:])
	part(first, 1, Bytes(objstore.MinPart, 77))
	two := part(first, 2, data[objstore.MinPart:2*objstore.MinPart])
	one := part(first, 1, data[:objstore.MinPart]) // replaces
	part(second, 1, data)
	if len(keys(t, store, "multipart/")) > 0 {
		t.Error("an object is there before its parts are complete")
	}
	if _, err := m.Complete(t.Context(), first, []objstore.Part{third, one, two}, objstore.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	if got := get(t, store, "multipart/a b+c", objstore.Whole()); !bytes.Equal(got, data) {
		t.Errorf("%d other bytes", len(got))
	}
	for range 2 {
		if err := m.Abort(t.Context(), second); err != nil {
			t.Error(err)
		}
	}
	if got := listed(); len(got) > 0 {
		t.Errorf("uploads are left: %q", got)
	}
	if _, err := m.Complete(t.Context(), second, []objstore.Part{one}, objstore.PutOptions{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("completing what was aborted: %v", err)
	}
	if _, err := m.Begin(t.Context(), "multipart/../x"); !fault.Is(err, fault.Usage) {
		t.Errorf("a bad name: %v", err)
	}
	late := begin("multipart/a b+c")
	p := part(late, 1, []byte("late"))
	if _, err := m.Complete(t.Context(), late, []objstore.Part{p}, objstore.PutOptions{IfAbsent: true}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a late writer: %v", err)
	}
	if err := m.Abort(t.Context(), late); err != nil {
		t.Error(err)
	}
}

func (s Suite) copy(t *testing.T) {
	store := s.Open(t, &objstore.Policy{})
	c := store.(objstore.Copier)
	for _, size := range []int{0, 10, objstore.MinPart + 1} {
		data, from := Bytes(size, 4), fmt.Sprintf("copy/from ü+%%20 %d", size)
		put(t, store, from, data)
		o, err := c.Copy(t.Context(), from, "copy/to +ü")
		if err != nil || o.Size != int64(size) {
			t.Fatalf("%+v, %v", o, err)
		}
		if got := get(t, store, "copy/to +ü", objstore.Whole()); !bytes.Equal(got, data) {
			t.Errorf("%d other bytes", len(got))
		}
	}
	if _, err := c.Copy(t.Context(), "copy/absent", "copy/x"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a copy of nothing: %v", err)
	}
}

func (s Suite) rangeCopy(t *testing.T) {
	store := s.Open(t, &objstore.Policy{})
	c := store.(objstore.RangeCopier)
	old := Bytes(3*objstore.MinPart, 6)
	put(t, store, "range/old +ü", old)
	u, err := c.BeginCopy(t.Context(), "range/new")
	if err != nil {
		t.Fatal(err)
	}
	two, err := c.PutPart(t.Context(), u, 2, []byte("the end"))
	if err != nil {
		t.Fatal(err)
	}
	one, err := c.CopyPart(t.Context(), u, 1, "range/old +ü", objstore.Range{Offset: 1000, Length: objstore.MinPart})
	if err != nil || one.Size != objstore.MinPart {
		t.Fatalf("%+v, %v", one, err)
	}
	want := append(slices.Clone(old[1000:1000+objstore.MinPart]), "the end"...)
	crc := crc32.Checksum(want, objstore.Castagnoli)
	if _, err := c.Complete(t.Context(), u, []objstore.Part{one, two}, objstore.PutOptions{CRC32C: &crc}); err != nil {
		t.Fatal(err)
	}
	if got := get(t, store, "range/new", objstore.Whole()); !bytes.Equal(got, want) {
		t.Errorf("%d other bytes", len(got))
	}
	from, err := store.Stat(t.Context(), "range/old +ü")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := objstore.CopyParts(t.Context(), c, from, "range/all", objstore.MinPart+1); err != nil {
		t.Fatal(err)
	}
	if got := get(t, store, "range/all", objstore.Whole()); !bytes.Equal(got, old) {
		t.Errorf("a copy in pieces: %d other bytes", len(got))
	}
}

// serverDies: what waiting cures is cured, in the middle of an upload and of a
// download; else the error comes within the time that was given.
func (s Suite) serverDies(t *testing.T) {
	p := &objstore.Policy{Patience: 30 * time.Second}
	store := s.Open(t, p)
	data := Bytes(20<<20, 8)
	away := func() {
		s.Kill(t)
		time.AfterFunc(500*time.Millisecond, func() { s.Start(t) })
	}
	once := &reading{r: bytes.NewReader(data), at: 12 << 20, then: away}
	if _, err := store.Put(t.Context(), "dies/x", once, objstore.PutOptions{IfAbsent: true}); err != nil {
		t.Errorf("put: %v", err)
	}
	in, _, err := store.Get(t.Context(), "dies/x", objstore.Whole())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	got, err := io.ReadAll(&reading{r: in, at: 5 << 20, then: away})
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("get: %d bytes, %v", len(got), err)
	}
	if p.Counts.Retries.Load() < 2 {
		t.Errorf("%d requests were tried again", p.Counts.Retries.Load())
	}
	s.Kill(t)
	defer s.Start(t)
	began := time.Now()
	_, err = s.Open(t, &objstore.Policy{Patience: time.Second}).Stat(t.Context(), "dies/x")
	if took := time.Since(began); !fault.Is(err, fault.Connection) || fault.HintOf(err) == "" || took < time.Second || took > 5*time.Second {
		t.Errorf("after %v: %v (%s)", took, err, fault.HintOf(err))
	}
	began = time.Now()
	if _, err := s.Open(t, &objstore.Policy{}).Stat(t.Context(), "dies/x"); !fault.Is(err, fault.Connection) || time.Since(began) > time.Second {
		t.Errorf("without patience, after %v: %v", time.Since(began), err)
	}
}

// reading does something once when some bytes have passed.
type reading struct {
	r    io.Reader
	at   int
	then func()
}

func (r *reading) Read(b []byte) (int, error) {
	n, err := r.r.Read(b[:min(len(b), 1<<20)])
	if r.at > 0 && r.at-n <= 0 {
		r.then()
	}
	r.at -= n
	return n, err
}
