package stacktest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"testing"
)

// Faults is told when a worker reaches a kill point: its role, its PID, and the
// point's name ("before:StopBackup", "file:rename:claim.json"). The worker
// waits until it returns, and may be dead then. It is called by several
// goroutines.
type Faults func(role string, pid int, point string)

type listener struct {
	path string
	l    net.Listener
}

// listen serves the socket that workers announce their kill points on.
func listen(t testing.TB, path string, faults Faults) *listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	must(t, err)
	must(t, os.Chmod(path, 0o777))
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answer(c, faults)
		}
	}()
	return &listener{path: path, l: l}
}

func answer(c net.Conn, faults Faults) {
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return
	}
	var role, point string
	var pid int
	if _, err := fmt.Sscanf(line, "%s %d %s", &role, &pid, &point); err != nil {
		return
	}
	faults(role, pid, point)
	// A worker that was killed meanwhile reads nothing.
	_, _ = fmt.Fprintln(c, "go")
}
