package storetest

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/certtest"
)

// authority is a certificate for 127.0.0.1 that vouches for itself.
type authority struct {
	cert, key string // PEM files
	client    *http.Client
}

func newAuthority(t testing.TB, dir string) *authority {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	public, private := certtest.Pair(t)
	// Programs that run as another user read the certificate.
	open, err := os.MkdirTemp("", "holdfast-authority-")
	must(err)
	t.Cleanup(func() { os.RemoveAll(open) })
	must(os.Chmod(open, 0o755))
	a := &authority{cert: filepath.Join(open, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	must(os.WriteFile(a.cert, public, 0o644))
	must(os.WriteFile(a.key, private, 0o600))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(public)
	a.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	return a
}
