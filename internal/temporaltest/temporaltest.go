// Package temporaltest runs the embedded Temporal server for tests.
//
// Each server is a process with a state directory of its own, on free ports; it
// ends with the test, or with the test's process if that is killed. Tests kill
// and restart it at will: after a restart it has its address and its workflows
// again. The program is bin/holdfast-engine, or the one that HOLDFAST_ENGINE
// names. Nothing but tests imports this package.
package temporaltest

import (
	"bufio"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	tlog "go.temporal.io/sdk/log"
)

// Namespace is registered in every server.
const Namespace = "holdfast"

// patience bounds every wait for the server.
const patience = time.Minute

// Server is an embedded Temporal server.
type Server struct {
	Address  string // of its gRPC port
	UI       string // URL of the Temporal UI; empty unless StartWithUI
	StateDir string

	args   []string
	cmd    *exec.Cmd
	exited chan struct{}
}

// Start runs a server and returns when it is ready.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartIn(t, t.TempDir())
}

// StartWithUI is Start for a server with the Temporal UI.
func StartWithUI(t testing.TB) *Server {
	t.Helper()
	_, port := freeAddress(t)
	return StartIn(t, t.TempDir(), "--ui-port", port)
}

// StartIn is Start with a state directory, which may hold what an earlier server left, and with
// further arguments.
func StartIn(t testing.TB, stateDir string, args ...string) *Server {
	t.Helper()
	address, port := freeAddress(t)
	s := &Server{Address: address, StateDir: stateDir, args: append([]string{"--state-dir", stateDir, "--port", port}, args...)}
	s.start(t)
	t.Cleanup(func() { s.Kill(t) })
	return s
}

// Client dials the server; the connection closes with the test.
func (s *Server) Client(t testing.TB) client.Client {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: s.Address, Namespace: Namespace, Logger: tlog.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Kill is kill -9.
func (s *Server) Kill(t testing.TB) { s.end(t, syscall.SIGKILL) }

// Stop is SIGTERM, and a wait for the end.
func (s *Server) Stop(t testing.TB) { s.end(t, syscall.SIGTERM) }

// Restart starts the server again on the same port, after a kill if it runs.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Kill(t)
	s.start(t)
}

// PID is that of the server's process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

func (s *Server) start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(s.StateDir, "engine.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program(t), s.args...)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, exited := make(chan []byte, 1), make(chan struct{})
	s.cmd, s.exited = cmd, exited
	go func() {
		// An engine that ends early closes its stdout; the empty line is refused below.
		text, _ := bufio.NewReader(stdout).ReadBytes('\n')
		line <- text
		_ = cmd.Wait()
		close(exited)
	}()
	var ready struct{ Address, UI string }
	select {
	case text := <-line:
		if err := json.Unmarshal(text, &ready); err != nil {
			t.Fatalf("%s said %q in place of being ready\n%s", cmd, text, s.Log(t))
		}
	case <-time.After(patience):
		s.Kill(t)
		t.Fatalf("%s is not ready after %v\n%s", cmd, patience, s.Log(t))
	}
	s.UI = ready.UI
}

// Log is what the server has logged.
func (s *Server) Log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.StateDir, "engine.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (s *Server) end(t testing.TB, sig syscall.Signal) {
	t.Helper()
	// An error means that the process has ended already.
	_ = s.cmd.Process.Signal(sig)
	select {
	case <-s.exited:
	case <-time.After(patience):
		t.Fatalf("%s did not end after %v\n%s", s.cmd, sig, s.Log(t))
	}
}

// program finds the engine's binary.
func program(t testing.TB) string {
	t.Helper()
	if p := os.Getenv("HOLDFAST_ENGINE"); p != "" {
		return p
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		p := filepath.Join(dir, "bin", "holdfast-engine")
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	t.Fatal("bin/holdfast-engine is missing: run `make engine`, or name another one with HOLDFAST_ENGINE")
	return ""
}

func freeAddress(t testing.TB) (address, port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address = l.Addr().String()
	_, port, err = net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return address, port
}
