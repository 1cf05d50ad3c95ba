//go:build integration

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// TestLife is what an installation goes through, one after the other, because
// starting one is expensive.
func TestLife(t *testing.T) {
	t.Parallel()
	type part struct {
		name string
		test func(*testing.T, *bed)
	}
	parts := []part{
		{"Barman restores what we backed up", barmanRestores},
		{"a zombie changes nothing", zombieChangesNothing},
		{"PostgreSQL is restarted", postgreSQLRestarts},
		{"one backup at a time", oneBackupAtATime},
	}
	eachMethod(t, func(t *testing.T, b *bed, method string) {
		list := append(slices.Clone(parts), part{"manifests", manifestsOfRsync})
		if method == config.MethodPostgres {
			list = slices.Concat([]part{{"the engine forgets everything", engineForgets}, {"manifests", manifestsOfPostgres}}, parts, []part{{"a standby is promoted", promotion}})
		}
		for _, p := range list {
			if !t.Run(p.name, func(t *testing.T) { p.test(t, b) }) {
				return
			}
		}
	})
}

// A copy process that wakes up after its successor has finished changes nothing.
func zombieChangesNothing(t *testing.T, b *bed) {
	before := b.count(t)
	var frozen []int
	r := b.during(t, func() {
		frozen = b.Freeze(t, "copy")
		// The supervisor does not know that its child is frozen: another worker takes over.
		b.Kill(t, "session")
		b.SpawnWorker(t, "copy")
	}, "--bwlimit", "3000")
	got := took(t, r)
	sum := b.hash(t, got.ID)
	gaveUp := make(chan struct{})
	var once sync.Once
	b.on(t, func(_ testing.TB, pid int, point string) {
		if slices.Contains(frozen, pid) && strings.HasPrefix(point, "after:Copy") {
			once.Do(func() { close(gaveUp) })
		}
	})
	for _, pid := range frozen {
		_ = unix.Kill(pid, unix.SIGCONT)
	}
	await(t, gaveUp, "the zombie goes on")
	if now := b.hash(t, got.ID); now != sum {
		t.Errorf("the finished backup changed:\n%s\nwas\n%s", now, sum)
	}
	b.verify(t, got, before)
}

// A server that is restarted in the middle gets another attempt at the same backup.
func postgreSQLRestarts(t *testing.T, b *bed) {
	before := b.count(t)
	r := b.during(t, func() { b.Cluster.Restart(t) }, slow...)
	got := took(t, r)
	if got.Attempts < 2 {
		t.Errorf("%d attempts", got.Attempts)
	}
	b.verify(t, got, before)
}

// A second backup of a server is refused while one runs, Barman's lock included,
// and cancelling ends a backup cleanly.
func oneBackupAtATime(t *testing.T, b *bed) {
	lock, err := b.cat.LockBackup()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(b.Home, ".main-backup.lock"), int(pgtest.Credential(t).Uid), int(pgtest.Credential(t).Gid)); err != nil {
		t.Fatal(err)
	}
	r := b.Holdfast(t, "backup", stacktest.Server)
	if r.Code != 4 || !strings.Contains(r.Stderr, fmt.Sprint(os.Getpid())) {
		t.Errorf("with Barman's lock taken: exit code %d, %s", r.Code, r.Stderr)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	r = b.during(t, func() {
		if second := b.Holdfast(t, "backup", stacktest.Server); second.Code != 4 || !strings.Contains(second.Stderr, "runs already") {
			t.Errorf("a second backup: exit code %d, %s", second.Code, second.Stderr)
		}
		b.Must(t, "cancel", stacktest.Server)
	}, "--bwlimit", "2000")
	if r.Code != 130 {
		t.Errorf("the cancelled backup: exit code %d, %s%s", r.Code, r.Stdout, r.Stderr)
	}
	b.on(t, nil)
	b.CheckNothingIsLeft(t)
	all, _, err := b.cat.List()
	if err != nil || len(all) == 0 {
		t.Fatal(all, err)
	}
	if last := all[len(all)-1]; last.Status != backup.Failed || last.Error == nil || !strings.Contains(*last.Error, "cancelled") {
		t.Errorf("the cancelled backup is listed as %s, %v", last.Status, last.Error)
	}
	if r := b.Holdfast(t, "cancel", stacktest.Server); r.Code != 3 {
		t.Errorf("cancelled again: exit code %d, %s", r.Code, r.Stderr)
	}
	before := b.count(t)
	b.verify(t, b.backup(t), before)
}

