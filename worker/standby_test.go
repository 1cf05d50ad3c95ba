//go:build integration

package main

import (
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// follow makes a standby of the bed's server, and backups are taken from there.
// archiving is its archive_mode: where that is on, the primary alone archives.
func (b *bed) follow(t *testing.T, method, archiving string, settings ...string) {
	t.Helper()
	primary := b.Cluster
	if b.disks == nil {
		b.Cluster = primary.Standby(t, "archive_mode="+archiving)
	} else {
		home, spaces := b.standbyDirs(t)
		b.Cluster = primary.StandbyIn(t, home, spaces, "archive_mode="+archiving)
	}
	t.Cleanup(func() { b.Cluster = primary })
	b.Configure(t, method, settings...)
}

// TestStandby: a backup of a standby whose primary is idle is DONE, because the
// primary is asked to end the WAL that it waits for; one whose standby is
// promoted begins anew there, and is DONE under the same ID.
func TestStandby(t *testing.T) {
	t.Parallel()
	for i, method := range []string{config.MethodPostgres, config.MethodLocalRsync} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, method, pgtest.Versions()[1-i])
			b.follow(t, method, []string{"always", "on"}[i], "primary_conninfo = "+b.Cluster.DSN())
			b.verify(t, b.backup(t), 0)

			for _, item := range []string{"PostgreSQL server is standby: OK", "Primary server is not a standby: OK", "Primary and standby have same system ID: OK", "archive_mode: OK"} {
				if out := b.Must(t, "check", stacktest.Server).Stdout; !strings.Contains(out, item) {
					t.Errorf("check does not say %q:\n%s", item, out)
				}
			}

			for _, s := range []scenario{{method, "", "copy", duringCopy}, {method, "", "keeper", "before:StopBackup"}, {method, "", "workflow", "before:WaitForWAL"}} {
				t.Run("killed "+s.Victim+" "+s.Point, func(t *testing.T) { b.try(t, s) })
			}

			got := took(t, b.during(t, func() { b.Cluster.Promote(t) }, slow...))
			if method == config.MethodLocalRsync && got.Attempts < 2 {
				t.Errorf("the promotion cost no attempt: %+v", got)
			}
			b.verify(t, got, 0)
		})
	}
}

// TestStandbyOfAnotherPrimary: a standby whose WAL nobody archives is refused, and
// so is a primary that is none of its own.
func TestStandbyOfAnotherPrimary(t *testing.T) {
	t.Parallel()
	b := newBed(t, config.MethodLocalRsync, pgtest.Versions()[1])
	b.follow(t, config.MethodLocalRsync, "on")
	refused := func(settings string, says ...string) {
		t.Helper()
		b.Configure(t, config.MethodLocalRsync, settings)
		r := b.Holdfast(t, "backup", stacktest.Server)
		for _, text := range says {
			if r.Code == 0 || !strings.Contains(r.Stderr, text) {
				t.Errorf("exit code %d, no %q in\n%s%s", r.Code, text, r.Stdout, r.Stderr)
			}
		}
	}
	refused("", "archive_mode = always", "primary_conninfo")
	refused("primary_conninfo = "+b.Cluster.DSN(), "names a standby")
	other := pgtest.Start(t, pgtest.Options{Version: b.Cluster.Version, NewIdentity: true})
	refused("primary_conninfo = "+other.DSN(), "names another cluster")
	refused("primary_conninfo = host=127.0.0.1 port=1", "archive_mode = always")
}
