package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// ShimArg, as the first argument of one of our programs, makes it a shim: it
// runs a program, waits for it and records how it ended.
const ShimArg = "__holdfast-shim"

const (
	stateFile = "state.json"
	logFile   = "output.log"
)

// State is what is known of a detached program. It lives in the program's
// directory, and is complete or absent.
type State struct {
	ShimPID   int    `json:"shim_pid"`
	ShimStart uint64 `json:"shim_start"` // clock ticks since boot
	Boot      string `json:"boot"`
	PID       int    `json:"pid,omitempty"`
	Ended     bool   `json:"ended"`
	Code      int    `json:"code"`
	Signal    string `json:"signal,omitempty"`
}

// Detached is a program that outlives us.
type Detached struct{ dir string }

// Attach names the detached program of a directory, started or not.
func Attach(dir string) *Detached { return &Detached{dir} }

// LogPath is where the program's stdout and stderr go.
func (d *Detached) LogPath() string { return filepath.Join(d.dir, logFile) }

// Start runs a program below a shim in a session of its own. It returns once
// the state file exists.
func (d *Detached) Start(s Spec) error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fault.Wrap(fault.Internal, "create directory", d.dir, err)
	}
	self, err := os.Executable()
	if err != nil {
		return fault.Wrap(fault.Internal, "find", "our own program", err)
	}
	out, err := os.OpenFile(d.LogPath(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fault.Wrap(fault.Internal, "create", d.LogPath(), err)
	}
	defer out.Close()
	cmd := exec.Command(self, append([]string{ShimArg, d.dir, s.Path}, s.Args...)...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C"), s.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.Lease != nil {
		cmd.ExtraFiles = []*os.File{s.Lease}
	}
	if err := cmd.Start(); err != nil {
		return fault.Wrap(fault.Tool, "start", s.Path, err)
	}
	// Reaped here while we live, by init when we do not.
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if st, err := d.State(); err == nil && st != nil && st.ShimPID == cmd.Process.Pid {
			return nil
		}
		select {
		case <-exited:
			if st, err := d.State(); err == nil && st != nil {
				return nil
			}
			return fault.New(fault.Tool, "start", s.Path, "%s", d.Tail(2000))
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			return fault.New(fault.Internal, "start", s.Path, "no state file after 20 s")
		}
	}
}

// State reads what is known; nil when nothing was started.
func (d *Detached) State() (*State, error) {
	data, err := os.ReadFile(filepath.Join(d.dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var st State
	if err == nil {
		err = json.Unmarshal(data, &st)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "read", filepath.Join(d.dir, stateFile), err)
	}
	return &st, nil
}

// Alive reports whether the program may still be running: its shim is.
func (st *State) Alive() bool {
	if st == nil || st.Ended || st.Boot != BootID() {
		return false
	}
	start, err := StartTime(st.ShimPID)
	return err == nil && start == st.ShimStart
}

// Await returns when the program has ended, when ctx has, or after a while.
func (st *State) Await(ctx context.Context, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if err := st.awaitExit(ctx); err != nil {
		<-ctx.Done() // this kernel does not tell of it
	}
}

// awaitExit waits for the shim by pidfd_open(2), also when it is nobody's child here.
func (st *State) awaitExit(ctx context.Context) error {
	fd, err := unix.PidfdOpen(st.ShimPID, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	exit := os.NewFile(uintptr(fd), "pidfd")
	defer exit.Close()
	if !st.Alive() {
		return nil // the number may be another process's by now
	}
	readable, err := exit.SyscallConn()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = exit.SetReadDeadline(time.Unix(1, 0)) })()
	err = readable.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// Err is nil when the program ended well. A state that is gone says nothing.
func (st *State) Err(program, lastWords string) error {
	switch {
	case st == nil || !st.Ended:
		return &ExitError{Program: program, Code: -1, Signal: "a signal (nobody saw how it ended)", Stderr: lastWords}
	case st.Code == 0 && st.Signal == "":
		return nil
	}
	return &ExitError{Program: program, Code: st.Code, Signal: st.Signal, Stderr: lastWords}
}

// Kill ends the program and its shim, and waits until they are gone.
func (d *Detached) Kill(ctx context.Context) error {
	st, err := d.State()
	if err != nil || !st.Alive() {
		return err
	}
	// The shim leads a session and a process group that its children stay in.
	syscall.Kill(-st.ShimPID, syscall.SIGKILL)
	for st.Alive() {
		select {
		case <-ctx.Done():
			return fault.Wrap(fault.Cancelled, "end", fmt.Sprint("PID ", st.ShimPID), context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// Tail is the last n bytes of the program's output.
func (d *Detached) Tail(n int64) string {
	f, err := os.Open(d.LogPath())
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return ""
		}
	}
	b := make([]byte, n)
	m, _ := f.Read(b)
	return strings.TrimSpace(string(b[:m]))
}

// Shim is the life of a shim: main calls it when os.Args[1] is ShimArg, with
// the arguments after it, and exits with its result.
func Shim(args []string) int {
	if len(args) < 2 {
		return 2
	}
	dir, program := args[0], args[1]
	st := State{ShimPID: os.Getpid(), Boot: BootID()}
	st.ShimStart, _ = StartTime(st.ShimPID)
	save := func() bool {
		data, err := json.Marshal(st)
		if err == nil {
			err = atomicfile.Write(filepath.Join(dir, stateFile), data, 0o600)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return err == nil
	}
	cmd := exec.Command(program, args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// The lease, if any, is file 3 here, and so it is in the child.
	if f := os.NewFile(3, "lease"); f != nil {
		if _, err := f.Stat(); err == nil {
			cmd.ExtraFiles = []*os.File{f}
		}
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		st.Ended, st.Code = true, 127
		save()
		return 127
	}
	st.PID = cmd.Process.Pid
	if !save() {
		syscall.Kill(cmd.Process.Pid, syscall.SIGKILL)
	}
	err := cmd.Wait()
	st.Ended = true
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		st.Code = exit.ExitCode()
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			st.Signal = ws.Signal().String()
		}
	} else if err != nil {
		st.Code = 126
	}
	if !save() {
		return 1
	}
	return 0
}
