package walreceive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/flock"
)

// Slots makes sure that the replication slot of a server's settings exists.
type Slots func(context.Context, *config.Server) error

// Receiver is the pg_receivewal of one server, whether it runs or not.
type Receiver struct {
	name     string
	settings *config.Server // nil when the configuration does not know the server
	dir      string
	program  *command.Detached
}

const (
	runDir     = "run"     // of the process
	stoppedTag = "stopped" // a file that says that nobody but a person may start it
)

// stateDir holds what is known of all receivers, a directory each.
func stateDir(state string) string { return filepath.Join(state, "receive-wal") }

// Of names the receiver of a server; it starts nothing. State is the directory
// of what outlives a process.
func Of(s *config.Server, state string) *Receiver {
	r := remembered(s.Name, state)
	r.settings = s
	return r
}

// remembered is a receiver of which only its state is known.
func remembered(name, state string) *Receiver {
	dir := filepath.Join(stateDir(state), name)
	return &Receiver{name: name, dir: dir, program: command.Attach(filepath.Join(dir, runDir))}
}

// Start starts pg_receivewal. While one runs, ours or Barman's, it is refused.
// A program that ends at once is no error here: see Failure.
func (r *Receiver) Start(ctx context.Context, slots Slots) error {
	s := r.settings
	if !s.StreamingArchiver {
		return fault.New(fault.Config, "receive WAL of", s.Name, "streaming_archiver is off").
			WithHint("set streaming_archiver = on in section [%s]", s.Name)
	}
	path, _, err := Find(ctx, s.PathPrefix)
	if err != nil {
		return err
	}
	args, env, err := invocation(s)
	if err != nil {
		return err
	}
	layout := catalog.LayoutOf(s)
	if err := layout.EnsureDirs(); err != nil {
		return err
	}
	lock, err := r.lock(ctx, layout)
	if err != nil {
		return err
	}
	defer lock.Release()
	if s.SlotName != "" && s.CreateSlot == "auto" {
		if err := slots(ctx, s); err != nil {
			return err
		}
	}
	// Nobody works here while we have the lock: what is left is of an earlier run.
	if err := os.RemoveAll(filepath.Join(r.dir, runDir)); err != nil {
		return fault.Wrap(fault.Internal, "clear", r.dir, err)
	}
	if err := r.program.Start(command.Spec{Path: path, Args: args, Env: env, Lease: lock.File()}); err != nil {
		return err
	}
	st, err := r.program.State()
	if err != nil || st == nil {
		return err
	}
	return lock.NameOwner(st.PID)
}

