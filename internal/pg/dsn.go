package pg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// DSN is a parsed connection string, keyword by keyword.
type DSN map[string]string

// ParseDSN reads both forms of a connection string (PostgreSQL manual,
// "Connection Strings"). The error never repeats the string.
func ParseDSN(s string) (DSN, error) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://") {
		return parseURI(s)
	}
	d := DSN{}
	for i := 0; i < len(s); {
		if isBlank(s[i]) {
			i++
			continue
		}
		eq := strings.IndexByte(s[i:], '=')
		if eq <= 0 {
			return nil, errors.New("a connection string consists of keyword=value pairs; there is one without an equals sign")
		}
		key := strings.TrimSpace(s[i : i+eq])
		if strings.ContainsAny(key, " \t\n'") {
			return nil, errors.New("a connection string consists of keyword=value pairs; there is one without an equals sign")
		}
		i += eq + 1
		for i < len(s) && isBlank(s[i]) {
			i++
		}
		var value strings.Builder
		quoted := i < len(s) && s[i] == '\''
		if quoted {
			i++
		}
		closed := !quoted
		for ; i < len(s); i++ {
			if s[i] == '\\' && i+1 < len(s) {
				i++
			} else if quoted && s[i] == '\'' {
				closed = true
				i++
				break
			} else if !quoted && isBlank(s[i]) {
				break
			}
			value.WriteByte(s[i])
		}
		if !closed {
			return nil, fmt.Errorf("the value of %s has no closing quote", key)
		}
		d[key] = value.String()
	}
	return d, nil
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func parseURI(s string) (DSN, error) {
	u, err := url.Parse(s)
	if err != nil {
		// url.Error repeats its input, which may hold a password.
		return nil, errors.New("the connection URI cannot be parsed")
	}
	d := DSN{}
	if u.User != nil {
		d["user"] = u.User.Username()
		if p, ok := u.User.Password(); ok {
			d["password"] = p
		}
	}
	var hosts, ports []string
	for _, hp := range strings.Split(u.Host, ",") {
		host, port, err := net.SplitHostPort(hp)
		if err != nil {
			host, port = strings.Trim(hp, "[]"), ""
		}
		hosts, ports = append(hosts, host), append(ports, port)
	}
	if h := strings.Join(hosts, ","); h != "" {
		d["host"] = h
	}
	if p := strings.Join(ports, ","); strings.Trim(p, ",") != "" {
		d["port"] = p
	}
	if db := strings.TrimPrefix(u.Path, "/"); db != "" {
		d["dbname"] = db
	}
	for k, v := range u.Query() {
		d[k] = v[len(v)-1]
	}
	return d, nil
}

// String is the keyword form, without the password: fit for a command line.
func (d DSN) String() string {
	keys := make([]string, 0, len(d))
	for k := range d {
		if k != "password" {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	var parts []string
	for _, k := range keys {
		v := d[k]
		if v == "" || strings.ContainsAny(v, " \t\n\\'") {
			v = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
		}
		parts = append(parts, k+"="+v)
	}
	return strings.Join(parts, " ")
}

// With returns a copy with a keyword set unless it is there already.
func (d DSN) With(key, value string) DSN {
	out := DSN{}
	for k, v := range d {
		out[k] = v
	}
	if _, ok := out[key]; !ok {
		out[key] = value
	}
	return out
}

// Address names the server for people: host and port, no user, no password.
func (d DSN) Address() string {
	host, port := d["host"], d["port"]
	if host == "" {
		host = firstOf(d["hostaddr"], os.Getenv("PGHOST"), "the local socket")
	}
	if port == "" {
		port = firstOf(os.Getenv("PGPORT"), "5432")
	}
	return host + " port " + port
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// connect opens one connection. Keep-alives find a dead peer within about half
// a minute; the time zone is UTC, so that text forms are stable.
func connect(ctx context.Context, conninfo, application string, settings map[string]string) (*pgx.Conn, error) {
	d, err := ParseDSN(conninfo)
	if err != nil {
		return nil, fault.New(fault.Config, "connect to PostgreSQL", "", "conninfo: %w", err).
			WithHint("write it as host=... port=... user=... dbname=...")
	}
	if _, ok := d["dbname"]; !ok {
		d = d.With("dbname", firstOf(os.Getenv("PGDATABASE"), d["user"], "postgres"))
	}
	d = d.With("application_name", application)
	text := d.String()
	if p, ok := d["password"]; ok {
		text += " password='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(p) + "'"
	}
	cfg, err := pgx.ParseConfig(text)
	if err != nil {
		return nil, fault.New(fault.Config, "connect to PostgreSQL", d.Address(), "conninfo has a keyword or value that is not valid").
			WithHint("try it with: psql %q", d.String())
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	cfg.DialFunc = dialer.DialContext
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

func connectError(d DSN, err error) error {
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
	return fault.New(fault.Connection, op, d.Address(), "%w", cause).
		WithHint("is the server running, and does it listen there? try: psql %q", d.String())
}
