// Package sshtest runs a real sshd for tests, on a free port and with keys of its
// own, and takes away what it serves: the daemon, its connections, the network. Nothing but tests imports it.
package sshtest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// program is Debian's; make testbed installs it.
const program = "/usr/sbin/sshd"

// patience bounds every wait for sshd.
const patience = time.Minute

// Options describe a daemon.
type Options struct {
	As          *syscall.Credential // nil: as whoever runs the test
	MaxSessions int                 // of a connection; 0 for OpenSSH's default
	Noise       string              // what the login shell prints before anything else
	Path        string              // PATH of the login shell; "" for that of the test
	Config      []string            // further lines of ssh_config, the client's
	Apart       bool                // behind a network of its own, see SetLink; needs root
}

// Server is a daemon and the files of its client.
type Server struct {
	Dir  string
	Port int

	options  Options
	address  string
	network  string // name of its network namespace; "" for ours
	listener *exec.Cmd
}

// Start runs a daemon until the end of the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("%v: run `make testbed`", err)
	}
	s := &Server{Dir: pgtest.Dir(t), Port: pgtest.FreePort(t), options: o, address: "127.0.0.1"}
	if o.Apart {
		s.setApart(t)
	}
	s.makeKey(t, "host")
	s.makeKey(t, "client")
	s.write(t, "authorized_keys", s.read(t, "client.pub"))
	s.configure(t)
	s.Trust(t)
	t.Cleanup(func() { s.Kill(t) })
	s.Up(t)
	return s
}

// Command is an ssh_command that leads to the daemon.
func (s *Server) Command() string { return "ssh -F " + filepath.Join(s.Dir, "ssh_config") + " cluster" }

func (s *Server) configure(t testing.TB) {
	t.Helper()
	daemon := []string{
		fmt.Sprintf("Port %d", s.Port), "ListenAddress " + s.address, "HostKey " + filepath.Join(s.Dir, "host"), "PidFile none",
		"AuthorizedKeysFile " + filepath.Join(s.Dir, "authorized_keys"), "StrictModes no", "UsePAM no", "PasswordAuthentication no",
		"KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password", "MaxStartups 100",
	}
	if s.options.MaxSessions > 0 {
		daemon = append(daemon, fmt.Sprintf("MaxSessions %d", s.options.MaxSessions))
	}
	shell := "/bin/sh -c \"$SSH_ORIGINAL_COMMAND\""
	if s.options.Noise != "" {
		shell = "echo '" + s.options.Noise + "'; " + shell
	}
	if s.options.Path != "" {
		shell = "PATH=" + s.options.Path + "; export PATH; " + shell
	}
	if shell[0] != '/' {
		daemon = append(daemon, "ForceCommand "+shell)
	}
	s.write(t, "sshd_config", strings.Join(daemon, "\n")+"\n")
	client := append([]string{
		"Host cluster", "HostName " + s.address, fmt.Sprintf("Port %d", s.Port), "User " + s.user(t), "IdentityFile " + filepath.Join(s.Dir, "client"),
		"IdentitiesOnly yes", "UserKnownHostsFile " + filepath.Join(s.Dir, "known_hosts"), "StrictHostKeyChecking yes",
	}, s.options.Config...)
	s.write(t, "ssh_config", strings.Join(client, "\n")+"\n")
}

func (s *Server) user(t testing.TB) string {
	t.Helper()
	uid := os.Getuid()
	if s.options.As != nil {
		uid = int(s.options.As.Uid)
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	must(t, err)
	return u.Username
}

// NewHostKey gives the daemon another key from its next start on.
func (s *Server) NewHostKey(t testing.TB) {
	t.Helper()
	must(t, os.Remove(filepath.Join(s.Dir, "host")))
	s.makeKey(t, "host")
}

// Trust lets the client know the daemon's key.
func (s *Server) Trust(t testing.TB) {
	t.Helper()
	fields := strings.Fields(s.read(t, "host.pub"))
	s.write(t, "known_hosts", fmt.Sprintf("[%s]:%d %s %s\n", s.address, s.Port, fields[0], fields[1]))
}

// Refuse lets the daemon forget the client's key.
func (s *Server) Refuse(t testing.TB) {
	t.Helper()
	s.write(t, "authorized_keys", "")
}

// Up starts the daemon, if it does not run.
func (s *Server) Up(t testing.TB) {
	t.Helper()
	if s.options.As == nil && os.Getuid() == 0 {
		must(t, os.MkdirAll("/run/sshd", 0o755))
	}
	log, err := os.OpenFile(filepath.Join(s.Dir, "sshd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(t, err)
	defer log.Close()
	daemon := []string{program, "-D", "-e", "-f", filepath.Join(s.Dir, "sshd_config")}
	s.listener = exec.Command(daemon[0], daemon[1:]...)
	s.listener.SysProcAttr = &syscall.SysProcAttr{Credential: s.options.As}
	if s.network != "" {
		s.listener = exec.Command("ip", s.inNetwork(daemon)...)
	}
	s.listener.Stdout, s.listener.Stderr, s.listener.Dir = log, log, s.Dir
	must(t, s.listener.Start())
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", net.JoinHostPort(s.address, strconv.Itoa(s.Port)))
		if err == nil {
			must(t, c.Close())
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshd does not listen: %v\n%s", err, s.read(t, "sshd.log"))
		}
	}
}

// Kill ends the daemon and its connections, without a word to anybody.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if s.listener == nil {
		return
	}
	all := s.connections(t)
	if err := s.listener.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	_ = s.listener.Wait()
	s.listener = nil
	for _, pid := range all {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// Cut ends the connections and returns how many processes served them; the
// daemon takes new ones.
func (s *Server) Cut(t testing.TB) int { return s.signal(t, unix.SIGKILL) }

// Freeze lets the connections that there are look as if the network between was
// gone: nothing comes through and nothing is told. They are gone for good.
func (s *Server) Freeze(t testing.TB) int {
	t.Helper()
	pids := s.connections(t)
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
	return s.signal(t, unix.SIGSTOP)
}

func (s *Server) signal(t testing.TB, signal syscall.Signal) int {
	t.Helper()
	pids := s.connections(t)
	for _, pid := range pids {
		_ = unix.Kill(pid, signal)
	}
	return len(pids)
}

// connections are the processes of sshd that serve a connection.
func (s *Server) connections(t testing.TB) []int {
	t.Helper()
	if s.listener == nil {
		return nil
	}
	children := map[int][]int{}
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	for _, path := range paths {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // gone
		}
		// "PID (name) state PPID"; the name is sshd or begins with it.
		name, rest, _ := bytes.Cut(stat, []byte(") "))
		var state string
		var pid, parent int
		if _, err := fmt.Sscan(string(rest), &state, &parent); err != nil || !bytes.Contains(name, []byte("(sshd")) {
			continue
		}
		if _, err := fmt.Sscan(string(name), &pid); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	var out []int
	for next := children[s.listener.Process.Pid]; len(next) > 0; {
		pid := next[0]
		out, next = append(out, pid), append(next[1:], children[pid]...)
	}
	return out
}

func (s *Server) makeKey(t testing.TB, name string) {
	t.Helper()
	cmd := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(s.Dir, name))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.options.As}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func (s *Server) write(t testing.TB, name, text string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o644))
}

func (s *Server) read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Dir, name))
	must(t, err)
	return string(text)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
