//go:build integration

package pg_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/certtest"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// TestConnectingCostsOneProcess: a server without TLS is asked for it and then talked to on the same connection.
func TestConnectingCostsOneProcess(t *testing.T) {
	for _, tls := range []bool{false, true} {
		c := pgtest.Start(t, pgtest.Options{Version: "15", Config: []string{"log_connections = on"}})
		if tls {
			certify(t, c)
		}
		port := c.Value(t, "select current_setting('port')")
		several := strings.Replace(strings.Replace(c.DSN(), "127.0.0.1", "127.0.0.1,127.0.0.1", 1), "port="+port, "port=1,"+port, 1)
		for _, try := range []struct {
			dsn            string
			prefers, fails bool
		}{
			{dsn: c.DSN(), prefers: true},
			{dsn: c.DSN() + " sslmode=prefer", prefers: true},
			{dsn: c.DSN() + " sslmode=allow"},
			{dsn: c.DSN() + " sslmode=disable"},
			{dsn: c.DSN() + " sslmode=require", prefers: true, fails: !tls},
			{dsn: several, prefers: true},
			{dsn: strings.Replace(c.DSN(), "dbname=postgres", "dbname=nowhere", 1), prefers: true, fails: true},
		} {
			before := c.Log(t)
			conn, err := pg.Connect(within(t), try.dsn)
			if err == nil {
				_, err = conn.Facts(within(t))
				conn.Close()
			}
			if (err != nil) != try.fails {
				t.Errorf("TLS %v, %s: %v", tls, try.dsn, err)
			}
			var received, encrypted int
			for deadline := time.Now().Add(5 * time.Second); received == 0 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
				said := strings.TrimPrefix(c.Log(t), before)
				received, encrypted = strings.Count(said, "connection received"), strings.Count(said, "SSL enabled")
			}
			if received != 1 || (encrypted == 1) != (tls && try.prefers) {
				t.Errorf("TLS %v, %s: %d connections, %d encrypted", tls, try.dsn, received, encrypted)
			}
		}
	}
}

// certify lets a server offer TLS.
func certify(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	certificate, key := certtest.Pair(t)
	for name, text := range map[string][]byte{"server.crt": certificate, "server.key": key} {
		path := filepath.Join(c.DataDir, name)
		err := os.WriteFile(path, text, 0o600)
		if owner := pgtest.Credential(t); err == nil && owner != nil {
			err = os.Chown(path, int(owner.Uid), int(owner.Gid))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.Exec(t, "alter system set ssl = on")
	c.Exec(t, "select pg_reload_conf()")
}
