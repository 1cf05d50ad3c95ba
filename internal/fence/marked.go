package fence

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
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
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir, token, is := markOf(pid)
		if !is || !want(dir) {
			continue
		}
		start, err := command.StartTime(pid)
		if err != nil {
			continue // gone
		}
		if againDir, again, is := markOf(pid); !is || againDir != dir || again != token {
			continue // gone, and another one has its PID
		}
		name, _ := os.ReadFile("/proc/" + e.Name() + "/comm")
		out = append(out, Child{pid, start, dir, token, strings.TrimSpace(string(name))})
	}
	return out, nil
}

// markOf is the marker of a process, if it has one and we may read it.
func markOf(pid int) (dir, token string, is bool) {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil || !bytes.Contains(env, []byte(MarkerEnv)) {
		return "", "", false
	}
	for kv := range strings.SplitSeq(string(env), "\x00") {
		if mark, is := strings.CutPrefix(kv, MarkerEnv+"="); is {
			dir, token, _ := strings.Cut(mark, "|")
			return dir, token, true
		}
	}
	return "", "", false
}
