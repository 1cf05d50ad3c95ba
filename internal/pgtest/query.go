package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
)

func (c *Cluster) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname='%s' sslmode=disable", c.Port, database))
}

// Connect opens a connection as superuser that closes with the test.
func (c *Cluster) Connect(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := c.connect(t.Context(), "postgres")
	must(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Greet connects, asks the least question, and ends the connection.
func (c *Cluster) Greet(ctx context.Context) error {
	var one int
	return c.scan(ctx, "select 1", &one)
}

func (c *Cluster) scan(ctx context.Context, sql string, into ...any) error {
	conn, err := c.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.QueryRow(ctx, sql).Scan(into...)
}

// Exec runs statements in a session of their own.
func (c *Cluster) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	conn, err := c.connect(ctx, "postgres")
	must(t, err)
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// Value is the only value that a query returns, as text.
func (c *Cluster) Value(t testing.TB, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	var value *string
	if err := c.scan(ctx, "SELECT ("+sql+")::text", &value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if value == nil {
		return ""
	}
	return *value
}

// Fill adds rows of about 300 bytes to a table that it makes where it is missing, in a tablespace
// unless that is empty.
func (c *Cluster) Fill(t testing.TB, table, tablespace string, rows int) {
	t.Helper()
	if tablespace == "" {
		tablespace = "pg_default"
	}
	c.Exec(t, fmt.Sprintf(`
		CREATE TABLE IF NOT EXISTS %[1]s (id bigserial PRIMARY KEY USING INDEX TABLESPACE %[2]s, payload text NOT NULL) TABLESPACE %[2]s;
		INSERT INTO %[1]s (payload) SELECT repeat(md5(random()::text), 8) FROM generate_series(1, %[3]d)`, quoted(table), quoted(tablespace), rows))
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// Fingerprint depends on every row of every user table in every database, and on nothing else.
func (c *Cluster) Fingerprint(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	sum := sha256.New()
	for _, database := range c.column(ctx, t, "postgres", "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate") {
		tables := c.column(ctx, t, database, `
			SELECT format('%I.%I', nspname, relname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
			WHERE relkind = 'r' AND relpersistence = 'p' AND nspname <> 'information_schema' AND nspname !~ '^pg_'`)
		conn, err := c.connect(ctx, database)
		must(t, err)
		for _, table := range tables {
			var rows int64
			var hash string
			// The sum does not depend on the order of the rows, and needs no memory.
			must(t, conn.QueryRow(ctx, "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM ONLY "+table+" t").Scan(&rows, &hash))
			fmt.Fprintln(sum, strconv.Quote(database), table, rows, hash)
		}
		must(t, conn.Close(ctx))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// column is a query's only column, sorted.
func (c *Cluster) column(ctx context.Context, t testing.TB, database, sql string) []string {
	t.Helper()
	conn, err := c.connect(ctx, database)
	must(t, err)
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, sql)
	must(t, err)
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	slices.Sort(values)
	return values
}

// AmCheck fails the test unless amcheck finds every table and index of every database sound; before PostgreSQL 14
// it knows indexes only.
func (c *Cluster) AmCheck(t testing.TB) {
	t.Helper()
	if c.Version == "13" {
		c.checkIndexes(t)
		return
	}
	run(t, "/", filepath.Join(c.BinDir, "pg_amcheck"), "-h", "127.0.0.1", "-p", strconv.Itoa(c.Port), "-U", "postgres",
		"--all", "--install-missing", "--heapallindexed", "--on-error-stop")
}

// checkIndexes compares every B-tree with its table, as pg_amcheck of later versions does.
func (c *Cluster) checkIndexes(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	for _, database := range c.column(ctx, t, "postgres", "SELECT datname FROM pg_database WHERE datallowconn") {
		conn, err := c.connect(ctx, database)
		must(t, err)
		if _, err := conn.Exec(ctx, `CREATE EXTENSION IF NOT EXISTS amcheck;
			SELECT bt_index_check(c.oid, true) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam
			WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisready AND i.indisvalid`); err != nil {
			t.Fatalf("amcheck in %s: %v", database, err)
		}
		must(t, conn.Close(ctx))
	}
}
