package pg

import (
	"context"
	"net"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// BackupApplication is what pg_stat_activity shows of a session in backup mode.
const BackupApplication = ApplicationName + " backup"

// Clients lists the sessions under any of the names, but for our own.
func (c *Conn) Clients(ctx context.Context, applications []string) ([]postgres.Client, error) {
	rows, err := c.c.Query(ctx, `
		select a.pid, a.application_name, coalesce(a.backend_type, ''), coalesce(host(a.client_addr), ''), coalesce(a.client_port, 0),
		       a.backend_start, coalesce(s.slot_name, '')
		from pg_stat_activity a left join pg_replication_slots s on s.temporary and s.active_pid = a.pid
		where a.application_name = any($1) and a.pid <> pg_backend_pid() and a.backend_start is not null
		order by a.backend_start`, applications)
	if err != nil {
		return nil, queryError("list the sessions of backups", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (postgres.Client, error) {
		var p postgres.Client
		err := row.Scan(&p.PID, &p.Application, &p.Backend, &p.Addr, &p.Port, &p.Since, &p.Slot)
		return p, err
	})
	return out, queryError("list the sessions of backups", err)
}

// Address is where the server sees us, "" when it sees us elsewhere than we are:
// over a local socket, a proxy or a translated address.
func (c *Conn) Address(ctx context.Context) (string, error) {
	var addr string
	var port int
	if err := c.c.QueryRow(ctx, "select coalesce(host(inet_client_addr()), ''), coalesce(inet_client_port(), 0)").Scan(&addr, &port); err != nil {
		return "", queryError("ask for our address", err)
	}
	local, is := c.c.PgConn().Conn().LocalAddr().(*net.TCPAddr)
	if !is || local.Port != port || !local.IP.Equal(net.ParseIP(addr)) {
		return "", nil
	}
	return addr, nil
}

// Terminate ends a session, and no other that has got its PID since.
func (c *Conn) Terminate(ctx context.Context, p postgres.Client) error {
	_, err := c.c.Exec(ctx, "select pg_terminate_backend(pid) from pg_stat_activity where pid = $1 and backend_start = $2", p.PID, p.Since)
	return queryError("end a session", err)
}
