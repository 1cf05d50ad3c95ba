package fence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Child is a process of this host that was started to write under a claim.
type Child struct {
	PID       int
	StartTime uint64
	Dir       string // that was claimed
	Token     string
	Name      string // of the program
}

// Running reports whether the process is alive.
func (c Child) Running() bool { return command.Running(c.PID, c.StartTime) }

// Kill ends the process, and no other that has got its PID since.
func (c Child) Kill() error {
	p, err := os.FindProcess(c.PID) // from here on this process, whatever becomes of its PID
	if err != nil || !c.Running() {
		return nil
	}
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fault.Wrap(fault.Permission, "end process", fmt.Sprint(c.PID), err)
	}
	return nil
}

// Marked lists the processes of this host that were started as children of a
// claim on dir, with the claim's token.
func Marked(dir string) (map[int]string, error) {
	children, err := marked(func(d string) bool { return d == dir })
	out := map[int]string{}
	for _, c := range children {
		out[c.PID] = c.Token
	}
	return out, err
}

// MarkedBelow lists the processes of this host that were started as children of
// claims on directories below one.
func MarkedBelow(dir string) ([]Child, error) {
	return marked(func(d string) bool { return strings.HasPrefix(d, filepath.Clean(dir)+"/") })
}

func marked(want func(dir string) bool) ([]Child, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "list processes", "/proc", err)
	}
	var out []Child
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil {
			continue
		}
		start, err := command.StartTime(pid)
		if err != nil {
			continue // gone
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err != nil {
			continue // gone, or not ours
		}
		for _, kv := range strings.Split(string(env), "\x00") {
			mark, is := strings.CutPrefix(kv, MarkerEnv+"=")
			dir, token, _ := strings.Cut(mark, "|")
			if is && want(dir) {
				name, _ := os.ReadFile("/proc/" + e.Name() + "/comm")
				out = append(out, Child{pid, start, dir, token, strings.TrimSpace(string(name))})
			}
		}
	}
	return out, nil
}
