//go:build integration

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// restoreTo restores and starts what was restored, while the source runs.
func (s *site) restoreTo(name, ref string, options ...string) string {
	s.t.Helper()
	dest := filepath.Join(s.home, name)
	s.ok(append([]string{"restore", "main", ref, dest, "--tablespace", "ts1:" + dest + "_ts1"}, options...)...)
	return dest
}

// TestRestoreOfARunningServersBackup: every kind of target, from one backup.
func TestRestoreOfARunningServersBackup(t *testing.T) {
	for _, version := range pgtest.Versions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, version, "parallel_jobs = 2", "compression = zstd")
			s.Fill(t, "first", "ts1", 2000)
			s.Exec(t, "create table second (like first including all)")
			s.Exec(t, "create database other")
			s.backup()
			rows := map[string]string{"backup": s.Fingerprint(t)}
			s.Fill(t, "second", "", 500)
			rows["time"] = s.Fingerprint(t)
			at := s.Value(t, "clock_timestamp()")
			time.Sleep(10 * time.Millisecond)
			s.Fill(t, "second", "", 500)
			rows["lsn"] = s.Fingerprint(t)
			lsn := s.Value(t, "pg_current_wal_lsn()")
			s.Fill(t, "first", "ts1", 500)
			rows["end"] = s.Fingerprint(t)
			s.archive()

			for _, c := range []struct {
				name, rows string
				options    []string
			}{
				{"plain", "end", nil},
				{"fetched", "end", []string{"--get-wal"}},
				{"immediate", "backup", []string{"--target-immediate", "--target-action", "promote"}},
				{"time", "time", []string{"--target-time", at, "--target-action", "promote"}},
				{"time fetched", "time", []string{"--target-time", at, "--target-action", "promote", "--get-wal"}},
				{"it's 100% lsn", "lsn", []string{"--target-lsn", lsn, "--target-action", "promote", "--jobs", "1"}},
			} {
				dest := s.restoreTo(c.name, "latest", c.options...)
				r := pgtest.NewFromDataDir(t, version, dest)
				if got := r.Fingerprint(t); got != rows[c.rows] {
					t.Errorf("%s: other rows than at %s", c.name, c.rows)
				}
				if got := r.Value(t, "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'ts1'"); got != dest+"_ts1" {
					t.Errorf("%s: the tablespace is at %s", c.name, got)
				}
				if c.name == "plain" {
					r.AmCheck(t)
					if _, err := os.Stat(filepath.Join(dest, "recovery.signal")); err == nil {
						t.Error("a plain restore configures recovery")
					}
				}
				r.Stop(t, pgtest.Fast)
			}
			if got := s.Fingerprint(t); got != rows["end"] {
				t.Error("the source has changed")
			}
			s.standbyAndTimeline(version, rows["end"])
		})
	}
}

// standbyAndTimeline promotes a restored standby, which archives its new
// timeline, and restores along both timelines.
func (s *site) standbyAndTimeline(version, rows string) {
	t := s.t
	t.Helper()
	dest := s.restoreTo("standby", "latest", "--standby-mode", "--get-wal")
	r := pgtest.NewStandbyFromDataDir(t, version, dest, "archive_mode=on", "archive_command="+holdfast(t)+" -c "+s.conf+" wal-archive main %p")
	s.await("the standby to replay everything", func() bool { return r.Fingerprint(t) == rows })
	if r.Value(t, "pg_is_in_recovery()") != "true" {
		t.Fatal("the standby has left recovery")
	}
	r.Promote(t)
	r.Fill(t, "second", "", 300)
	promoted := r.Fingerprint(t)
	r.Exec(t, "select pg_switch_wal()")
	s.await("timeline 2 in the archive", func() bool {
		return r.Value(t, "select count(*) from pg_ls_archive_statusdir() where name like '%.ready'") == "0"
	})
	for tli, want := range map[string]string{"": promoted, "latest": promoted, "current": rows, "2": promoted} {
		var options []string
		if tli != "" {
			options = []string{"--target-tli", tli}
		}
		dest := s.restoreTo("timeline-"+tli, "latest", options...)
		c := pgtest.NewFromDataDir(t, version, dest)
		if got := c.Fingerprint(t); got != want {
			t.Errorf("timeline %s: other rows", tli)
		}
		c.Stop(t, pgtest.Fast)
	}
	r.Stop(t, pgtest.Fast)
	// The old timeline goes on, and a later backup of it cannot reach timeline 2,
	// which has the highest number in the archive.
	s.Fill(t, "second", "", 100)
	s.backup()
	for name, options := range map[string][]string{"plain": nil, "fetched": {"--get-wal"}} {
		c := pgtest.NewFromDataDir(t, version, s.restoreTo("beside-timeline-2-"+name, "latest", options...))
		if c.Fingerprint(t) != s.Fingerprint(t) {
			t.Errorf("beside timeline 2, %s: other rows", name)
		}
		c.Stop(t, pgtest.Fast)
	}
}

