package objstore_test

import (
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// TestConnectionsAreUsedAgain: by whoever opens the same store next and trusts the same
// authorities, and by nobody else.
func TestConnectionsAreUsedAgain(t *testing.T) {
	var made atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			made.Add(1)
		}
	}
	server.StartTLS()
	defer server.Close()
	trusting := func() *x509.CertPool {
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		return roots
	}
	for i := range 3 {
		p := &objstore.Policy{}
		resp, err := p.Client(trusting(), 0).Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); string(body) != "here" {
			t.Errorf("%q, %v", body, err)
		}
		resp.Body.Close()
		if p.Counts.Requests.Load() != 1 || p.Counts.Received.Load() != 4 {
			t.Errorf("client %d counts %d requests, %d bytes", i, p.Counts.Requests.Load(), p.Counts.Received.Load())
		}
	}
	if n := made.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	if resp, err := (&objstore.Policy{}).Client(nil, 0).Get(server.URL); err == nil {
		resp.Body.Close()
		t.Error("a connection of somebody who trusts the server is used by somebody who does not")
	}
}
