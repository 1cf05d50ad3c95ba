package clouds

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pylit"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// client is the program, and a provider in it that has what all drivers can do.
type client struct {
	http *http.Client
	end  func() error // ends the program, and says how it has ended
}

var (
	_ snapshot.Provider = (*client)(nil)
	_ snapshot.Informer = (*client)(nil)
	_ snapshot.Instance = (*client)(nil)
)

// amazon can do more.
type amazon struct{ *client }

var (
	_ snapshot.Atomic = amazon{}
	_ snapshot.Locker = amazon{}
)

// Start starts the program with env added to the environment, and opens the provider of
// a server's settings in it; here says that its disks are this host's. close ends it.
func Start(ctx context.Context, s *config.Server, here bool, env ...string) (p snapshot.Provider, closed func(), err error) {
	c, err := run(env)
	if err != nil {
		return nil, nil, err
	}
	given := settingsOf(s, here)
	if _, err := ask[struct{}](ctx, c, pathOpen, question{Settings: &given}); err != nil {
		_ = c.end() // the error says more
		return nil, nil, err
	}
	closed = func() { _ = c.end() } // it has nothing to lose
	if s.SnapshotProvider == "aws" {
		return amazon{c}, closed, nil
	}
	return c, closed, nil
}

// endsWithin is how long the program may take to end.
const endsWithin = 2 * lastWords

// run starts the program.
func run(env []string) (*client, error) {
	path, err := command.Sibling(Program)
	if err != nil {
		return nil, err
	}
	ours, theirs, err := pair()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "start", path, err)
	}
	defer theirs.Close()
	said := new(command.Tail)
	cmd := exec.Command(path)
	cmd.Env, cmd.Stderr, cmd.ExtraFiles, cmd.WaitDelay = append(os.Environ(), env...), said, []*os.File{theirs}, lastWords
	if err := cmd.Start(); err != nil {
		ours.Close()
		return nil, fault.Wrap(fault.Tool, "start", path, err)
	}
	dead := make(chan error, 1)
	go func() { dead <- cmd.Wait() }()
	end := sync.OnceValue(func() (err error) {
		ours.Close()
		select {
		case err = <-dead:
		case <-time.After(endsWithin):
			_ = cmd.Process.Kill()
			err = <-dead
		}
		if text := strings.TrimSpace(said.String()); err != nil && text != "" {
			err = errors.New(err.Error() + ": " + text)
		}
		return err
	})
	conns := make(chan net.Conn, 1)
	conns <- ours
	dial := func(context.Context, string, string) (net.Conn, error) {
		select {
		case c := <-conns:
			return c, nil
		default:
			return nil, net.ErrClosed
		}
	}
	return &client{&http.Client{Transport: &http.Transport{DialContext: dial, Protocols: onlyHTTP2()}}, end}, nil
}

// pair makes two sockets that are connected with each other.
func pair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	f := os.NewFile(uintptr(fds[0]), "socket")
	defer f.Close()
	theirs = os.NewFile(uintptr(fds[1]), "socket")
	if ours, err = net.FileConn(f); err != nil {
		theirs.Close()
	}
	return ours, theirs, err
}

// ask calls a method.
func ask[T any](ctx context.Context, c *client, path string, q question) (out T, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return out, fault.Wrap(fault.Internal, "ask", Program, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+Program+path, bytes.NewReader(body))
	if err != nil {
		return out, fault.Wrap(fault.Internal, "ask", Program, err)
	}
	res, err := c.http.Do(req)
	var answer []byte
	if err == nil {
		defer res.Body.Close()
		answer, err = io.ReadAll(res.Body)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return out, fault.Wrap(fault.Cancelled, "ask", Program, context.Cause(ctx))
	case err != nil:
		if how := c.end(); how != nil {
			err = how
		}
		return out, fault.New(fault.Crashed, "ask", Program, "it has ended: %w", err)
	case res.StatusCode != http.StatusOK:
		var f failure
		if err := json.Unmarshal(answer, &f); err != nil {
			return out, fault.New(fault.Tool, "ask", Program, "%s: %q", res.Status, answer).WithHint("install all programs of one release")
		}
		return out, f.err()
	}
	return out, fault.Wrap(fault.Tool, "ask", Program, json.Unmarshal(answer, &out))
}

// Disks implements snapshot.Provider.
func (c *client) Disks(ctx context.Context) ([]snapshot.Disk, error) {
	return ask[[]snapshot.Disk](ctx, c, pathDisks, question{})
}

// Create implements snapshot.Provider.
func (c *client) Create(ctx context.Context, tag snapshot.Tag, d snapshot.Disk) (snapshot.Snapshot, error) {
	return ask[snapshot.Snapshot](ctx, c, pathCreate, question{Tag: tag, Disk: d})
}

// List implements snapshot.Provider.
func (c *client) List(ctx context.Context, owner string) ([]snapshot.Snapshot, error) {
	return ask[[]snapshot.Snapshot](ctx, c, pathList, question{Owner: owner})
}

// Delete implements snapshot.Provider.
func (c *client) Delete(ctx context.Context, s snapshot.Snapshot) error {
	_, err := ask[struct{}](ctx, c, pathDelete, question{Snapshot: &s})
	return err
}

// SnapshotsInfo implements snapshot.Informer.
func (c *client) SnapshotsInfo(ctx context.Context, disks []snapshot.Disk, made []snapshot.Snapshot) (pylit.Value, error) {
	text, err := ask[string](ctx, c, pathInfo, question{Disks: disks, Snapshots: made})
	if err != nil {
		return pylit.Value{}, err
	}
	v, err := pylit.Parse(text)
	return v, fault.Wrap(fault.Tool, "ask", Program, err)
}

// Attached implements snapshot.Instance.
func (c *client) Attached(ctx context.Context, instance string) ([]snapshot.AttachedDisk, error) {
	return ask[[]snapshot.AttachedDisk](ctx, c, pathAttached, question{Instance: instance})
}

// CreateDisk implements snapshot.Instance.
func (c *client) CreateDisk(ctx context.Context, instance string, s snapshot.Snapshot) (snapshot.AttachedDisk, error) {
	return ask[snapshot.AttachedDisk](ctx, c, pathCreateDisk, question{Instance: instance, Snapshot: &s})
}

// CreateSet implements snapshot.Atomic.
func (c amazon) CreateSet(ctx context.Context, tag snapshot.Tag, disks []snapshot.Disk) ([]snapshot.Snapshot, error) {
	return ask[[]snapshot.Snapshot](ctx, c.client, pathCreateSet, question{Tag: tag, Disks: disks})
}

// Lock implements snapshot.Locker.
func (c amazon) Lock(ctx context.Context, s snapshot.Snapshot) (snapshot.Snapshot, error) {
	return ask[snapshot.Snapshot](ctx, c.client, pathLock, question{Snapshot: &s})
}

// Locks implements snapshot.Locker.
func (c amazon) Locks(ctx context.Context, list []snapshot.Snapshot) ([]snapshot.Snapshot, error) {
	return ask[[]snapshot.Snapshot](ctx, c.client, pathLocks, question{Snapshots: list})
}
