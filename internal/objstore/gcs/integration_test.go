//go:build integration

package gcs_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
)

func TestConformance(t *testing.T) {
	g := storetest.StartGoogle(t, "bucket")
	g.Setenv(t)
	storetest.Suite{
		Open: func(t *testing.T, p *objstore.Policy) objstore.Store {
			return open(t, "gs://bucket/a b+c/ü", config.CloudOptions{}, p)
		},
		Abilities: []string{"multipart", "copy", "locks"},
		Keys:      2500,
		Kill:      g.Kill, Start: g.Start,
	}.Run(t)
	root := open(t, "gs://bucket", config.CloudOptions{}, &objstore.Policy{})
	n := 0
	for o, err := range root.List(t.Context(), "") {
		if n++; err != nil || !strings.HasPrefix(o.Key, "a b+c/ü/") || strings.Contains(o.Key, ".holdfast-store") {
			t.Errorf("beside the prefix: %+v, %v", o, err)
		}
	}
	if n == 0 {
		t.Error("nothing lies below the prefix")
	}
}

// TestManyParts: more parts than are composed at once, sent in the order of the last one first.
func TestManyParts(t *testing.T) {
	g := storetest.StartGoogle(t, "bucket")
	g.Setenv(t)
	s := open(t, "gs://bucket/x", config.CloudOptions{}, &objstore.Policy{})
	u, err := s.Begin(t.Context(), "many")
	if err != nil {
		t.Fatal(err)
	}
	const n, size = 70, 1000
	data := storetest.Bytes(n*size, 1)
	var parts []objstore.Part
	for i := n; i > 0; i-- {
		p, err := s.PutPart(t.Context(), u, i, data[(i-1)*size:i*size])
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
	}
	o, err := s.Complete(t.Context(), u, parts, objstore.PutOptions{IfAbsent: true})
	if err != nil || o.Size != n*size || o.CRC32C == nil {
		t.Fatalf("%+v, %v", o, err)
	}
	in, _, err := s.Get(t.Context(), "many", objstore.Whole())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	var got bytes.Buffer
	if _, err := got.ReadFrom(in); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("%d other bytes, %v", got.Len(), err)
	}
	for u, err := range s.Uploads(t.Context(), "") {
		t.Errorf("an upload is left: %+v, %v", u, err)
	}
}

func TestTrouble(t *testing.T) {
	g := storetest.StartGoogle(t, "bucket")
	g.Setenv(t)
	storetest.Trouble(t, g.Front, func(t *testing.T, p *objstore.Policy) objstore.Store {
		return open(t, "gs://bucket/trouble", config.CloudOptions{}, p)
	}, func(r *http.Request) bool {
		return r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/download/")
	})
}
