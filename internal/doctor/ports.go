package doctor

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// portHeld reports whether some process of this host has a connection from a
// local port (proc(5), /proc/net/tcp). What the kernel still does for a process
// that has ended has no inode.
func portHeld(port int) (bool, error) {
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return false, fault.Wrap(fault.Internal, "list connections", path, err)
		}
		held, err := listsPort(bufio.NewScanner(f), port)
		f.Close()
		if err != nil {
			return false, fault.Wrap(fault.Internal, "list connections", path, err)
		}
		if held {
			return true, nil
		}
	}
	return false, nil
}

const listening = "0A"

func listsPort(sc *bufio.Scanner, port int) (bool, error) {
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 10 || f[3] == listening || f[9] == "0" {
			continue
		}
		_, hex, _ := strings.Cut(f[1], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil && int(n) == port {
			return true, nil
		}
	}
	return false, sc.Err()
}
