//go:build integration

package gcs_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
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

// TestUniverse: another universe than Google's public one has its own hosts, for the store and in messages.
func TestUniverse(t *testing.T) {
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`)
	}))
	defer tokens.Close()
	file := filepath.Join(t.TempDir(), "adc.json")
	text := fmt.Sprintf(`{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"r","token_uri":%q}`, tokens.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	t.Setenv("STORAGE_EMULATOR_HOST", "")
	t.Setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "nowhere.invalid")
	_, err := open(t, "gs://bucket", config.CloudOptions{}, &objstore.Policy{}).Stat(t.Context(), "x")
	if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), "no host storage.nowhere.invalid") {
		t.Errorf("%v", err)
	}
}
