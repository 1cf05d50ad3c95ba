package storetest

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The credentials of servers of this package.
const (
	AccessKey = "holdfast-test"
	SecretKey = "holdfast-s3cret"
)

// Gateway is a versitygw, which serves directories as buckets over S3.
type Gateway struct {
	URL string // the endpoint
	dir string
	at  string
	tls *authority // of a benchmark's; nil for plain HTTP
	cmd *exec.Cmd
}

// StartGateway starts a server with the given buckets. Its variables are those that
// the AWS libraries read, set for the test; those of the machine are hidden.
func StartGateway(t testing.TB, buckets ...string) *Gateway {
	t.Helper()
	return startGateway(t, "http", buckets)
}

// StartBenchGateway is StartGateway for benchmarks: over TLS, with a certificate that the
// environment makes known, and with ETags of CRC64. That of MD5 would be the larger part of what the
// server does, on the processors of what is measured, and again of all that is copied inside it.
func StartBenchGateway(b *testing.B, buckets ...string) *Gateway {
	b.Helper()
	return startGateway(b, "https", buckets)
}

func startGateway(t testing.TB, scheme string, buckets []string) *Gateway {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &Gateway{at: l.Addr().String(), URL: scheme + "://" + l.Addr().String(), dir: t.TempDir()}
	l.Close()
	if scheme == "https" {
		g.tls = newAuthority(t, g.dir)
	}
	places := []string{"versions", "data"}
	for _, b := range buckets {
		places = append(places, filepath.Join("data", b))
	}
	for _, place := range places {
		if err := os.MkdirAll(filepath.Join(g.dir, place), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	g.Start(t)
	t.Cleanup(func() { g.Kill(t) })
	return g
}

// Start starts the server that was killed, on the same port.
func (g *Gateway) Start(t testing.TB) {
	t.Helper()
	program := filepath.Join(cmp.Or(os.Getenv("HOLDFAST_TESTBED"), "/var/tmp/holdfast-testbed"), "stores", "versitygw")
	var out bytes.Buffer
	args := []string{"--quiet", "--keep-alive", "--port", g.at, "--health", "/health"}
	if g.tls != nil {
		args = append(args, "--cert", g.tls.cert, "--key", g.tls.key)
	}
	args = append(args, "posix", "--versioning-dir", filepath.Join(g.dir, "versions"))
	if g.tls != nil {
		args = append(args, "--data-integrity-etag")
	}
	args = append(args, filepath.Join(g.dir, "data"))
	g.cmd = exec.Command(program, args...)
	g.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
	g.cmd.Stdout, g.cmd.Stderr = &out, &out
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		t.Fatalf("%v; run make testbed", err)
	}
	for range 200 {
		if resp, err := g.Client().Get(g.URL + "/health"); err == nil {
			resp.Body.Close()
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	g.Kill(t)
	t.Fatalf("versitygw does not answer:\n%s", out.String())
}

// Client trusts the server.
func (g *Gateway) Client() *http.Client {
	if g.tls == nil {
		return http.DefaultClient
	}
	return g.tls.client
}

// Kill ends the server as a power failure would.
func (g *Gateway) Kill(testing.TB) {
	if g.cmd == nil {
		return
	}
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait()
	g.cmd = nil
}

// Environment are the variables of a program that uses the server, nothing of the
// machine's own among them.
func (g *Gateway) Environment() map[string]string {
	none, bundle := filepath.Join(g.dir, "none"), ""
	if g.tls != nil {
		bundle = g.tls.cert
	}
	return map[string]string{
		"AWS_ACCESS_KEY_ID": AccessKey, "AWS_SECRET_ACCESS_KEY": SecretKey, "AWS_SESSION_TOKEN": "", "AWS_REGION": "us-east-1", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "", "AWS_CA_BUNDLE": bundle,
	}
}

// Setenv makes them those of the test.
func (g *Gateway) Setenv(t *testing.T) {
	t.Helper()
	for name, value := range g.Environment() {
		t.Setenv(name, value)
	}
}

// Data is where the objects of a bucket lie.
func (g *Gateway) Data(bucket string) string { return filepath.Join(g.dir, "data", bucket) }

// String names the server.
func (g *Gateway) String() string { return fmt.Sprintf("versitygw at %s", g.URL) }
