package storetest

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Front stands before a server that forgets everything when it ends: it can be killed
// instead, with all connections, and does what the server leaves out.
type Front struct {
	URL    string // the endpoint
	at     string
	handle http.Handler
	mu     sync.Mutex
	server *http.Server
	bend   atomic.Pointer[bend]
}

// bend answers a request instead of the server, if it wants to.
type bend func(w http.ResponseWriter, r *http.Request, next http.Handler) bool

// ServeHTTP implements http.Handler.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if b := f.bend.Load(); b == nil || !(*b)(w, r, f.handle) {
		f.handle.ServeHTTP(w, r)
	}
}

// newFront starts a front; wrap adds to what the server at a URL does.
func newFront(t testing.TB, server string, wrap func(next http.Handler) http.Handler) *Front {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host },
		ErrorLog: log.New(io.Discard, "", 0), Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
	f := &Front{at: free(t), handle: wrap(forward)}
	f.URL = "http://" + f.at
	f.Start(t)
	t.Cleanup(func() { f.Kill(t) })
	return f
}

// free is an address that nobody listens at.
func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Start lets it listen again.
func (f *Front) Start(t testing.TB) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", f.at)
	if err != nil {
		t.Error(err)
		return
	}
	server := &http.Server{Handler: f, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	f.mu.Lock()
	f.server = server
	f.mu.Unlock()
	go func() { _ = server.Serve(l) }()
}

// Kill cuts all connections, and refuses new ones.
func (f *Front) Kill(testing.TB) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.server.Close()
}

// bed is a place in the testbed.
func bed(path ...string) string {
	return filepath.Join(append([]string{cmp.Or(os.Getenv("HOLDFAST_TESTBED"), "/var/tmp/holdfast-testbed")}, path...)...)
}

// launch runs a server until the test ends, and waits until it answers anything at a URL.
func launch(t testing.TB, url, program string, args ...string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v; run make testbed", err)
	}
	end := func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(25 * time.Millisecond) {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
			t.Cleanup(end)
			return
		}
	}
	end()
	t.Fatalf("%s does not answer:\n%s", program, out.String())
}
