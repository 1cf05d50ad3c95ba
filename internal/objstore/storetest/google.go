package storetest

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// Google is a fake-gcs-server, which keeps buckets of Google Cloud Storage in memory. Its
// front adds what it leaves out of compositions and rewrites: preconditions, and 404 for a
// source that is missing.
type Google struct{ *Front }

// StartGoogle starts a server with the given buckets.
func StartGoogle(t testing.TB, buckets ...string) Google {
	t.Helper()
	at := free(t)
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	server := "http://" + at
	launch(t, server+"/_internal/healthcheck", bed("stores", "fake-gcs-server"), "-scheme", "http", "-host", host, "-port", port, "-backend", "memory", "-log-level", "error")
	g := Google{newFront(t, server, func(next http.Handler) http.Handler { return &google{next: next, server: server} })}
	for _, b := range buckets {
		resp, err := http.Post(g.URL+"/storage/v1/b?project=test", "application/json", strings.NewReader(`{"name":"`+b+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	return g
}

// Environment are the variables of a program that uses the server.
func (g Google) Environment() map[string]string {
	return map[string]string{"STORAGE_EMULATOR_HOST": g.URL, "GOOGLE_CLOUD_UNIVERSE_DOMAIN": "", "GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent"}
}

// Setenv makes them those of the test.
func (g Google) Setenv(t *testing.T) {
	t.Helper()
	for name, value := range g.Environment() {
		t.Setenv(name, value)
	}
}

type google struct {
	next   http.Handler
	server string
	mu     sync.Mutex // compositions and rewrites come one by one
}

// ServeHTTP implements http.Handler.
func (g *google) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	composing := r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/compose")
	if !composing && !strings.Contains(r.URL.EscapedPath(), "/rewriteTo/") {
		g.next.ServeHTTP(w, r)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if composing {
		if status := g.refuse(r); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	g.next.ServeHTTP(w, r)
}

// refuse is the status that Google answers a composition with, 0 when it is well.
func (g *google) refuse(r *http.Request) int {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return http.StatusBadRequest
	}
	r.Body = io.NopCloser(strings.NewReader(string(text)))
	var body struct {
		SourceObjects []struct {
			Name                string
			ObjectPreconditions struct{ IfGenerationMatch string }
		}
	}
	if err := json.Unmarshal(text, &body); err != nil {
		return http.StatusBadRequest
	}
	target := strings.TrimSuffix(r.URL.EscapedPath(), "/compose")
	for _, s := range body.SourceObjects {
		switch generation, is := g.generation(target[:strings.LastIndex(target, "/")+1] + url.PathEscape(s.Name)); {
		case !is:
			return http.StatusNotFound
		case generation != s.ObjectPreconditions.IfGenerationMatch:
			return http.StatusPreconditionFailed
		}
	}
	if _, is := g.generation(target); is && r.URL.Query().Get("ifGenerationMatch") == "0" {
		return http.StatusPreconditionFailed
	}
	return 0
}

// generation is that of an object that is there.
func (g *google) generation(path string) (string, bool) {
	resp, err := http.Get(g.server + path)
	if err != nil {
		return "", false
	}
	defer resp.Body.Close()
	var o struct{ Generation string }
	err = json.NewDecoder(resp.Body).Decode(&o)
	return o.Generation, err == nil && resp.StatusCode == http.StatusOK
}
