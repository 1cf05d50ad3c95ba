//go:build integration

package catalog_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// judge is a catalogue that Barman shares with us; no PostgreSQL is needed to look at it.
type judge struct {
	*catalog.Catalog
	t    *testing.T
	home string
	conf string
}

func newJudge(t *testing.T) *judge {
	t.Helper()
	home := pgtest.Dir(t)
	d := filepath.Join(home, "main")
	c := catalog.Open(catalog.Layout{Server: "main", BackupDir: d, BaseDir: d + "/base", MetaDir: d + "/meta", WALDir: d + "/wals", XlogDBDir: d + "/wals",
		IncomingDir: d + "/incoming", StreamingDir: d + "/streaming", ErrorsDir: d + "/errors", LockDir: home})
	if err := c.EnsureDirs(); err != nil {
		t.Fatal(err)
	}
	j := &judge{c, t, home, filepath.Join(home, "barman.conf")}
	write(t, j.conf, fmt.Sprintf("[barman]\nbarman_home = %s\nbarman_user = root\nlog_file = %s/barman.log\n[main]\nbackup_method = postgres\narchiver = on\nconninfo = host=/nowhere\nstreaming_conninfo = host=/nowhere\n",
		home, home))
	return j
}

func (j *judge) barman(args ...string) barmantest.Result {
	j.t.Helper()
	return barmantest.Run(j.t, []string{j.home}, 0, append([]string{"barman", "-c", j.conf}, args...)...)
}

// done files a backup as our workflow does.
func (j *judge) done(id string) {
	j.t.Helper()
	sample, err := os.ReadFile("../backupinfo/testdata/postgres-full.backup.info")
	if err != nil {
		j.t.Fatal(err)
	}
	info, _, err := backupinfo.Parse(backup.ID(id), string(sample))
	if err != nil {
		j.t.Fatal(err)
	}
	name := "name of " + id
	info.ServerName, info.BackupName, info.Children = "main", &name, nil
	if err := j.Create(info); err != nil {
		j.t.Fatal(err)
	}
	write(j.t, filepath.Join(j.DataDir(info.ID), "PG_VERSION"), "18\n")
	write(j.t, filepath.Join(j.WorkDir(info.ID), "claim.json"), "{}")
	if err := j.SaveExtra(info.ID, &catalog.Extra{Method: "postgres", Proof: &catalog.Proof{Files: 1}}); err != nil {
		j.t.Fatal(err)
	}
}

func TestBarmanListsAndShowsOurBackups(t *testing.T) {
	j := newJudge(t)
	j.done(first)
	j.done(second)
	if err := j.SetKeep(first, catalog.KeepStandalone); err != nil {
		t.Fatal(err)
	}
	r := j.barman("-f", "json", "list-backups", "main")
	var list map[string][]struct {
		ID     string `json:"backup_id"`
		Status string `json:"status"`
		Name   string `json:"backup_name"`
	}
	if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil || r.Exit != 0 {
		t.Fatalf("exit %d, %v\n%s%s", r.Exit, err, r.Stdout, r.Stderr)
	}
	if l := list["main"]; len(l) != 2 || l[0].ID != second || l[1].ID != first || l[1].Status != "DONE" {
		t.Errorf("%+v", list)
	}
	for _, ref := range []string{first, "oldest", "name of " + first} {
		if r := j.barman("show-backup", "main", ref); r.Exit != 0 || !strings.Contains(r.Stdout, "Backup "+first) {
			t.Errorf("%s: exit %d\n%s%s", ref, r.Exit, r.Stdout, r.Stderr)
		}
	}
	if r := j.barman("keep", "--status", "main", first); r.Exit != 0 || !strings.Contains(strings.ToLower(r.Stdout), "standalone") {
		t.Errorf("exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
	// What Barman keeps and releases, we see.
	if r := j.barman("keep", "--target", "full", "main", second); r.Exit != 0 {
		t.Errorf("exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
	if k, err := j.Keep(second); err != nil || k != catalog.KeepFull {
		t.Errorf("%q, %v", k, err)
	}
}

func TestBarmanHonoursOurBackupLock(t *testing.T) {
	j := newJudge(t)
	j.done(first)
	lock, err := j.LockBackup()
	if err != nil {
		t.Fatal(err)
	}
	r := j.barman("delete", "main", first)
	if _, err := j.Get(first); err != nil || !strings.Contains(r.Stdout+r.Stderr, "lock") && !strings.Contains(r.Stdout+r.Stderr, "nother") {
		t.Errorf("deleted under our lock: exit %d, %v\n%s%s", r.Exit, err, r.Stdout, r.Stderr)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	if r := j.barman("delete", "main", first); r.Exit != 0 {
		t.Errorf("exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
	if _, err := j.Get(first); !fault.Is(err, fault.NotFound) {
		t.Errorf("Barman did not delete our backup: %v", err)
	}
}

// Barman holds the backup lock while it waits for our lock of xlog.db.
func TestWeHonourBarmansBackupLock(t *testing.T) {
	j := newJudge(t)
	j.done(first)
	xlogdb, err := j.LockXlogDB(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 1)
	go func() {
		defer xlogdb.Release()
		refused <- onceBarmanHasIt(j.Catalog)
	}()
	if r := j.barman("delete", "main", first); r.Exit != 0 {
		t.Errorf("exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
	if err := <-refused; !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "(barman)") {
		t.Errorf("%v", err)
	}
}

// onceBarmanHasIt tries the backup lock as soon as its file names an owner.
func onceBarmanHasIt(c *catalog.Catalog) error {
	for range 300 {
		if pid, err := os.ReadFile(filepath.Join(c.LockDir, ".main-backup.lock")); err == nil && len(pid) > 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	lock, err := c.LockBackup()
	if err == nil {
		lock.Release()
	}
	return err
}
