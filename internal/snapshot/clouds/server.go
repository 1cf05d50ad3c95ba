package clouds

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// Open makes the provider of a server's settings, for a host that is reached already.
type Open func(ctx context.Context, s *config.Server, host snapshot.Host) (snapshot.Provider, error)

// lastWords is how long calls may take to end when nobody waits for them any more.
const lastWords = 5 * time.Second

// Serve answers the one who has started this process until that one ends.
func Serve(open Open) error {
	f := os.NewFile(socket, "socket")
	conn, err := net.FileConn(f)
	if err != nil {
		return fault.New(fault.Usage, "begin", Program, "nobody has started it to ask for snapshots").
			WithHint("it has no use of its own: holdfast and holdfast-worker start it where snapshot_provider is aws, azure or gcp")
	}
	f.Close()
	return serve(conn, open)
}

func serve(conn net.Conn, open Open) error {
	s := &server{open: open, left: func() {}}
	defer func() { s.left() }()
	ended := make(chan struct{})
	var once sync.Once
	h := &http.Server{Handler: s.paths(), Protocols: onlyHTTP2(), ReadHeaderTimeout: time.Minute, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			once.Do(func() { close(ended) })
		}
	}}
	l := &single{conns: make(chan net.Conn, 1), addr: conn.LocalAddr()}
	l.conns <- conn
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(l) }()
	select {
	case <-ended:
	case err := <-failed:
		return fault.Wrap(fault.Internal, "serve", Program, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	_ = h.Shutdown(ctx) // what does not end in time ends with the process
	return nil
}

func onlyHTTP2() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// single is a listener that has one connection.
type single struct {
	conns chan net.Conn
	addr  net.Addr
	once  sync.Once
}

// Accept implements net.Listener.
func (l *single) Accept() (net.Conn, error) {
	if c, more := <-l.conns; more {
		return c, nil
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (l *single) Close() error {
	l.once.Do(func() { close(l.conns) })
	return nil
}

// Addr implements net.Listener.
func (l *single) Addr() net.Addr { return l.addr }

// server has the provider that was opened.
type server struct {
	open Open

	mu   sync.Mutex
	disk snapshot.Provider // nil before it is opened
	left func()            // leaves the host
}

func (s *server) paths() http.Handler {
	m := http.NewServeMux()
	m.Handle(pathOpen, answer(func(ctx context.Context, q question) (struct{}, error) { return struct{}{}, s.begin(ctx, q.Settings) }))
	m.Handle(pathDisks, with(s, func(ctx context.Context, p snapshot.Provider, _ question) ([]snapshot.Disk, error) {
		return p.Disks(ctx)
	}))
	m.Handle(pathCreate, with(s, func(ctx context.Context, p snapshot.Provider, q question) (snapshot.Snapshot, error) {
		return p.Create(ctx, q.Tag, q.Disk)
	}))
	m.Handle(pathCreateSet, with(s, func(ctx context.Context, p snapshot.Atomic, q question) ([]snapshot.Snapshot, error) {
		return p.CreateSet(ctx, q.Tag, q.Disks)
	}))
	m.Handle(pathList, with(s, func(ctx context.Context, p snapshot.Provider, q question) ([]snapshot.Snapshot, error) {
		return p.List(ctx, q.Owner)
	}))
	m.Handle(pathDelete, with(s, func(ctx context.Context, p snapshot.Provider, q question) (struct{}, error) {
		return struct{}{}, p.Delete(ctx, *q.Snapshot)
	}))
	m.Handle(pathLock, with(s, func(ctx context.Context, p snapshot.Locker, q question) (snapshot.Snapshot, error) {
		return p.Lock(ctx, *q.Snapshot)
	}))
	m.Handle(pathLocks, with(s, func(ctx context.Context, p snapshot.Locker, q question) ([]snapshot.Snapshot, error) {
		return p.Locks(ctx, q.Snapshots)
	}))
	m.Handle(pathInfo, with(s, func(ctx context.Context, p snapshot.Informer, q question) (string, error) {
		v, err := p.SnapshotsInfo(ctx, q.Disks, q.Snapshots)
		return v.String(), err
	}))
	m.Handle(pathAttached, with(s, func(ctx context.Context, p snapshot.Instance, q question) ([]snapshot.AttachedDisk, error) {
		return p.Attached(ctx, q.Instance)
	}))
	m.Handle(pathCreateDisk, with(s, func(ctx context.Context, p snapshot.Instance, q question) (snapshot.AttachedDisk, error) {
		return p.CreateDisk(ctx, q.Instance, *q.Snapshot)
	}))
	return m
}

// begin opens the provider.
func (s *server) begin(ctx context.Context, given *settings) error {
	if ours := revision(); ours != "" && given.Revision != "" && ours != given.Revision {
		return fault.New(fault.Tool, "start", Program, "it is of revision %s, and what has started it is of %s", ours, given.Revision).
			WithHint("install all programs of one release")
	}
	at := given.server()
	host, left, err := snapshot.Reach(ctx, at, given.Here)
	if err != nil {
		return err
	}
	p, err := s.open(ctx, at, host)
	if err != nil {
		left()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disk, s.left = p, left
	return nil
}

// with answers calls of an ability that the provider must have.
func with[P, T any](s *server, f func(context.Context, P, question) (T, error)) http.Handler {
	return answer(func(ctx context.Context, q question) (out T, err error) {
		s.mu.Lock()
		p, can := s.disk.(P)
		s.mu.Unlock()
		if !can {
			return out, fault.New(fault.Internal, "ask", Program, "its provider has no %T", (*P)(nil))
		}
		return f(ctx, p, q)
	})
}

// answer is a handler for one method.
func answer[T any](f func(context.Context, question) (T, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q question
		err := json.NewDecoder(r.Body).Decode(&q)
		var out T
		if err == nil {
			out, err = f(r.Context(), q)
		}
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			_ = json.NewEncoder(w).Encode(failureOf(err)) // nobody is there to hear of it
			return
		}
		_ = json.NewEncoder(w).Encode(out)
	})
}
