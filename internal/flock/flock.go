// Package flock takes lock files as Barman takes them: an flock on a file of
// mode 0600 that holds the owner's PID and a newline, so that Barman and
// Holdfast keep each other out. It knows no lock's name or purpose.
package flock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Lock is a held lock. It lasts until it is released and every child that
// inherited File has ended.
type Lock struct{ f *os.File }

// File is what a child inherits to keep the lock.
func (l *Lock) File() *os.File { return l.f }

// NameOwner writes another owner into the lock file: a child that inherits the
// lock and keeps it when we let go.
func (l *Lock) NameOwner(pid int) error {
	return fault.Wrap(fault.Internal, "write", l.f.Name(), sign(l.f, pid))
}

// Release lets go. The file stays, as Barman leaves it.
func (l *Lock) Release() error { return l.f.Close() }

// Discard lets go of a lock that nobody needs any more, and removes its file.
// Whoever opened the file meanwhile finds out and makes a new one.
func (l *Lock) Discard() error {
	if err := os.Remove(l.f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fault.Wrap(fault.Internal, "remove", l.f.Name(), err), l.Release())
	}
	return l.Release()
}

// Try takes the lock, or refuses at once and names its owner.
func Try(path string) (*Lock, error) { return once(path, unix.LOCK_EX) }

// TryShared takes the lock together with others that share it; it keeps out
// whoever wants it alone.
func TryShared(path string) (*Lock, error) { return once(path, unix.LOCK_SH) }

func once(path string, how int) (*Lock, error) {
	l, err := try(path, how)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fault.New(fault.Refused, "lock", path, "%s", owner(path)).
			WithHint("wait until it has finished; fuser -v %s shows who holds the lock", path)
	}
	return l, fault.Wrap(fault.Internal, "lock", path, err)
}

// Wait takes the lock as soon as it is free.
func Wait(ctx context.Context, path string) (*Lock, error) { return wait(ctx, path, unix.LOCK_EX) }

// WaitShared takes the lock together with others that share it, as soon as
// nobody has it alone.
func WaitShared(ctx context.Context, path string) (*Lock, error) {
	return wait(ctx, path, unix.LOCK_SH)
}

// Observe keeps out whoever takes the lock alone, and leaves no trace: the file
// is neither written nor made. Without a file nobody holds the lock. The caller
// calls end.
func Observe(ctx context.Context, path string) (end func(), err error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return func() {}, nil
		}
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "lock", path, err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		if err == nil && same(f, path) {
			return func() { f.Close() }, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fault.Wrap(fault.Internal, "lock", path, err)
		}
		select {
		case <-ctx.Done():
			return nil, awaited(ctx, path)
		case <-time.After(pause):
		}
	}
}

// Held finds out who holds a lock, in words, "" when nobody does. It leaves no
// trace, but may for a moment be in the way of others; the answer may be old
// when it arrives.
func Held(path string) (string, error) {
	held, err := isHeld(path)
	if !held || err != nil {
		return "", err
	}
	return owner(path), nil
}

// Owner is the process that a lock's file names, and whether the lock is held
// at all; 0 is a process that is not known. It is as fleeting as Held.
func Owner(path string) (pid int, held bool, err error) {
	held, err = isHeld(path)
	if !held || err != nil {
		return 0, false, err
	}
	pid, _ = named(path) // whoever takes a lock names itself a moment later
	return pid, true, nil
}

func isHeld(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fault.Wrap(fault.Internal, "lock", path, err)
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, fault.Wrap(fault.Internal, "lock", path, err)
}

func awaited(ctx context.Context, path string) error {
	return fault.New(fault.Refused, "lock", path, "%s, and waiting for it ended: %w", owner(path), context.Cause(ctx)).
		WithHint("fuser -v %s shows who holds the lock", path)
}

func wait(ctx context.Context, path string, how int) (*Lock, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		l, err := try(path, how)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return l, fault.Wrap(fault.Internal, "lock", path, err)
		}
		select {
		case <-ctx.Done():
			return nil, awaited(ctx, path)
		case <-time.After(pause):
		}
	}
}

func try(path string, how int) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, err
		}
		// Barman's cron deletes lock files; a lock on a deleted one is worth nothing.
		if same(f, path) {
			if err := sign(f, os.Getpid()); err != nil {
				f.Close()
				return nil, err
			}
			return &Lock{f}, nil
		}
		f.Close()
	}
}

func same(f *os.File, path string) bool {
	held, err1 := f.Stat()
	named, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(held, named)
}

func sign(f *os.File, pid int) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(pid)+"\n"), 0)
	return err
}

// owner describes who holds a lock.
func owner(path string) string {
	pid, err := named(path)
	if err != nil {
		return "it is held by another process"
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return fmt.Sprintf("it was taken by process %d, which has ended, and is held by a child of that process", pid)
	}
	return fmt.Sprintf("it is held by process %d (%s)", pid, strings.TrimSpace(string(comm)))
}

// named is the process that a lock file names.
func named(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
