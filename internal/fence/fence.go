// Package fence keeps a writer that everybody believes dead from changing what
// its successor writes.
//
// Whoever writes into a backup claims its working directory first. A newer
// claim supersedes an older one: the older writer's next write is refused, and
// its children are ended, or adopted by a claim of the same attempt that asks
// for it. A write happens under a shared flock, checked against the claim; a
// claim takes the lock exclusively once, so that no write of the predecessor is
// in flight any more when it returns. A predecessor that is frozen inside a
// write, or while it starts a child, is killed. It is not the backup lock, which
// keeps two backups of one server apart.
package fence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

const (
	claimFile = "claim.json"
	mutexFile = "claim.lock"
	writeLock = "write.lock" // shared by writes of ours
	childLock = "child.lock" // shared by children that write

	// MarkerEnv is in the environment of every child that writes; its value is
	// the directory and the claim, so that a successor finds it.
	MarkerEnv = "HOLDFAST_FENCE"
)

// Claim is a writer's right to write. A higher Attempt, and within it a higher
// Activity, is newer.
type Claim struct {
	Attempt   int    `json:"attempt"`
	Activity  int    `json:"activity"`
	Token     string `json:"token"` // unique to the writer
	Host      string `json:"host"`
	PID       int    `json:"pid"`
	StartTime uint64 `json:"start_time"`
	Adopt     bool   `json:"adopt,omitempty"` // keep the children of older claims of the same attempt
}

func (c Claim) newerThan(o Claim) bool {
	if c.Attempt != o.Attempt {
		return c.Attempt > o.Attempt
	}
	return c.Activity > o.Activity
}

// Fence is a held claim.
type Fence struct {
	dir   string
	claim Claim
}

// grace is how long a predecessor may take to finish a write before it is killed.
const grace = 10 * time.Second

// Take claims dir. It refuses with fault.Superseded when a newer claim exists,
// ends or adopts children of older claims, and returns when no write of theirs
// is left. The same claim may be taken again.
func Take(ctx context.Context, dir string, c Claim) (*Fence, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fault.Wrap(fault.Internal, "create directory", dir, err)
	}
	c.Host, _ = os.Hostname()
	c.PID = os.Getpid()
	c.StartTime, _ = command.StartTime(c.PID)
	f := &Fence{dir: dir, claim: c}
	older, err := f.record(ctx)
	if err != nil {
		return nil, err
	}
	if !c.Adopt || older.Attempt != c.Attempt {
		if err := f.drain(ctx, childLock, older, f.killStrays); err != nil {
			return nil, err
		}
	}
	return f, f.drain(ctx, writeLock, older, func() error { return nil })
}

// record writes the claim by compare and set, and returns the one before.
func (f *Fence) record(ctx context.Context) (older Claim, err error) {
	m, err := lock(ctx, filepath.Join(f.dir, mutexFile), unix.LOCK_EX)
	if err != nil {
		return older, err
	}
	defer m.Close()
	current, err := f.current()
	if err != nil {
		return older, err
	}
	if current.newerThan(f.claim) || (!f.claim.newerThan(current) && current.Token != "" && current.Token != f.claim.Token) {
		return older, f.superseded(current)
	}
	data, err := json.Marshal(f.claim)
	if err != nil {
		return older, fault.Wrap(fault.Internal, "encode claim", f.dir, err)
	}
	return current, atomicfile.Write(filepath.Join(f.dir, claimFile), data, 0o600)
}

func (f *Fence) superseded(by Claim) error {
	return fault.New(fault.Superseded, "write to", f.dir, "attempt %d.%d was superseded by %d.%d", f.claim.Attempt, f.claim.Activity, by.Attempt, by.Activity)
}

func (f *Fence) current() (Claim, error) {
	var c Claim
	data, err := os.ReadFile(filepath.Join(f.dir, claimFile))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	return c, fault.Wrap(fault.Corrupt, "read claim", f.dir, err)
}

// drain waits until nobody shares a lock; before each try it calls press. An
// older writer that still has the lock open after the grace period is killed.
func (f *Fence) drain(ctx context.Context, name string, older Claim, press func() error) error {
	path := filepath.Join(f.dir, name)
	for began := time.Now(); ; {
		if err := press(); err != nil {
			return err
		}
		l, err := tryLock(path, unix.LOCK_EX)
		if err == nil {
			return l.Close()
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fault.Wrap(fault.Internal, "lock", path, err)
		}
		waited := time.Since(began)
		if waited > grace && f.holds(older, path) {
			_ = unix.Kill(older.PID, unix.SIGKILL)
		}
		if waited > 3*grace {
			return fault.New(fault.Internal, "fence", f.dir, "a writer of an earlier attempt does not end").
				WithHint("find it with: fuser -v %s", path)
		}
		select {
		case <-ctx.Done():
			return fault.Wrap(fault.Cancelled, "fence", f.dir, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// holds says whether the process of a claim, and no other that reused its PID,
// has a file of this host open. Our own process never counts.
func (f *Fence) holds(c Claim, path string) bool {
	if c.Host != f.claim.Host || c.PID == f.claim.PID || !command.Running(c.PID, c.StartTime) {
		return false
	}
	want, err := os.Stat(path)
	if err != nil {
		return false
	}
	fds := fmt.Sprintf("/proc/%d/fd", c.PID)
	entries, err := os.ReadDir(fds)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if is, err := os.Stat(filepath.Join(fds, e.Name())); err == nil && os.SameFile(is, want) {
			return true
		}
	}
	return false
}

// Marker is the environment entry that a child of this claim carries.
func (f *Fence) Marker() string { return MarkerEnv + "=" + f.marker() }

func (f *Fence) marker() string { return f.dir + "|" + f.claim.Token }

// killStrays ends every process on this host that carries a marker of another
// claim on this directory.
func (f *Fence) killStrays() error {
	pids, err := Marked(f.dir)
	if err != nil {
		return err
	}
	for pid, token := range pids {
		if token != f.claim.Token && pid != os.Getpid() {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	return nil
}

// Do runs one write under the fence. It refuses when the claim was superseded.
func (f *Fence) Do(write func() error) error {
	l, err := f.share(writeLock)
	if err != nil {
		return err
	}
	defer l.Close()
	return write()
}

// Lease returns an open file that keeps successors waiting until it is closed,
// by us and by every child that inherits it.
func (f *Fence) Lease() (*os.File, error) { return f.share(childLock) }

func (f *Fence) share(name string) (*os.File, error) {
	path := filepath.Join(f.dir, name)
	l, err := lock(context.Background(), path, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	current, err := f.current()
	if err == nil && current.Token != f.claim.Token {
		err = f.superseded(current)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func tryLock(path string, how int) (*os.File, error) {
	l, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(l.Fd()), how|unix.LOCK_NB); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// lock waits for a lock that is only ever held for a moment.
func lock(ctx context.Context, path string, how int) (*os.File, error) {
	for {
		l, err := tryLock(path, how)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fault.Wrap(fault.Internal, "lock", path, err)
		}
		select {
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Cancelled, "lock", path, context.Cause(ctx))
		case <-time.After(time.Millisecond):
		}
	}
}
