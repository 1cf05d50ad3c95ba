package storetest

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

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
		another := Bytes(size, uint64(100+i))
		expected := []int{size, size / 3, 2*size + 1}[i%3] // wrong ones do no harm
		if o, err := store.Put(t.Context(), key, stream(another), objstore.PutOptions{Size: int64(expected)}); err != nil || o.Size != int64(size) {
			t.Errorf("put of %d bytes, %d expected: %+v, %v", size, expected, o, err)
		}
		if got := get(t, store, key, objstore.Whole()); !bytes.Equal(got, another) {
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
