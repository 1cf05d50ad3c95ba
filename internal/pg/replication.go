package pg

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// Streaming is a connection that speaks the replication protocol.
type Streaming struct{ c *pgx.Conn }

// ConnectStreaming opens one.
func ConnectStreaming(ctx context.Context, conninfo string) (*Streaming, error) {
	c, err := connect(ctx, conninfo, ApplicationName, map[string]string{"replication": "true"})
	if err != nil {
		return nil, replicationHint(err)
	}
	return &Streaming{c}, nil
}

// Close ends the connection.
func (s *Streaming) Close() { (&Conn{s.c}).Close() }

// exec runs a command and returns its only row; nil when it has none.
func (s *Streaming) exec(ctx context.Context, op, command string) ([][]byte, error) {
	results, err := s.c.PgConn().Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, queryError(op, err)
	}
	for _, r := range results {
		if len(r.Rows) > 0 {
			return r.Rows[0], nil
		}
	}
	return nil, nil
}

// Identify asks which system it is, and where its WAL ends.
func (s *Streaming) Identify(ctx context.Context) (postgres.System, error) {
	const op = "identify the system"
	var sys postgres.System
	row, err := s.exec(ctx, op, "IDENTIFY_SYSTEM")
	if err != nil {
		return sys, err
	}
	size, err := s.exec(ctx, op, "SHOW wal_segment_size")
	if err != nil {
		return sys, err
	}
	if len(row) < 3 || len(size) < 1 {
		return sys, fault.New(fault.Internal, op, "", "the server gave no answer")
	}
	sys.ID, sys.LSN = string(row[0]), string(row[2])
	if _, err := fmt.Sscan(string(row[1]), &sys.Timeline); err != nil {
		return sys, fault.New(fault.Internal, op, "", "the timeline is %q", row[1])
	}
	sys.SegmentSize, err = bytesOf(string(size[0]))
	return sys, err
}

// bytesOf reads a size as SHOW prints it.
func bytesOf(text string) (uint64, error) {
	var n uint64
	var unit string
	if _, err := fmt.Sscanf(text, "%d%s", &n, &unit); err != nil {
		return 0, fault.New(fault.Internal, "read a setting", text, "it is no size")
	}
	shift, known := map[string]int{"B": 0, "kB": 10, "MB": 20, "GB": 30}[unit]
	if !known {
		return 0, fault.New(fault.Internal, "read a setting", text, "the unit is not known")
	}
	return n << shift, nil
}

// CreateSlot makes a physical replication slot that keeps WAL from now on. One
// that exists is fault.Conflict.
func (s *Streaming) CreateSlot(ctx context.Context, name string) error {
	_, err := s.c.PgConn().Exec(ctx, "CREATE_REPLICATION_SLOT "+ident(name)+" PHYSICAL RESERVE_WAL").ReadAll()
	var server *pgconn.PgError
	if errors.As(err, &server) {
		switch server.Code {
		case "42710":
			return fault.New(fault.Conflict, "create replication slot", name, "it exists already")
		case "53400":
			return fault.New(fault.Refused, "create replication slot", name, "%s", server.Message).
				WithHint("free a slot (pg_drop_replication_slot), or raise max_replication_slots and restart the server")
		}
	}
	return queryError("create replication slot "+name, err)
}

// DropSlot removes a replication slot. One that does not exist is
// fault.NotFound, one in use fault.Refused.
func (s *Streaming) DropSlot(ctx context.Context, name string) error {
	_, err := s.c.PgConn().Exec(ctx, "DROP_REPLICATION_SLOT "+ident(name)).ReadAll()
	var server *pgconn.PgError
	if errors.As(err, &server) {
		switch server.Code {
		case "42704":
			return fault.New(fault.NotFound, "drop replication slot", name, "it does not exist")
		case "55006":
			return fault.New(fault.Refused, "drop replication slot", name, "%s", server.Message).
				WithHint("end what streams from it first: holdfast receive-wal --stop SERVER")
		}
	}
	return queryError("drop replication slot "+name, err)
}

// EnsureSlot makes a physical replication slot unless it exists.
func EnsureSlot(ctx context.Context, conninfo, streaming, name string) error {
	c, err := Connect(ctx, conninfo)
	if err != nil {
		return err
	}
	slot, err := c.Slot(ctx, name)
	c.Close()
	if err != nil || slot != nil {
		return err
	}
	s, err := ConnectStreaming(ctx, streaming)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.CreateSlot(ctx, name); !fault.Is(err, fault.Conflict) {
		return err
	}
	return nil
}

// Slot is a replication slot; nil when there is none of that name.
func (c *Conn) Slot(ctx context.Context, name string) (*postgres.Slot, error) {
	var s postgres.Slot
	err := c.c.QueryRow(ctx, `select slot_type = 'physical', active, coalesce(restart_lsn::text, ''), coalesce(wal_status, '')
		from pg_replication_slots where slot_name = $1`, name).Scan(&s.Physical, &s.Active, &s.RestartLSN, &s.WALStatus)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, queryError("look for replication slot "+name, err)
	}
	return &s, nil
}

// Replication lists the clients that stream WAL from the server, in the order in which it prefers them
// as synchronous. Backups are none, nor is who has only asked something, as we do ourselves.
func (c *Conn) Replication(ctx context.Context) (postgres.Replication, error) {
	var r postgres.Replication
	const op = "list the clients of replication"
	err := c.c.QueryRow(ctx, `select pg_is_in_recovery(),
		coalesce(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text, '')`).Scan(&r.InRecovery, &r.LSN)
	if err != nil {
		return r, queryError(op, err)
	}
	rows, err := c.c.Query(ctx, `
		select r.pid, r.application_name, coalesce(r.usename, ''), coalesce(host(r.client_addr), ''), coalesce(r.client_hostname, ''), coalesce(r.client_port, 0),
		       r.backend_start, coalesce(r.state, ''), coalesce(r.sync_state, ''), coalesce(r.sync_priority, 0), coalesce(s.slot_name, ''),
		       coalesce(r.sent_lsn::text, ''), coalesce(r.write_lsn::text, ''), coalesce(r.flush_lsn::text, ''), coalesce(r.replay_lsn::text, '')
		from pg_stat_replication r left join pg_replication_slots s on s.active_pid = r.pid
		where coalesce(r.state, '') not in ('backup', 'startup')
		order by r.sync_state desc, r.sync_priority, r.backend_start`)
	if err != nil {
		return r, queryError(op, err)
	}
	r.Clients, err = pgx.CollectRows(rows, pgx.RowToStructByPos[postgres.Streamer])
	return r, queryError(op, err)
}
