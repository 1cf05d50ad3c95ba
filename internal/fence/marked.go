package fence

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// execution is how long a program may take from its start until the kernel shows
// its arguments, on a host that swaps; there are programs that have none.
const execution = time.Second

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
	for kv := range bytes.SplitSeq(environ(pid), []byte{0}) {
		if mark, is := bytes.CutPrefix(kv, []byte(MarkerEnv+"=")); is {
			dir, token, _ := strings.Cut(string(mark), "|")
			return dir, token, true
		}
	}
	return "", "", false
}

// environ is the environment that a process was started with; empty where we
// may not read it. A program that is just being executed shows none for some
// microseconds, and is waited for.
func environ(pid int) []byte {
	proc := fmt.Sprintf("/proc/%d/", pid)
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		env, err := os.ReadFile(proc + "environ")
		if err != nil || len(env) > 0 || time.Since(began) > execution {
			return env
		}
		// What has ended and threads of the kernel have no executable file.
		if _, err := os.Readlink(proc + "exe"); err != nil {
			return nil
		}
		// The arguments are shown from the same moment on.
		if args, err := os.ReadFile(proc + "cmdline"); err != nil || len(args) > 0 {
			env, _ = os.ReadFile(proc + "environ")
			return env
		}
	}
}
