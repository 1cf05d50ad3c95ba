package storetest

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

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