// lock takes the lock. The shim of a process that has just ended still holds it
// for a moment.
func (r *Receiver) lock(ctx context.Context, layout catalog.Layout) (*flock.Lock, error) {
	for deadline := time.Now().Add(time.Second); ; {
		lock, err := layout.LockReceiving()
		st, _ := r.program.State()
		if err == nil || !fault.Is(err, fault.Refused) || st == nil || !st.Ended || time.Now().After(deadline) {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ours is the PID of the process that we started, if it lives, else 0. Its shim
// may be dead: then nobody sees how it ends.
func (r *Receiver) ours() (int, error) {
	st, err := r.program.State()
	if err != nil || st == nil || st.Ended || st.Boot != command.BootID() {
		return 0, err
	}
	if st.Alive() || filepath.Base(cmdline(st.PID)[0]) == program {
		return st.PID, nil
	}
	return 0, nil
}

// cmdline is the command line of a process; a process that has ended has an
// empty word.
func cmdline(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return []string{""}
	}
	return strings.Split(string(bytes.TrimSuffix(text, []byte{0})), "\x00")
}

// Process is the process that receives, and whether there is one; its PID is 0
// when it is not known. It may be Barman's.
func (r *Receiver) Process() (pid int, running bool, err error) {
	pid, err = r.ours()
	if err != nil || pid != 0 || r.settings == nil {
		return pid, pid != 0, err
	}
	pid, running, err = catalog.LayoutOf(r.settings).Receiver()
	if st, _ := r.program.State(); st != nil && st.Ended && pid == st.PID {
		return 0, false, err // its shim is about to let go of the lock
	}
	return pid, running, err
}

// Outdated reports whether what runs was started by us with other settings than
// those that the server has now.
func (r *Receiver) Outdated() bool {
	pid, err := r.ours()
	if err != nil || pid == 0 {
		return false
	}
	args, _, err := invocation(r.settings)
	if err != nil {
		return false
	}
	runs := cmdline(pid)
	return filepath.Base(runs[0]) == program && !slices.Equal(runs[1:], args)
}

// Failure is why the latest run of ours ended; nil when it runs, ended well or
// was never started.
func (r *Receiver) Failure() error {
	st, err := r.program.State()
	if err != nil {
		return err
	}
	if pid, _ := r.ours(); st == nil || pid != 0 {
		return nil
	}
	said := r.program.Tail(8 << 10)
	if err := st.Err(program, said); err != nil {
		return explain(r.name, said, err)
	}
	return nil
}

const (
	// stopsWithin is how long pg_receivewal may take to flush and end.
	stopsWithin = 30 * time.Second
	askEvery    = 500 * time.Millisecond
)

// Stop ends the process that receives, Barman's too, and returns when nobody
// has the lock any more. What was received is flushed first.
func (r *Receiver) Stop(ctx context.Context) error {
	began, asked := time.Now(), time.Time{}
	for {
		pid, running, err := r.Process()
		if err != nil || !running {
			return err
		}
		// It misses a signal that comes just before it waits for WAL.
		if time.Since(asked) > askEvery && receives(pid) {
			_ = unix.Kill(pid, unix.SIGINT) // it may have ended meanwhile
			asked = time.Now()
		}
		if time.Since(began) > stopsWithin {
			return r.kill(ctx, pid)
		}
		select {
		case <-ctx.Done():
			return fault.Wrap(fault.Cancelled, "end", fmt.Sprint("PID ", pid), context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (r *Receiver) kill(ctx context.Context, pid int) error {
	ours, err := r.ours()
	if err != nil {
		return err
	}
	if ours == pid {
		_ = unix.Kill(pid, unix.SIGKILL) // it may have ended meanwhile
		return r.program.Kill(ctx)
	}
	return fault.New(fault.Refused, "end", fmt.Sprintf("the receiver of %s, PID %d", r.name, pid), "it does not end within %s", stopsWithin).
		WithHint("look at the process; kill -9 forces it")
}

// receives makes sure that a PID is still that of a receiver: ours or Barman's.
func receives(pid int) bool {
	text := strings.Join(cmdline(pid), " ")
	return strings.Contains(text, program) || strings.Contains(text, "receive-wal")
}

// Wait returns when ctx ends, or earlier when the process that we started has
// ended, and why.
func (r *Receiver) Wait(ctx context.Context) error {
	for {
		if pid, err := r.ours(); err != nil || pid == 0 {
			return errors.Join(err, r.Failure())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Forbid keeps a Tender from starting it, until Permit.
func (r *Receiver) Forbid() error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fault.Wrap(fault.Internal, "create directory", r.dir, err)
	}
	return atomicfile.Write(filepath.Join(r.dir, stoppedTag), nil, 0o600)
}

// Permit undoes Forbid.
func (r *Receiver) Permit() error {
	err := os.Remove(filepath.Join(r.dir, stoppedTag))
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fault.Wrap(fault.Internal, "remove", filepath.Join(r.dir, stoppedTag), err)
}

// Forbidden reports whether Forbid was called.
func (r *Receiver) Forbidden() bool {
	_, err := os.Stat(filepath.Join(r.dir, stoppedTag))
	return err == nil
}
