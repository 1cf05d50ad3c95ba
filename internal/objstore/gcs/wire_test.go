package gcs_test

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/gcs"
)

func open(t *testing.T, where string, o config.CloudOptions, p *objstore.Policy) *gcs.Store {
	t.Helper()
	at, err := objstore.ParseURL(where)
	if err != nil {
		t.Fatal(err)
	}
	s, err := gcs.Open(at, o, p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// emulate makes a handler the store of the test.
func emulate(t *testing.T, h http.HandlerFunc) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	t.Setenv("STORAGE_EMULATOR_HOST", strings.TrimPrefix(server.URL, "http://"))
	t.Setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "")
}

// TestAnswers: what a store answers means one kind of fault, in one line with its cure.
func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		status int
		reason string
		op     string
		kind   fault.Kind
		hint   string
	}{
		{403, "forbidden", "put", fault.Permission, "storage.objects.create"},
		{403, "forbidden", "list", fault.Permission, "storage.objects.list"},
		{403, "rateLimitExceeded", "put", fault.Connection, "tries again"},
		{403, "retentionPolicyNotMet", "delete", fault.Refused, "retention"},
		{403, "objectUnderActiveHold", "delete", fault.Refused, "hold"},
		{401, "authError", "put", fault.Permission, "gcloud auth"},
		{404, "notFound", "list", fault.Config, "create it"},
		{404, "notFound", "put", fault.Config, "create it"},
		{404, "notFound", "stat", fault.NotFound, ""},
		{412, "conditionNotMet", "put", fault.Conflict, "left as it is"},
		{409, "conflict", "put", fault.Connection, "tries again"},
		{429, "rateLimitExceeded", "put", fault.Connection, "tries again"},
		{500, "backendError", "put", fault.Connection, "tries again"},
		{503, "", "list", fault.Connection, "tries again"},
		{400, "invalid", "put", fault.Unavailable, "correct what it says"},
		{501, "notImplemented", "put", fault.Unavailable, "Google Cloud Storage"},
		{200, "", "list", fault.Unavailable, "Google Cloud Storage"}, // somebody else's page
	} {
		emulate(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(c.status)
			if c.status == 200 {
				fmt.Fprint(w, "<html>")
			} else {
				fmt.Fprintf(w, `{"error":{"code":%d,"message":"of the\n store","errors":[{"reason":%q}]}}`, c.status, c.reason)
			}
		})
		s := open(t, "gs://bucket/x", config.CloudOptions{}, &objstore.Policy{})
		var err error
		switch c.op {
		case "put":
			_, err = s.Put(t.Context(), "key", strings.NewReader("x"), objstore.PutOptions{})
		case "delete":
			err = s.Delete(t.Context(), "key")
		case "stat":
			_, err = s.Stat(t.Context(), "key")
		case "list":
			for _, err = range s.List(t.Context(), "") {
			}
		}
		if !fault.Is(err, c.kind) || !strings.Contains(fault.HintOf(err), c.hint) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 160 {
			t.Errorf("%d %s: %s %v (%s)", c.status, c.reason, fault.KindOf(err), err, fault.HintOf(err))
		}
	}
}

const stored = `"name":"x/key","size":"1","generation":"7","timeCreated":"2026-01-02T03:04:05Z"`

// TestCreation: what makes an object says with which key, which metadata, and that it is to be new.
func TestCreation(t *testing.T) {
	asked := map[string]string{}
	rewrites := 0
	emulate(t, func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		path := r.URL.Path
		switch {
		case strings.HasSuffix(path, "/compose"):
			asked["compose "+r.URL.Query().Encode()] = string(text)
			fmt.Fprint(w, "{"+stored+"}")
		case strings.Contains(path, "/rewriteTo/"):
			rewrites++
			asked["rewrite "+r.URL.Query().Encode()] = string(text)
			fmt.Fprintf(w, `{"done":%t,"rewriteToken":"on","resource":{%s}}`, rewrites == 2, stored)
		case r.Method == http.MethodPost:
			asked["insert "+r.URL.Query().Encode()] = string(text)
			fmt.Fprint(w, "{"+stored+"}")
		case r.Method == http.MethodGet && strings.HasSuffix(path, "/o"):
			fmt.Fprint(w, "{}")
		default:
			fmt.Fprint(w, "{"+stored+"}")
		}
	})
	const key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
	s := open(t, "gs://bucket/x", config.CloudOptions{HoldfastGCSKMSKey: key, HoldfastTags: config.Tags{"team": "db"}}, &objstore.Policy{})
	if _, err := s.Put(t.Context(), "key", strings.NewReader("x"), objstore.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	u, err := s.Begin(t.Context(), "key")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Complete(t.Context(), u, []objstore.Part{{Number: 1, Size: 1, ETag: "5"}}, objstore.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	if o, err := s.Copy(t.Context(), "key", "other"); err != nil || o.ETag != "7" {
		t.Fatalf("%+v, %v", o, err)
	}
	const escaped = "kmsKeyName=projects%2Fp%2Flocations%2Fl%2FkeyRings%2Fr%2FcryptoKeys%2Fk"
	for request, holds := range map[string][]string{
		"insert ifGenerationMatch=0&" + escaped + "&uploadType=multipart":                                                                      {`"crc32c":"` + objstore.EncodeCRC32C(crc32.Checksum([]byte("x"), objstore.Castagnoli)) + `"`, `"metadata":{"team":"db"}`, `"name":"x/key"`},
		"insert " + escaped + "&uploadType=multipart":                                                                                          {`"holdfast-key":"key"`},
		"compose ifGenerationMatch=0&" + escaped:                                                                                               {`"ifGenerationMatch":"5"`, `"metadata":{"team":"db"}`},
		"rewrite destinationKmsKeyName=projects%2Fp%2Flocations%2Fl%2FkeyRings%2Fr%2FcryptoKeys%2Fk&ifSourceGenerationMatch=7":                 {`"metadata":{"team":"db"}`},
		"rewrite destinationKmsKeyName=projects%2Fp%2Flocations%2Fl%2FkeyRings%2Fr%2FcryptoKeys%2Fk&ifSourceGenerationMatch=7&rewriteToken=on": {`"metadata":{"team":"db"}`},
	} {
		for _, want := range holds {
			if !strings.Contains(asked[request], want) {
				t.Errorf("%s has no %s:\n%q", request, want, asked)
			}
		}
	}
}

// TestDamaged: what the store says it has kept is compared, and removed when it is something else.
func TestDamaged(t *testing.T) {
	removed := ""
	emulate(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodDelete {
			removed = r.URL.String()
			return
		}
		fmt.Fprint(w, `{`+stored+`,"crc32c":"AAAAAA=="}`)
	})
	s := open(t, "gs://bucket/x", config.CloudOptions{}, &objstore.Policy{})
	if _, err := s.Put(t.Context(), "key", strings.NewReader("x"), objstore.PutOptions{}); !fault.Is(err, fault.Corrupt) || !strings.HasSuffix(removed, "x%2Fkey?generation=7") {
		t.Errorf("%v, and %q is removed", err, removed)
	}
}