func (s *site) await(what string, ready func() bool) {
	s.t.Helper()
	for end := time.Now().Add(30 * time.Second); !ready(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestRestoreRefusesBeforeItWrites(t *testing.T) {
	s := newSite(t, "15")
	s.Fill(t, "first", "ts1", 100)
	id := string(s.backup())
	taken := filepath.Join(s.home, "taken")
	s.must(os.MkdirAll(filepath.Join(taken, "something"), 0o700))
	s.own(taken)
	file := filepath.Join(s.home, "a file")
	s.must(os.WriteFile(file, []byte("x"), 0o600))
	s.own(file)
	locked := filepath.Join(s.home, "locked")
	s.must(os.Mkdir(locked, 0o500))
	s.own(locked)
	moved := "--tablespace=ts1:" + filepath.Join(s.home, "ts1")
	fresh := filepath.Join(s.home, "fresh")
	for _, c := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"not empty", []string{taken, moved}, 4, []string{"not empty", "empty or new directory"}},
		{"a file", []string{file, moved}, 4, []string{file, "no directory", "empty or new directory"}},
		{"below a file", []string{filepath.Join(file, "x"), moved}, 4, []string{"no directory"}},
		{"a file for a tablespace", []string{fresh, "--tablespace=ts1:" + file}, 4, []string{"tablespace ts1", "no directory", "--tablespace ts1:DIR"}},
		{"no name", []string{"", moved}, 2, []string{"DEST", "name a new or empty directory"}},
		{"running data directory", []string{s.DataDir, moved}, 4, []string{"not empty"}},
		{"running tablespace", []string{fresh}, 4, []string{"tablespace ts1", "not empty", "--tablespace ts1:DIR"}},
		{"unknown tablespace", []string{fresh, "--tablespace=nonesuch:/x"}, 2, []string{"nonesuch", "has ts1"}},
		{"malformed tablespace", []string{fresh, "--tablespace=ts1"}, 2, []string{"NAME:DIR"}},
		{"before the backup", []string{fresh, moved, "--target-time", "2001-01-01 00:00:00+00"}, 4, []string{"before the end of backup " + id, "times from"}},
		{"after the archive", []string{fresh, moved, "--target-time", "2101-01-01 00:00:00"}, 4, []string{"WARNING", "taken as 2101-01-01 00:00:00+00:00", "the archive ends with", "times from"}},
		{"LSN before", []string{fresh, moved, "--target-lsn", "0/1"}, 4, []string{"before the end of backup"}},
		{"LSN after", []string{fresh, moved, "--target-lsn", "FF/0"}, 4, []string{"the archive ends with", "can be restored to"}},
		{"unknown timeline", []string{fresh, moved, "--target-tli", "9"}, 4, []string{"no history file of timeline 9", "can reach: 1"}},
		{"two targets", []string{fresh, moved, "--target-lsn", "1/0", "--target-immediate"}, 2, []string{"target-lsn", "target-immediate"}},
		{"no time", []string{fresh, moved, "--target-time", "yesterday"}, 2, []string{"yesterday", "2026-11-23 02:40:00+00:00"}},
		{"no LSN", []string{fresh, moved, "--target-lsn", "here"}, 2, []string{"here", "16/B374D848"}},
		{"action without target", []string{fresh, moved, "--target-action", "promote"}, 2, []string{"no target"}},
		{"unknown action", []string{fresh, moved, "--target-immediate", "--target-action", "dance"}, 2, []string{"pause, promote or shutdown"}},
		{"among the backups", []string{filepath.Join(s.home, "repo/main/base/x"), moved}, 2, []string{"among the backups"}},
		{"unwritable parent", []string{filepath.Join(locked, "x"), moved}, 1, []string{locked, "permission denied", "writable for the user"}},
	} {
		a := s.run(append([]string{"restore", "main", id}, c.args...)...)
		if a.code != c.code {
			t.Errorf("%s: exit %d, not %d\n%s%s", c.name, a.code, c.code, a.stdout, a.stderr)
		}
		for _, want := range c.want {
			if !strings.Contains(a.stderr, want) {
				t.Errorf("%s: %q lacks %q", c.name, a.stderr, want)
			}
		}
	}
	for _, pattern := range []string{"fresh*", ".*holdfast-restore*", "ts1*", "locked/*"} {
		if left, _ := filepath.Glob(filepath.Join(s.home, pattern)); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	if a := s.run("restore", "main", "nonesuch", fresh); a.code != 3 || !strings.Contains(a.stderr, id) {
		t.Errorf("unknown backup: %+v", a)
	}
	// What is being deleted is not restored, what is being restored is not deleted.
	lock, err := s.catalog().LockID(s.theBackup())
	s.must(err)
	if a := s.run("restore", "main", id, fresh, moved); a.code != 4 || !strings.Contains(a.stderr, "held by process") {
		t.Errorf("a locked backup: %+v", a)
	}
	s.must(lock.Release())
}

// TestKilledRestore: whenever a restore is killed, the destination is complete
// or absent, and the next restore succeeds and removes what the dead one left.
func TestKilledRestore(t *testing.T) {
	s := newSite(t, "15", "parallel_jobs = 2")
	s.Fill(t, "first", "ts1", 40000)
	s.backup()
	dest := filepath.Join(s.home, "dest")
	args := []string{"restore", "main", "latest", dest, "--tablespace", "ts1:" + dest + "_ts1"}
	began := time.Now()
	s.ok(args...)
	took := time.Since(began)
	clear := func() {
		for _, dir := range []string{dest, dest + "_ts1"} {
			s.must(os.RemoveAll(dir))
		}
	}
	clear()
	const runs = 8
	completed := 0
	for i := range runs {
		cmd, _, _ := s.start(args...)
		time.Sleep(took * 5 / 4 * time.Duration(i) / (runs - 1))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_, err := os.Stat(dest)
		if err == nil {
			completed++
			if missing := incomplete(dest); missing != "" {
				t.Errorf("run %d: %s is missing", i, missing)
			}
			clear()
		}
		if a := s.run(args...); a.code != 0 {
			t.Fatalf("run %d: the next restore: %+v", i, a)
		}
		if left, _ := filepath.Glob(filepath.Join(s.home, ".*holdfast-restore*")); len(left) > 0 {
			t.Errorf("run %d: left behind: %v", i, left)
		}
		clear()
	}
	cmd, _, stderr := s.start(args...)
	s.await("the restore to have begun", func() bool {
		_, err := os.Stat(filepath.Join(s.home, ".dest.holdfast-restore", "base"))
		return err == nil
	})
	s.must(cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(stderr.String(), "nothing was left behind") {
		t.Errorf("interrupted: exit %d\n%s", code, stderr)
	}
	if left, _ := filepath.Glob(filepath.Join(s.home, "*dest*")); len(left) > 0 {
		t.Errorf("an interrupted restore left %v", left)
	}
	s.ok(args...)
	t.Logf("%d of %d killed restores had completed", completed, runs)
	r := pgtest.NewFromDataDir(t, "15", dest)
	if r.Fingerprint(t) != s.Fingerprint(t) {
		t.Error("other rows")
	}
	r.AmCheck(t)
}

// TestKilledRestoreInPlace: where the destination cannot be renamed, a restore
// that is killed leaves no directory that a server could be started on, and
// its marker lets the next one go over it.
func TestKilledRestoreInPlace(t *testing.T) {
	s := newSite(t, "15", "parallel_jobs = 2")
	s.Fill(t, "first", "ts1", 30000)
	s.backup()
	parent := filepath.Join(s.home, "mount")
	dest := filepath.Join(parent, "dest")
	s.must(os.MkdirAll(dest, 0o755))
	s.own(parent)
	s.must(os.Chmod(parent, 0o555))
	defer func() { s.must(os.Chmod(parent, 0o755)) }()
	args := []string{"restore", "main", "latest", dest, "--tablespace", "ts1:" + filepath.Join(s.home, "ts1")}
	marker, control := filepath.Join(dest, ".holdfast-restore-unfinished"), filepath.Join(dest, "global/pg_control")
	cmd, _, _ := s.start(args...)
	s.await("the restore to have begun", func() bool {
		_, err := os.Stat(filepath.Join(dest, "base"))
		return err == nil
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if _, err := os.Stat(marker); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(control); err == nil {
		t.Error("an unfinished restore could be started")
	}
	s.ok(args...)
	if _, err := os.Stat(marker); err == nil {
		t.Error("the marker is left")
	}
	if a := s.run(args...); a.code != 4 {
		t.Errorf("a second restore: %+v", a)
	}
	r := pgtest.NewFromDataDir(t, "15", dest)
	if r.Fingerprint(t) != s.Fingerprint(t) {
		t.Error("other rows")
	}
}

func incomplete(dest string) string {
	for _, name := range []string{"global/pg_control", "PG_VERSION", "backup_label", "postgresql.auto.conf", "pg_tblspc", ".barman-recover.info", "../dest_ts1"} {
		if _, err := os.Stat(filepath.Join(dest, name)); err != nil {
			return fmt.Sprint(err)
		}
	}
	return ""
}
