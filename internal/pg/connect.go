package pg

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// connect opens one connection. Keep-alives find a dead peer within about half
// a minute; the time zone is UTC, so that text forms are stable.
func connect(ctx context.Context, conninfo, application string, settings map[string]string) (*pgx.Conn, error) {
	d, err := postgres.ParseDSN(conninfo)
	if err != nil {
		return nil, fault.New(fault.Config, "connect to PostgreSQL", "", "conninfo: %w", err).
			WithHint("write it as host=... port=... user=... dbname=...")
	}
	d = d.With("dbname", cmp.Or(os.Getenv("PGDATABASE"), d["user"], "postgres")).With("application_name", application)
	cfg, err := pgx.ParseConfig(d.WithPassword())
	if err != nil {
		return nil, fault.New(fault.Config, "connect to PostgreSQL", d.Address(), "conninfo has a keyword or value that is not valid").
			WithHint("try it with: psql %q", d.String())
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	plain := &plainly{dial: dialer.DialContext}
	defer plain.end()
	cfg.DialFunc = plain.Dial
	for k, v := range settings {
		cfg.RuntimeParams[k] = v
	}
	cfg.RuntimeParams["timezone"] = "UTC"
	// A pooler in transaction mode keeps no prepared statement.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, connectError(d, err)
	}
	return conn, nil
}

func connectError(d postgres.DSN, err error) error {
	const op = "connect to PostgreSQL at"
	var server *pgconn.PgError
	if errors.As(err, &server) {
		e := fault.New(fault.Connection, op, d.Address(), "%s (SQLSTATE %s)", server.Message, server.Code)
		switch server.Code {
		case "28P01", "28000":
			e.Kind = fault.Permission
			return e.WithHint("check user and password in conninfo or ~/.pgpass, and pg_hba.conf on the server; try: psql %q", d.String())
		case "3D000":
			e.Kind = fault.Config
			return e.WithHint("name an existing database in conninfo (dbname=postgres)")
		case "53300":
			return e.WithHint("raise max_connections or free a connection")
		}
		return e
	}
	if errors.Is(err, context.Canceled) {
		return fault.Wrap(fault.Cancelled, op, d.Address(), context.Canceled)
	}
	cause := errors.Unwrap(err)
	for cause != nil && errors.Unwrap(cause) != nil {
		cause = errors.Unwrap(cause)
	}
	if cause == nil {
		cause = errors.New("no connection")
	}
	// Each try adds a line. Of a server without TLS the one without it says more.
	tries := strings.Split(cause.Error(), "\n")
	said := max(0, slices.IndexFunc(tries, func(try string) bool { return !strings.Contains(try, "server refused TLS connection") }))
	return fault.New(fault.Connection, op, d.Address(), "%s", tries[said]).
		WithHint("is the server running, and does it listen there? try: psql %q", d.String())
}
