//go:build integration

package pg_test

import (
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backuplabel"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

const ours = "Barman backup main 20261124T000000"

// TestExclusive: the server is in backup mode by itself, and only for the backup
// under one label.
func TestExclusive(t *testing.T) {
	c := pgtest.Start(t, pgtest.Options{Version: pgtest.AllVersions()[0], Tablespaces: []string{"far"}})
	c.Exec(t, "alter system set statement_timeout = '10s'")
	ctx := within(t)
	mode := func(want string) {
		t.Helper()
		if got := c.Value(t, "pg_is_in_backup()"); got != want {
			t.Fatalf("in backup mode: %s", got)
		}
	}
	open := func() *pg.Exclusive {
		t.Helper()
		e, err := pg.OpenExclusive(ctx, c.DSN())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(e.Detach)
		return e
	}
	first := open()
	start, err := first.Start(ctx, ours, true)
	if err != nil || start.LSN == "" || start.Timeline != 1 || start.At.IsZero() || start.Facts.DataDirectory != c.DataDir {
		t.Fatalf("%+v, %v", start, err)
	}
	first.Detach()
	mode("true")

	second := open()
	again, err := second.Start(ctx, ours, true)
	if err != nil || again.LSN != start.LSN || !again.At.Equal(start.At) {
		t.Errorf("the backup that is under way begins at %s, %s, not at %s, %s (%v)", again.LSN, again.At, start.LSN, start.At, err)
	}
	if _, err := open().Start(ctx, "Barman backup main 20261125T000000", true); !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), ours) {
		t.Errorf("another backup: %v", err)
	}
	stop, err := second.Stop(ctx)
	if err != nil || stop.LSN <= start.LSN || stop.Timeline != 1 || !strings.Contains(stop.TablespaceMap, c.Tablespaces["far"]) {
		t.Errorf("%+v, %v", stop, err)
	}
	if l, err := backuplabel.Parse(stop.Label); err != nil || l.Text != ours || l.StartLSN.String() != start.LSN {
		t.Errorf("%+v, %v", l, err)
	}
	mode("false")
	if err := second.Ping(ctx); !fault.Is(err, fault.SessionLost) {
		t.Errorf("a backup that has ended is not lost: %v", err)
	}

	third := open()
	if _, err := third.Start(ctx, ours, true); err != nil {
		t.Fatal(err)
	}
	third.Close()
	mode("false")
	third = open()
	if _, err := third.Start(ctx, ours, true); err != nil {
		t.Fatal(err)
	}
	c.Stop(t, pgtest.Immediate)
	if err := third.Check(ctx); err != nil {
		t.Errorf("a server that does not answer may still be in backup mode: %v", err)
	}
	c.Restart(t)
	if err := third.Check(ctx); err == nil || !strings.Contains(err.Error(), "restarted") {
		t.Errorf("a server that was restarted: %v", err)
	}
	if _, err := third.Stop(ctx); !fault.Is(err, fault.SessionLost) {
		t.Errorf("stop after a restart: %v", err)
	}
	mode("false")
}

// TestExclusiveIsRefused where there is none, and where its label cannot be read.
func TestExclusiveIsRefused(t *testing.T) {
	ctx := within(t)
	for _, version := range []string{"13", "15"} {
		c := pgtest.Start(t, pgtest.Options{Version: version})
		c.Exec(t, "create role reader login; grant pg_read_all_settings, pg_read_all_stats to reader")
		_, err := pg.OpenExclusive(ctx, strings.Replace(c.DSN(), "user=postgres", "user=reader", 1))
		kind, cure := fault.Permission, "GRANT EXECUTE ON FUNCTION pg_read_file(text, bigint, bigint, boolean)"
		if version == "15" {
			kind, cure = fault.Refused, "concurrent_backup"
		}
		if !fault.Is(err, kind) || !strings.Contains(fault.HintOf(err), cure) {
			t.Errorf("%s: %v; %s", version, err, fault.HintOf(err))
		}
	}
}
