// Package supervise keeps a child process running: it starts it again when it
// dies, with a pause that grows while it dies young. Children are asked to stop
// when we are told to, and by the kernel when we die. What a child has detached
// is not touched. It knows nothing of what the children do.
package supervise

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Child is a process to keep running.
type Child struct {
	Path string
	Args []string
	// StopWithin is how long it may take to end after SIGTERM before it is killed.
	StopWithin time.Duration
	// FailFast gives up when the very first start ends at once by itself: then
	// something is wrong that another start does not cure.
	FailFast bool
	// Ended is told of every end that nobody asked for. It may be nil.
	Ended func(err error, pause time.Duration)
}

const (
	// youth is the age below which a child that ended has not worked at all.
	youth         = 5 * time.Second
	shortestPause = 100 * time.Millisecond
	longestPause  = 10 * time.Second
)

// Keep runs the child until ctx ends, and returns when it has ended. The error
// is that of a first start that failed.
func (c Child) Keep(ctx context.Context) error {
	// The kernel signals a parent's death when the thread that forked ends: this
	// thread lives as long as the child may.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pause := shortestPause
	for first := true; ; first = false {
		began := time.Now()
		err := c.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var exit *exec.ExitError
		byItself := !errors.As(err, &exit) || exit.Exited()
		if first && c.FailFast && byItself && time.Since(began) < youth {
			return err
		}
		if time.Since(began) > youth {
			pause = shortestPause
		}
		if c.Ended != nil {
			c.Ended(err, pause)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// once runs the child until it ends; when ctx ends it is asked to.
func (c Child) once(ctx context.Context) error {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	select {
	case err := <-exited:
		return err
	case <-ctx.Done():
	}
	// It may have ended meanwhile: then there is nobody to ask.
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-exited:
		return err
	case <-time.After(c.StopWithin):
		_ = cmd.Process.Kill()
		return <-exited
	}
}
