package ssh

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// longest is the length of a socket's path that leaves ssh room for the suffix
// that it adds while it makes it (unix(7): 108 bytes).
const longest = 85

const socketPrefix = "holdfast-ssh-"

func (l *Link) socket() string { return filepath.Join(l.dir, "s") }

// socketDir makes a directory that nobody else can enter, and removes those of
// processes that were killed. It is "" where the path would be too long.
func socketDir() (string, error) {
	leftovers, _ := filepath.Glob(filepath.Join(os.TempDir(), socketPrefix+"*"))
	for _, dir := range leftovers {
		var pid int
		var start uint64
		if n, _ := fmt.Sscanf(filepath.Base(dir), socketPrefix+"%d-%d-", &pid, &start); n == 2 && !command.Running(pid, start) {
			_ = os.RemoveAll(dir)
		}
	}
	start, err := command.StartTime(os.Getpid())
	if err != nil {
		return "", fault.Wrap(fault.Internal, "read", "our own start time", err)
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-%d-", socketPrefix, os.Getpid(), start))
	if err != nil {
		return "", fault.Wrap(fault.Internal, "create directory", os.TempDir(), err)
	}
	if len(dir) > longest {
		return "", os.Remove(dir)
	}
	return dir, nil
}
