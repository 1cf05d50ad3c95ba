// Package command runs the programs that Holdfast drives: rsync and the tools
// of PostgreSQL.
//
// Run is for children that end with us; Detached is for a program that cannot
// resume and must outlive the process that started it. Arguments never go
// through a shell, and secrets never go into arguments.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Find looks a program up in pathPrefix (a PATH-like list) and in PATH.
func Find(name, pathPrefix string) (string, error) {
	for _, dir := range filepath.SplitList(pathPrefix + string(filepath.ListSeparator) + os.Getenv("PATH")) {
		if dir == "" {
			continue
		}
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fault.New(fault.Tool, "find program", name, "it is neither in path_prefix (%s) nor in PATH (%s)", pathPrefix, os.Getenv("PATH")).
		WithHint("install it, or set path_prefix in the configuration to its directory")
}

// Sibling is a program of ours, which is installed beside the one that runs.
func Sibling(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fault.Wrap(fault.Internal, "find", "our own program", err)
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return "", fault.New(fault.Tool, "find program", path, "it is not there").WithHint("install it beside %s; make build puts all into bin/", filepath.Base(self))
	}
	return path, nil
}

// Spec is a program to run.
type Spec struct {
	Path   string
	Args   []string
	Env    []string // added to ours
	Stdin  io.Reader
	Stdout io.Writer
	Lease  *os.File // inherited, so that successors wait for the child; Run closes it on our side
}

// ExitError is a program that ended with an error.
type ExitError struct {
	Program string
	Code    int // -1 when a signal ended it
	Signal  string
	Stderr  string // its last words
}

func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit code %d", e.Code)
	if e.Signal != "" {
		how = "ended by " + e.Signal
	}
	text := filepath.Base(e.Program) + ": " + how
	if s := strings.TrimSpace(e.Stderr); s != "" {
		text += ": " + s
	}
	return text
}

// Run starts a program in a process group of its own and waits for it. When
// ctx ends the whole group is killed; when we die, the program is.
func Run(ctx context.Context, s Spec) error {
	// Pdeathsig is bound to the thread that forks.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var stderr Tail
	cmd := exec.CommandContext(ctx, s.Path, s.Args...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C"), s.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.Stdin, s.Stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if s.Lease != nil {
		cmd.ExtraFiles = []*os.File{s.Lease}
	}
	err := cmd.Start()
	if s.Lease != nil {
		s.Lease.Close()
	}
	if err == nil {
		err = cmd.Wait()
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fault.Wrap(fault.Cancelled, "run", filepath.Base(s.Path), context.Cause(ctx))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		e := &ExitError{Program: s.Path, Code: exit.ExitCode(), Stderr: stderr.String()}
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Signal = ws.Signal().String()
		}
		return e
	}
	return fault.Wrap(fault.Tool, "run", s.Path, err)
}

// Output runs a short program and returns what it prints.
func Output(ctx context.Context, path string, args ...string) (string, error) {
	var out bytes.Buffer
	err := Run(ctx, Spec{Path: path, Args: args, Stdout: &out})
	return out.String(), err
}

// Tail keeps the last 8 KiB of what a program says.
type Tail struct{ b []byte }

// Write implements io.Writer.
func (t *Tail) Write(p []byte) (int, error) {
	const limit = 8 << 10
	t.b = append(t.b, p...)
	if len(t.b) > limit {
		t.b = t.b[len(t.b)-limit:]
	}
	return len(p), nil
}

// String is what was kept.
func (t *Tail) String() string { return string(t.b) }