func TestLocks(t *testing.T) {
	answer := ""
	emulate(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) })
	s := open(t, "gs://bucket/x", config.CloudOptions{}, &objstore.Policy{})
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]objstore.Lock{
		stored: {},
		stored + `,"retention":{"mode":"Locked","retainUntilTime":"2026-07-01T00:00:00Z"}`: {Mode: "Locked", Until: now.AddDate(0, 1, 0)},
		stored + `,"retentionExpirationTime":"2026-07-01T00:00:00Z"`:                       {Mode: "bucket retention policy", Until: now.AddDate(0, 1, 0)},
		stored + `,"temporaryHold":true`:                                                   {Hold: true},
		stored + `,"eventBasedHold":true`:                                                  {Hold: true},
	} {
		answer = "{" + text + "}"
		if l, err := s.LockOf(t.Context(), "key"); err != nil || l != want || l.Locked(now) != (text != stored) {
			t.Errorf("%s: %+v, %v", text, l, err)
		}
	}
	for text, want := range map[string]string{
		`{}`: "",
		`{"retentionPolicy":{"retentionPeriod":"3600","isLocked":true},"defaultEventBasedHold":true}`: "locked retention policy of 3600 seconds, event-based hold",
	} {
		answer = text
		if rule, err := s.NewLocks(t.Context()); err != nil || rule != want {
			t.Errorf("%s: %q, %v", text, rule, err)
		}
	}
}

// TestCredentials: tokens come from the default credentials, are fetched anew when the store refuses them, from
// credentials that were replaced meanwhile, and nothing of them is in an error.
func TestCredentials(t *testing.T) {
	t.Setenv("STORAGE_EMULATOR_HOST", "")
	t.Setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "")
	var tokens, refusing atomic.Int64
	var good atomic.Value
	good.Store("token-of-first")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			tokens.Add(1)
			if n := refusing.Load(); n != 0 {
				w.WriteHeader(int(n))
				fmt.Fprint(w, `{"error":"invalid_grant","error_description":"s3cret"}`)
				return
			}
			_ = r.ParseForm()
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "token-of-" + r.Form.Get("refresh_token"), "token_type": "Bearer", "expires_in": 3600})
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+good.Load().(string) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, "{"+stored+"}")
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "adc.json")
	write := func(refresh string) {
		text := fmt.Sprintf(`{"type":"authorized_user","client_id":"c","client_secret":"s3cret","refresh_token":%q,"token_uri":%q}`, refresh, server.URL+"/token")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	o := config.CloudOptions{HoldfastEndpointURL: server.URL}
	write("first")
	s := open(t, "gs://bucket/x", o, &objstore.Policy{})
	stat := func(s *gcs.Store) error {
		_, err := s.Stat(t.Context(), "key")
		return err
	}
	for range 3 {
		if err := stat(s); err != nil || tokens.Load() != 1 {
			t.Fatalf("%v, after %d tokens", err, tokens.Load())
		}
	}
	write("second")
	good.Store("token-of-second")
	if err := stat(s); err != nil || tokens.Load() != 2 {
		t.Errorf("replaced credentials: %v, after %d tokens", err, tokens.Load())
	}
	good.Store("none")
	if err := stat(s); !fault.Is(err, fault.Permission) || fault.HintOf(err) == "" {
		t.Errorf("a token that stays refused: %v", err)
	}
	for status, kind := range map[int64]fault.Kind{400: fault.Permission, 503: fault.Connection} {
		refusing.Store(status)
		if err := stat(open(t, "gs://bucket/x", o, &objstore.Policy{})); !fault.Is(err, kind) || fault.HintOf(err) == "" || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("tokens answered with %d: %v (%s)", status, err, fault.HintOf(err))
		}
	}
	if err := os.WriteFile(file, []byte("{s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := stat(open(t, "gs://bucket/x", o, &objstore.Policy{})); !fault.Is(err, fault.Permission) || fault.HintOf(err) == "" || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a file that is none: %v", err)
	}
}
