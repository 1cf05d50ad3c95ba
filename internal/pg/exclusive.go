package pg

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast-pg/holdfast/internal/backuplabel"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// Exclusive is the exclusive backup mode, which PostgreSQL had until version 14.
// The server as a whole is in it: no session keeps it, it outlives its programs
// here, and it ends by a stop or a restart of the server. So whoever starts it
// again under the same label finds the backup that is under way.
type Exclusive struct {
	conninfo string

	mu      sync.Mutex
	conn    *Conn // notices a restart; it may be replaced
	label   string
	started time.Time // the server
}

// OpenExclusive makes sure that the server answers and knows the exclusive mode.
func OpenExclusive(ctx context.Context, conninfo string) (*Exclusive, error) {
	c, err := Connect(ctx, conninfo)
	if err != nil {
		return nil, err
	}
	if err := c.CheckExclusive(ctx); err != nil {
		c.Close()
		return nil, err
	}
	for _, name := range []string{"statement_timeout", "lock_timeout"} {
		if _, err := c.c.Exec(ctx, "set "+name+" = 0"); err != nil {
			c.Close()
			return nil, queryError("start backup", err)
		}
	}
	return &Exclusive{conninfo: conninfo, conn: c}, nil
}

// Start puts the server into backup mode, or finds it there under the same
// label. A server that somebody else has put into backup mode is refused.
func (e *Exclusive) Start(ctx context.Context, label string, fast bool) (postgres.Start, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var st postgres.Start
	there, err := e.conn.ExclusiveLabel(ctx)
	if err != nil {
		return st, err
	}
	if there == "" {
		_, err := e.conn.c.Exec(ctx, "select pg_start_backup($1, $2, true)", label, fast)
		if err = queryError("start backup", err); fault.Is(err, fault.Refused) {
			// The label of a backup is there when its checkpoint is complete.
			return st, fault.Wrap(fault.Connection, "start backup", "", fmt.Errorf("the server is about to enter backup mode for somebody: %s", err.Error()))
		}
		if err != nil {
			return st, err
		}
		if there, err = e.conn.ExclusiveLabel(ctx); err != nil {
			return st, err
		}
	}
	l, err := backuplabel.Parse(there)
	if err != nil {
		return st, err
	}
	if l.Text != label {
		return st, inBackupMode(l.Text)
	}
	e.label = label
	st.LSN, st.Timeline = l.StartLSN.String(), l.Timeline
	if err := e.conn.c.QueryRow(ctx, "select pg_backup_start_time(), pg_postmaster_start_time()").Scan(&st.At, &e.started); err != nil {
		return st, queryError("start backup", err)
	}
	st.Facts, err = e.conn.Facts(ctx)
	return st, err
}

func inBackupMode(label string) error {
	return fault.New(fault.Refused, "start backup", "", "the server is in exclusive backup mode already, under the label %q", label).
		WithHint("wait until whoever started it has finished; when nobody has: select pg_stop_backup()")
}

// Check finds out whether the server has left backup mode. While it does not
// answer, nothing is known, and nothing is lost.
func (e *Exclusive) Check(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	//nolint:staticcheck // Ping, its successor, would talk to the server.
	if e.conn != nil && !e.conn.c.IsClosed() && e.conn.c.PgConn().CheckConn() == nil {
		return nil
	}
	return e.again(ctx)
}

// Ping asks the server.
func (e *Exclusive) Ping(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.again(ctx)
}

// again makes sure that a server which answers is still in our backup mode.
func (e *Exclusive) again(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := e.reconnect(ctx)
	if err == nil {
		err = e.still(ctx)
	}
	if fault.Is(err, fault.Connection) || fault.Is(err, fault.Cancelled) {
		return nil
	}
	return err
}

func (e *Exclusive) reconnect(ctx context.Context) error {
	if e.conn != nil && !e.conn.c.IsClosed() {
		if _, err := e.conn.c.Exec(ctx, "select 1"); err == nil {
			return nil
		}
		e.conn.Close()
	}
	c, err := Connect(ctx, e.conninfo)
	if err != nil {
		e.conn = nil
		return err
	}
	e.conn = c
	return nil
}