// A backup of a standby that is promoted meanwhile is never DONE unless it can
// be restored.
func promotion(t *testing.T, b *bed) {
	before := b.count(t)
	standby := b.Cluster.Standby(t, "archive_mode=always")
	b.Cluster = standby
	b.Configure(t, config.MethodPostgres)
	r := b.during(t, func() { standby.Promote(t) }, slow...)
	b.on(t, nil)
	all, _, err := b.cat.List()
	if err != nil || len(all) != before+1 {
		t.Fatalf("%v, %v", all, err)
	}
	switch info := all[before]; info.Status {
	case backup.Failed:
		if r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, "promoted") && !strings.Contains(r.Stdout+r.Stderr, "timeline") {
			t.Errorf("exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
		}
	case backup.Done:
		b.rows = standby.Fingerprint(t)
		b.verify(t, taken{ID: info.ID, Status: info.Status}, before)
	default:
		t.Errorf("the backup is %s: %s%s", info.Status, r.Stdout, r.Stderr)
	}
}

// The engine's database may be deleted between two backups.
func engineForgets(t *testing.T, b *bed) {
	first := b.backup(t)
	b.Down(t)
	databases, err := filepath.Glob(filepath.Join(b.Home, ".holdfast", "engine.db*"))
	if err != nil || len(databases) == 0 {
		t.Fatalf("%v, %v", databases, err)
	}
	for _, path := range databases {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	// Nothing of this needs an engine.
	if list := b.Must(t, "list-backups", "--minimal", stacktest.Server); strings.TrimSpace(list.Stdout) != string(first.ID) {
		t.Errorf("listed: %s", list.Stdout)
	}
	b.Must(t, "show-backup", stacktest.Server, "latest")
	if r := b.Holdfast(t, "backup", stacktest.Server); r.Code != 5 || !strings.Contains(r.Stderr, "holdfast up") {
		t.Errorf("without an engine: exit code %d, %s", r.Code, r.Stderr)
	}
	b.Up(t)
	second := b.backup(t)
	if n := b.count(t); n != 2 {
		t.Errorf("%d backups", n)
	}
	b.verify(t, second, 1)
	b.verify(t, first, 0)
}

// Barman lists, shows and restores a backup of ours while the source still runs on the same host.
func barmanRestores(t *testing.T, b *bed) {
	got := b.backup(t)
	b.judge(t, got)
	if err := b.cat.Remove(got.ID); err != nil {
		t.Error(err)
	}
}

// judge lets Barman list, show, check and restore a backup.
func (b *bed) judge(t *testing.T, got taken) {
	t.Helper()
	dest := filepath.Join(pgtest.Dir(t), "restored")
	if list := b.barman(t, dest, "list-backups", stacktest.Server); !strings.Contains(list, string(got.ID)) {
		t.Errorf("Barman lists %s", list)
	}
	if show := b.barman(t, dest, "show-backup", stacktest.Server, string(got.ID)); !strings.Contains(show, "DONE") {
		t.Errorf("Barman shows %s", show)
	}
	b.barman(t, dest, "check-backup", stacktest.Server, string(got.ID))
	b.barman(t, dest, "restore", stacktest.Server, string(got.ID), dest, "--tablespace", "odd name's:"+dest+"-ts")
	c := pgtest.NewFromDataDir(t, b.Cluster.Version, dest)
	if rows := c.Fingerprint(t); rows != b.rows {
		t.Error("what Barman restored has other rows than the source")
	}
	c.AmCheck(t)
	c.Stop(t, pgtest.Immediate)
}

// barman runs Barman on our configuration, as the user of the server.
func (b *bed) barman(t *testing.T, dest string, args ...string) string {
	t.Helper()
	r := b.barmanMay(t, dest, args...)
	if r.Exit != 0 {
		t.Fatalf("barman %v: exit %d\n%s%s", args, r.Exit, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// barmanMay is barman for a command that may fail.
func (b *bed) barmanMay(t *testing.T, dest string, args ...string) barmantest.Result {
	t.Helper()
	cred := pgtest.Credential(t)
	if cred == nil {
		t.Fatal("Barman's tree needs root: run this test as root")
	}
	return barmantest.RunAs(t, b.visible(filepath.Dir(dest)), int(cred.Uid), int(cred.Gid), append([]string{"barman", "-c", b.Config}, args...)...)
}

// visible are the directories of the bed that Barman is to see, and others.
func (b *bed) visible(others ...string) []string {
	return append([]string{b.Dir, b.Home}, others...)
}
