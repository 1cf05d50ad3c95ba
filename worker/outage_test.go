//go:build integration

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// An engine that is away for two minutes costs neither the session nor the copy.
func TestTheEngineMayBeAway(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, b *bed, method string) {
		const outage = 2 * time.Minute
		lasts := outage + 10*time.Second
		if method == config.MethodLocalRsync {
			// It stops when the engine has been away for a heartbeat's timeout, and goes on afterwards.
			lasts = 2 * heartbeat
		}
		b.Down(t)
		b.Heartbeat = heartbeat
		b.Up(t)
		before := b.count(t)
		var sessions [2]string
		ask := func() string {
			return b.Cluster.Value(t, "select coalesce(string_agg(pid::text, ','), '') from pg_stat_activity where application_name = 'holdfast backup'")
		}
		r := b.during(t, func() {
			sessions[0] = ask()
			b.Signal(t, "engine", unix.SIGSTOP)
			time.Sleep(outage)
			sessions[1] = ask()
			b.Signal(t, "engine", unix.SIGCONT)
		}, "--bwlimit", b.rateFor(t, lasts))
		got := took(t, r)
		if method == config.MethodLocalRsync && (sessions[0] == "" || sessions[0] != sessions[1]) {
			t.Errorf("the session was %q and is %q", sessions[0], sessions[1])
		}
		if got.Attempts != 1 {
			t.Errorf("%d attempts:\n%s%s", got.Attempts, r.Stdout, r.Stderr)
		}
		b.verify(t, got, before)
	})
}

// rateFor is a bandwidth limit with which a copy lasts as long as is asked for.
func (b *bed) rateFor(t *testing.T, d time.Duration) string {
	t.Helper()
	return b.Cluster.Value(t, fmt.Sprintf("select greatest(32, sum(pg_tablespace_size(oid)) / 1024 / %d)::int from pg_tablespace where spcname <> 'pg_global'", int(d.Seconds())))
}

// A full disk ends the backup with the path and the bytes; after space was freed
// the next one succeeds.
func TestAFullDisk(t *testing.T) {
	t.Parallel()
	for i, method := range []string{config.MethodPostgres, config.MethodLocalRsync} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			home := smallDisk(t)
			b := newBedAt(t, home, method, pgtest.Versions()[1-i])
			filler := fillUp(t, home)
			r := b.Holdfast(t, "backup", stacktest.Server)
			if r.Code != 1 || !strings.Contains(r.Stderr, home) || !strings.Contains(r.Stderr, "ytes") || !strings.Contains(r.Stderr, "space") {
				t.Errorf("exit code %d: %s", r.Code, r.Stderr)
			}
			all, _, err := b.cat.List()
			if err != nil {
				t.Fatal(err)
			}
			for _, info := range all {
				if info.Status != backup.Failed {
					t.Errorf("%s is %s", info.ID, info.Status)
				}
				if err := b.cat.Remove(info.ID); err != nil {
					t.Error(err)
				}
			}
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			b.verify(t, b.backup(t), 0)
		})
	}
}

// smallDisk is a file system that can be filled.
func smallDisk(t *testing.T) string {
	t.Helper()
	home := filepath.Join(pgtest.Dir(t), "small")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", home, "tmpfs", 0, "size=400m,mode=0777"); err != nil {
		t.Fatalf("a small file system cannot be mounted (the tests run as root): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(home, unix.MNT_DETACH) })
	return home
}

// fillUp leaves less space than a backup does, and returns what is in the way.
func fillUp(t testing.TB, home string) string {
	t.Helper()
	filler := filepath.Join(home, "filler")
	var fs unix.Statfs_t
	if err := unix.Statfs(home, &fs); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filler, make([]byte, int64(fs.Bavail)*fs.Bsize-20<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	return filler
}

// A backup whose WAL cannot be archived says why it waits, and ends well when
// that is cured.
func TestAFailingArchiveCommandIsNamed(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, b *bed, _ string) {
		before := b.count(t)
		b.archiveWith(t, "false")
		ended := make(chan stacktest.Result, 1)
		go func() { ended <- b.Holdfast(t, "-f", "json", "backup", stacktest.Server, "--wait") }()
		const says = "archive_command fails"
		for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
			if strings.Contains(b.Must(t, "status", stacktest.Server).Stdout, says) {
				break
			}
			if time.Now().After(deadline) || len(ended) > 0 {
				t.Error("status does not say why the backup waits")
				break
			}
		}
		b.Cluster.Exec(t, "alter system reset archive_command")
		b.Cluster.Exec(t, "select pg_reload_conf()")
		r := <-ended
		if !strings.Contains(r.Stdout, says) {
			t.Errorf("the backup does not say why it waits: %s", r.Stdout)
		}
		b.verify(t, took(t, r), before)
	})
}