// still compares the server with the one that the backup was started on.
func (e *Exclusive) still(ctx context.Context) error {
	var started time.Time
	if err := e.conn.c.QueryRow(ctx, "select pg_postmaster_start_time()").Scan(&started); err != nil {
		return queryError("look whether the server is in backup mode", err)
	}
	if !started.Equal(e.started) {
		return errors.New("the server was restarted, which ends an exclusive backup")
	}
	_, err := e.conn.exclusiveLabelOf(ctx, e.label)
	return err
}

// Stop ends backup mode without waiting for the archiver.
func (e *Exclusive) Stop(ctx context.Context) (postgres.Stop, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.reconnect(ctx); err != nil {
		return postgres.Stop{}, err
	}
	if err := e.still(ctx); err != nil {
		return postgres.Stop{}, fault.Wrap(fault.SessionLost, "stop backup", "", err)
	}
	return e.conn.StopExclusive(ctx, e.label)
}

// Close leaves backup mode, if the server is still in it for this backup.
func (e *Exclusive) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	e.mu.Lock()
	if e.label != "" && e.reconnect(ctx) == nil {
		// What is left in backup mode is found by its label, by the maintenance too.
		_, _ = e.conn.StopExclusive(ctx, e.label)
	}
	e.mu.Unlock()
	e.Detach()
}

// Detach leaves the server in backup mode, for whoever starts it again.
func (e *Exclusive) Detach() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn != nil {
		e.conn.Close()
		e.conn = nil
	}
}

// CheckExclusive makes sure that the server can be put into exclusive backup
// mode, and that we may read its label there.
func (c *Conn) CheckExclusive(ctx context.Context) error {
	var version int
	var standby, may bool
	err := c.c.QueryRow(ctx, `select current_setting('server_version_num')::int, pg_is_in_recovery(),
		has_function_privilege('pg_read_file(text, bigint, bigint, boolean)', 'execute')`).Scan(&version, &standby, &may)
	if err != nil {
		return queryError("check privileges", err)
	}
	if err := postgres.CheckExclusive(version, standby); err != nil {
		return err
	}
	if !may {
		user := c.c.Config().User
		return missingGrants("read backup_label", user, "GRANT EXECUTE ON FUNCTION pg_read_file(text, bigint, bigint, boolean) TO "+ident(user))
	}
	return nil
}

// ExclusiveLabel is the text of backup_label while the server is in exclusive
// backup mode; "" otherwise.
func (c *Conn) ExclusiveLabel(ctx context.Context) (string, error) {
	var version int
	if err := c.c.QueryRow(ctx, "select current_setting('server_version_num')::int").Scan(&version); err != nil || version >= postgres.NoExclusive {
		return "", queryError("look whether the server is in backup mode", err)
	}
	var text string
	err := c.c.QueryRow(ctx, "select case when pg_is_in_backup() then coalesce(pg_read_file('backup_label', 0, 65536, true), '') else '' end").Scan(&text)
	return text, queryError("look whether the server is in backup mode", err)
}

// exclusiveLabelOf is the whole backup_label of the backup under a label; it is
// an error when the server is not in backup mode for it.
func (c *Conn) exclusiveLabelOf(ctx context.Context, label string) (string, error) {
	text, err := c.ExclusiveLabel(ctx)
	if err != nil {
		return "", err
	}
	if text == "" {
		return "", fault.New(fault.SessionLost, "look whether the server is in backup mode", "", "it has left backup mode")
	}
	l, err := backuplabel.Parse(text)
	if err == nil && l.Text != label {
		err = fault.New(fault.SessionLost, "look whether the server is in backup mode", "", "it is in another one, under the label %q", l.Text)
	}
	return text, err
}

// StopExclusive ends the exclusive backup under a label, and no other.
func (c *Conn) StopExclusive(ctx context.Context, label string) (postgres.Stop, error) {
	var st postgres.Stop
	text, err := c.exclusiveLabelOf(ctx, label)
	if err != nil {
		return st, err
	}
	st.Label = text
	if err := c.c.QueryRow(ctx, "select coalesce(pg_read_file('tablespace_map', 0, 1048576, true), '')").Scan(&st.TablespaceMap); err != nil {
		return st, queryError("stop backup", err)
	}
	err = c.c.QueryRow(ctx, `select lsn::text, now(), (`+currentTimeline+`) from pg_stop_backup(true, false)`).Scan(&st.LSN, &st.At, &st.Timeline)
	if errors.Is(err, pgx.ErrNoRows) {
		err = errors.New("pg_stop_backup returned nothing")
	}
	return st, queryError("stop backup", err)
}
