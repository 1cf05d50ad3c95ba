//go:build integration

package main

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/sshtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
	"github.com/holdfast-pg/holdfast/workflows"
)

// leftBackupMode verifies that the server is in no exclusive backup.
func (b *bed) leftBackupMode(t *testing.T) {
	t.Helper()
	if b.Cluster.Value(t, "pg_is_in_backup()") != "false" {
		t.Error("the server is in backup mode")
		b.Cluster.Exec(t, "select pg_stop_backup(true, false)")
	}
}

// TestExclusive: a backup in exclusive mode outlives every process of ours, a
// restart of the server begins it anew, and the server never stays in that mode.
func TestExclusive(t *testing.T) {
	t.Parallel()
	b, s := newBedOver(t, pgtest.AllVersions()[0], sshtest.Options{}, "backup_options = exclusive_backup")
	t.Run("Barman restores it", func(t *testing.T) {
		got := b.backup(t)
		b.leftBackupMode(t)
		info, err := b.cat.Get(got.ID)
		if err != nil || info.BackupLabel != nil || *info.Mode != "rsync-exclusive" {
			t.Errorf("label %v, mode %v, %v", info.BackupLabel, *info.Mode, err)
		}
		b.keepHistory(t, "rsync-exclusive", workflows.BackupID(stacktest.Server))
		b.judge(t, got)
		b.verify(t, got, 0)
	})
	for _, k := range []struct {
		victim, point string
		attempts      int    // 0 for any
		history       string // under which it is kept; "" for not
	}{
		{"keeper", duringCopy, 1, "rsync-exclusive-keeper-killed"}, {"copy", duringCopy, 1, ""}, {"session", duringCopy, 1, ""},
		{"keeper", "after:StartBackup", 1, ""}, {"keeper", "before:StopBackup", 1, ""}, {"keeper", "after:StopBackup", 0, "rsync-exclusive-stop-lost"},
	} {
		t.Run("killed "+k.victim+" "+k.point, func(t *testing.T) {
			got := b.try(t, scenario{config.MethodRsync, b.Cluster.Version, k.victim, k.point})
			if k.history != "" {
				b.keepHistory(t, k.history, workflows.BackupID(stacktest.Server))
			}
			b.leftBackupMode(t)
			if k.attempts > 0 && got.Attempts != k.attempts {
				t.Errorf("%d attempts", got.Attempts)
			}
		})
	}
	t.Run("PostgreSQL is restarted", func(t *testing.T) {
		postgreSQLRestarts(t, b)
		b.leftBackupMode(t)
	})
	b.Configure(t, config.MethodLocalRsync, "backup_options = exclusive_backup")
	t.Run("local-rsync", func(t *testing.T) {
		before := b.count(t)
		b.verify(t, b.backup(t), before)
		b.leftBackupMode(t)
	})
	b.overSSH(t, s, "backup_options = exclusive_backup")
	t.Run("cancelled", func(t *testing.T) {
		if r := b.during(t, func() { b.Must(t, "cancel", stacktest.Server) }, slow...); r.Code != 130 {
			t.Errorf("exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		b.keepHistory(t, "rsync-exclusive-cancelled", workflows.BackupID(stacktest.Server))
		b.on(t, nil)
		b.CheckNothingIsLeft(t)
		b.leftBackupMode(t)
		b.checkHost(t)
	})
	for _, by := range []string{"cron", "doctor", "backup"} {
		t.Run("abandoned, ended by "+by, func(t *testing.T) { b.abandonedExclusive(t, by) })
	}
	t.Run("somebody else's", func(t *testing.T) {
		b.Cluster.Exec(t, "select pg_start_backup('a script of the DBA', true, true)")
		r := b.Holdfast(t, "backup", stacktest.Server, "--wait")
		if r.Code != 4 || !strings.Contains(r.Stderr, `"a script of the DBA"`) || !strings.Contains(r.Stderr, "pg_stop_backup") {
			t.Errorf("exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
		b.Must(t, "cron", stacktest.Server)
		if b.Cluster.Value(t, "pg_is_in_backup()") != "true" {
			t.Error("somebody else's backup was ended")
		}
		b.Cluster.Exec(t, "select pg_stop_backup(true, false)")
	})
}

// abandonedExclusive ends a workflow behind the back of its processes.
func (b *bed) abandonedExclusive(t *testing.T, by string) {
	b.during(t, func() {
		b.Signal(t, "keeper", unix.SIGSTOP)
		c, ctx := b.client(t)
		if err := c.TerminateWorkflow(ctx, workflows.BackupID(stacktest.Server), "", "nobody is told"); err != nil {
			t.Error(err)
		}
		b.Kill(t, "copy") // which would tell of its end in the middle of the next test
		b.Kill(t, "keeper")
	}, slow...)
	b.on(t, nil)
	id, _ := b.newest()
	if b.Cluster.Value(t, "pg_is_in_backup()") != "true" {
		t.Fatal("the server has left backup mode by itself")
	}
	switch by {
	case "cron":
		b.Must(t, "cron", stacktest.Server)
	case "doctor":
		if r := b.Holdfast(t, "doctor", stacktest.Server, "--fix"); !strings.Contains(r.Stdout, "removed: backup mode of PostgreSQL, entered for backup "+string(id)) {
			t.Errorf("doctor says %s%s", r.Stdout, r.Stderr)
		}
	case "backup":
		before := b.count(t)
		got := b.backup(t)
		b.Must(t, "cron", stacktest.Server)
		b.verify(t, got, before)
	}
	b.leftBackupMode(t)
	b.Must(t, "cron", stacktest.Server)
	if info, err := b.cat.Get(id); err != nil || info.Status != backup.Failed {
		t.Errorf("%v, %v", info.Status, err)
	}
}
