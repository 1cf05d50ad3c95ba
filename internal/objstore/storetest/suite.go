package storetest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

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
