package pg

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// Session is a connection in backup mode. PostgreSQL ends the backup when the
// connection ends, so a Session is never reconnected. Its methods may be
// called by several goroutines; they take turns.
type Session struct {
	mu      sync.Mutex
	conn    *pgx.Conn
	version int
	pid     uint32
	standby bool // when the backup began
}

// sessionSettings keep a server from ending an idle session that holds a backup.
func sessionSettings(version int) []string {
	names := []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"}
	if version >= 140000 {
		names = append(names, "idle_session_timeout")
	}
	if version >= 170000 {
		names = append(names, "transaction_timeout")
	}
	return names
}

// OpenSession connects and prepares a session; no backup runs yet.
func OpenSession(ctx context.Context, conninfo string) (*Session, error) {
	c, err := connect(ctx, conninfo, BackupApplication, nil)
	if err != nil {
		return nil, err
	}
	s := &Session{conn: c, pid: c.PgConn().PID()}
	if err := s.prepare(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Session) prepare(ctx context.Context) error {
	if err := s.conn.QueryRow(ctx, "select current_setting('server_version_num')::int").Scan(&s.version); err != nil {
		return queryError("open a backup session", err)
	}
	for _, name := range sessionSettings(s.version) {
		if _, err := s.conn.Exec(ctx, "set "+name+" = 0"); err != nil {
			return queryError("open a backup session", err)
		}
	}
	// A pooler that shares backends shows itself by a backend that is not the
	// one we were greeted by, or by one that changes.
	var first uint32
	for i := range 3 {
		var pid uint32
		if err := s.conn.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid); err != nil {
			return queryError("open a backup session", err)
		}
		if i == 0 {
			first = pid
		}
		if pid != first || pid != s.pid {
			return fault.New(fault.Config, "open a backup session", "", "conninfo leads to a connection pooler: the backend changed from %d to %d", s.pid, pid).
				WithHint("let conninfo name the PostgreSQL server itself, not its pooler")
		}
	}
	return nil
}

// BackendPID is the server's process of this session.
func (s *Session) BackendPID() uint32 { return s.pid }

// Start puts the server into backup mode. With fast it checkpoints at once,
// else it may wait for a spread checkpoint, as long as ctx allows.
func (s *Session) Start(ctx context.Context, label string, fast bool) (postgres.Start, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := postgres.Start{BackendPID: s.pid}
	call := "pg_backup_start($1, $2)"
	if s.version < 150000 {
		call = "pg_start_backup($1, $2, false)"
	}
	err := s.conn.QueryRow(ctx, "select "+call+"::text, (select timeline_id from pg_control_checkpoint()), now()", label, fast).
		Scan(&st.LSN, &st.Timeline, &st.At)
	if err != nil {
		return st, queryError("start backup", err)
	}
	// Read now: a tablespace that was made before the start must be copied.
	st.Facts, err = readFacts(ctx, s.conn, unmeasured)
	s.standby = st.Facts.InRecovery
	return st, err
}

// Check finds out, without a word to the server, whether the connection ended.
func (s *Session) Check(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn.IsClosed() {
		return errors.New("the connection is closed")
	}
	//nolint:staticcheck // Ping, its successor, would talk to the server.
	return s.conn.PgConn().CheckConn()
}

// Ping asks the server something, and so keeps middle boxes from forgetting us.
func (s *Session) Ping(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pid uint32
	if err := s.conn.QueryRow(ctx, "select pg_backend_pid()").Scan(&pid); err != nil {
		return queryError("ping the backup session", err)
	}
	if pid != s.pid {
		return fmt.Errorf("the backend changed from %d to %d", s.pid, pid)
	}
	return nil
}

// Stop ends backup mode without waiting for the archiver.
func (s *Session) Stop(ctx context.Context) (postgres.Stop, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var st postgres.Stop
	call := "pg_backup_stop(false)"
	if s.version < 150000 {
		call = "pg_stop_backup(false, false)"
	}
	err := s.conn.QueryRow(ctx, `select lsn::text, labelfile, coalesce(spcmapfile, ''), now(), (`+currentTimeline+`) from `+call).
		Scan(&st.LSN, &st.Label, &st.TablespaceMap, &st.At, &st.Timeline)
	if err != nil && s.standby && s.promoted(ctx) {
		return st, fault.New(fault.SessionLost, "stop backup", "", "the standby was promoted, which ends its backups")
	}
	return st, queryError("stop backup", err)
}

// promoted reports whether the server is no standby any more.
func (s *Session) promoted(ctx context.Context) bool {
	var standby bool
	err := s.conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby)
	return err == nil && !standby
}

// Close ends the session, and with it a backup that was not stopped.
func (s *Session) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	s.conn.Close(ctx)
}
