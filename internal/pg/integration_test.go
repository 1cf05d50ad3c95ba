//go:build integration

package pg_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backuplabel"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

func eachVersion(t *testing.T, test func(t *testing.T, c *pgtest.Cluster)) {
	for _, v := range pgtest.Versions() {
		t.Run(v, func(t *testing.T) {
			test(t, pgtest.Start(t, pgtest.Options{Version: v}))
		})
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestSession(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *pgtest.Cluster) {
		ctx := within(t)
		// Each of them would end an idle session after a moment.
		for _, name := range []string{"statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "lock_timeout"} {
			c.Exec(t, "alter system set "+name+" = '300ms'")
		}
		if c.Value(t, "select count(*) from pg_settings where name = 'transaction_timeout'") == "1" {
			c.Exec(t, "alter system set transaction_timeout = '300ms'")
		}
		c.Exec(t, "select pg_reload_conf()")
		s, err := pg.OpenSession(ctx, c.DSN())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		start, err := s.Start(ctx, "Barman backup main 20261124T000000", true)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := s.Ping(ctx); err != nil {
			t.Fatalf("a timeout of the server ended the session: %v", err)
		}
		if f := start.Facts; f.DataDirectory != c.DataDir || f.SegmentSize != wal.DefaultSegmentSize || f.Timeline != 1 || f.SystemID == "" || f.ConfigFile == "" {
			t.Errorf("facts: %+v", f)
		}
		stop, err := s.Stop(ctx)
		if err != nil {
			t.Fatal(err)
		}
		label, err := backuplabel.Parse(stop.Label)
		if err != nil || label.StartLSN.String() != start.LSN || label.Text != "Barman backup main 20261124T000000" {
			t.Errorf("label %+v, %v; started at %s", label, err, start.LSN)
		}
		conn, err := pg.Connect(ctx, c.DSN())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		end, err := wal.ParseLSN(stop.LSN)
		if err != nil {
			t.Fatal(err)
		}
		last := wal.SegmentOf(stop.Timeline, end-1, wal.DefaultSegmentSize).Name()
		if standby, err := conn.EndSegment(ctx, last); err != nil || standby {
			t.Fatal(standby, err)
		}
		if now := c.Value(t, "select pg_walfile_name(pg_current_wal_insert_lsn())"); now <= last {
			t.Errorf("the server still writes %s", now)
		}
	})
}

func TestASessionThatIsTerminatedIsNoticed(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *pgtest.Cluster) {
		ctx := within(t)
		s, err := pg.OpenSession(ctx, c.DSN())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Start(ctx, "x", true); err != nil {
			t.Fatal(err)
		}
		if err := s.Check(ctx); err != nil {
			t.Fatalf("a session that lives: %v", err)
		}
		c.Exec(t, "select pg_terminate_backend(pid) from pg_stat_activity where application_name like '%backup%' and pid <> pg_backend_pid()")
		for deadline := time.Now().Add(10 * time.Second); s.Check(ctx) == nil; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nobody noticed")
			}
		}
		if _, err := s.Stop(ctx); !fault.Is(err, fault.Connection) {
			t.Errorf("stop: %v", err)
		}
	})
}

func TestMissingPrivilegesAreNamed(t *testing.T) {
	eachVersion(t, func(t *testing.T, c *pgtest.Cluster) {
		ctx := within(t)
		c.Exec(t, `create role "odd name" login`)
		dsn := strings.Replace(c.DSN(), "user=postgres", "user='odd name'", 1)
		conn, err := pg.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		err = conn.CheckPrivileges(ctx)
		if hint := fault.HintOf(err); !fault.Is(err, fault.Permission) || !strings.Contains(hint, `GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean) TO "odd name"`) {
			t.Fatalf("%v\nhint: %s", err, hint)
		}
		// The hint is a program: after it nothing is missing.
		_, statements, _ := strings.Cut(fault.HintOf(err), ": ")
		c.Exec(t, statements)
		if err := conn.CheckPrivileges(ctx); err != nil {
			t.Errorf("after %s: %v", statements, err)
		}
		if _, err := conn.Facts(ctx); err != nil {
			t.Errorf("facts: %v", err)
		}
		s, err := pg.OpenSession(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, err := s.Start(ctx, "x", false); err != nil {
			t.Error(err)
		}
	})
}

// A pooler shows itself by a backend that is not the one that greeted us: here
// the PID in the greeting is bent.
func TestAPoolerIsRefused(t *testing.T) {
	c := pgtest.Start(t, pgtest.Options{Version: "15"})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := strings.Cut(l.Addr().String(), ":")
	target := "127.0.0.1:" + c.Value(t, "select current_setting('port')")
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go bend(in, target)
		}
	}()
	dsn := strings.Replace(c.DSN(), "port="+strings.Split(target, ":")[1], "port="+port, 1)
	_, err = pg.OpenSession(within(t), dsn)
	if !fault.Is(err, fault.Config) || !strings.Contains(err.Error(), "pooler") {
		t.Errorf("got %v", err)
	}
}

// bend passes everything on but for the PID in BackendKeyData ('K').
func bend(client net.Conn, target string) {
	defer client.Close()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() { _, _ = io.Copy(server, client) }()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if i := strings.Index(string(buf[:n]), "K\x00\x00\x00\x0c"); i >= 0 && i+9 <= n {
			buf[i+8] ^= 1
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}
