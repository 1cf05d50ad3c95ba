//go:build integration

package bundle_test

import (
	"slices"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/bundle"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/s3"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
)

// TestObjectsOnS3: made anew, copied whole, made of ranges and new segments; and each
// complete without the ones before.
func TestObjectsOnS3(t *testing.T) {
	g := storetest.StartGateway(t, "bucket")
	g.Setenv(t)
	at, err := objstore.ParseURL("s3://bucket/a b+c/ü")
	if err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range algorithms {
		c := codecOf(t, algorithm)
		var policy objstore.Policy
		store, err := s3.Open(t.Context(), at, config.CloudOptions{HoldfastEndpointURL: g.URL}, &policy)
		if err != nil {
			t.Fatal(err)
		}
		segments := segmentsOf(slices.Repeat([]int{mib}, 24), 7)
		if !c.Independent() {
			segments = segments[:1]
		}
		key := func(what string) string { return algorithm + "/" + what + c.Suffix() }
		// write stores an object and checks how much was sent for it.
		make := func(what string, least, most int64, old *bundle.Record) *bundle.Record {
			t.Helper()
			before := policy.Counts.Sent.Load()
			r := write(t, store, key(what), segments, bundle.Options{Codec: c, Workers: 2, Senders: 2, Old: old})
			if sent := (policy.Counts.Sent.Load() - before) / mib; c.Independent() && (sent < least || sent > most) {
				t.Errorf("%s: %s: %d MiB were sent, not %d to %d", c, what, sent, least, most)
			}
			return r
		}
		first := make("first", 24, 25, nil)
		check(t, store, first, c, segments)
		second := make("second", 0, 0, first)
		if c.Independent() {
			segments[9], segments[23] = noise(mib+5, 90), noise(mib/2, 91)
		}
		third := make("third", 1, 2, second)
		if err := store.Delete(t.Context(), first.Key, second.Key); err != nil {
			t.Fatal(err)
		}
		check(t, store, third, c, segments)
		if _, err := bundle.Write(t.Context(), store, key("fourth"), &source{segments: segments}, bundle.Options{Codec: c, Old: first}); c.Independent() && !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: made of what is gone: %v", c, err)
		}
		if _, err := store.Stat(t.Context(), key("fourth")); c.Independent() && !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: an object is left: %v", c, err)
		}
		for u, err := range store.Uploads(t.Context(), "") {
			t.Errorf("%s: an upload is left: %+v, %v", c, u, err)
		}
	}
}
