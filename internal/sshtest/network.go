package sshtest

import (
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
)

var networks atomic.Int32

// setApart makes a network namespace, which one link leads to. Its addresses
// come from a range for tests (RFC 2544).
func (s *Server) setApart(t testing.TB) {
	t.Helper()
	n := int(networks.Add(1))
	s.network = fmt.Sprintf("holdfast-ssh-%d-%d", os.Getpid(), n)
	at := (os.Getpid()*8 + n) % (1 << 15) * 4
	address := func(i int) string { return fmt.Sprintf("198.%d.%d.%d", 18+at>>16, at>>8&0xff, at&0xff+i) }
	s.address = address(2)
	s.ip(t, "netns", "add", s.network)
	t.Cleanup(func() {
		// The link goes with its namespace.
		s.ip(t, "netns", "del", s.network)
	})
	s.ip(t, "link", "add", s.link(), "type", "veth", "peer", "name", "eth0", "netns", s.network)
	s.ip(t, "addr", "add", address(1)+"/30", "dev", s.link())
	s.ip(t, "link", "set", s.link(), "up")
	s.ip(t, "-n", s.network, "addr", "add", s.address+"/30", "dev", "eth0")
	s.ip(t, "-n", s.network, "link", "set", "eth0", "up")
}

// link is our end of the way there; a name has 15 letters at most.
func (s *Server) link() string { return fmt.Sprintf("hf%d", s.Port) }

// SetLink cuts the network between the client and the daemon, or joins it again.
// Neither is told.
func (s *Server) SetLink(t testing.TB, up bool) {
	t.Helper()
	state := "down"
	if up {
		state = "up"
	}
	s.ip(t, "-n", s.network, "link", "set", "eth0", state)
}

// inNetwork are the arguments of ip that run a program in the namespace.
func (s *Server) inNetwork(program []string) []string {
	args := []string{"netns", "exec", s.network}
	if c := s.options.As; c != nil {
		args = append(args, "setpriv", fmt.Sprintf("--reuid=%d", c.Uid), fmt.Sprintf("--regid=%d", c.Gid), "--clear-groups")
	}
	return append(args, program...)
}

func (s *Server) ip(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Errorf("ip %v: %v: %s", args, err, out)
	}
}
