//go:build integration

package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// mistake is a command line, or a configuration, that must fail in words.
type mistake struct {
	name string
	conf string // replaces "old=>new" in the configuration; "" leaves it
	args []string
	code int
	want []string // in what is printed
}

func (s *site) refuse(list []mistake) {
	s.t.Helper()
	good, err := os.ReadFile(s.conf)
	s.must(err)
	defer func() { s.must(os.WriteFile(s.conf, good, 0o644)) }()
	for _, m := range list {
		text := string(good)
		if m.conf != "" {
			was, is, _ := strings.Cut(m.conf, "=>")
			if !strings.Contains(text, was) {
				s.t.Fatalf("%s: the configuration has no %q", m.name, was)
			}
			text = strings.ReplaceAll(text, was, is)
		}
		s.must(os.WriteFile(s.conf, []byte(text), 0o644))
		a := s.run(m.args...)
		if a.code != m.code {
			s.t.Errorf("%s: holdfast %v: exit %d, not %d\n%s%s", m.name, m.args, a.code, m.code, a.stdout, a.stderr)
		}
		for _, want := range m.want {
			if !strings.Contains(a.stdout+a.stderr, want) {
				s.t.Errorf("%s: holdfast %v lacks %q:\n%s%s", m.name, m.args, want, a.stdout, a.stderr)
			}
		}
		if strings.Contains(a.stdout+a.stderr, "s3cret") {
			s.t.Errorf("%s: a password was printed:\n%s%s", m.name, a.stdout, a.stderr)
		}
	}
}

// stands is what stands for an argument of a command that is to fail before it looks at it.
var stands = map[string]string{
	"SERVER": "main", "SERVER...": "main", "BACKUP": "latest", "BACKUP...": "latest", "DEST": "/x", "FILE": "pg_wal/000000010000000000000042",
	"NAME": "000000010000000000000042", "BEGIN": "000000010000000000000042", "END": "000000010000000000000043", "[MODEL]": "m", "MODEL": "m",
}

// describesBroken are the commands that say what is wrong with a server, or that mend it.
var describesBroken = []string{"check", "show-servers", "config-switch"}

// needs are the options without which a command is not understood.
var needs = map[string][]string{"keep": {"--status"}, "set": {"--every", "6h"}}

// TestWrongInput: each mistake is answered with its cause and its cure, and
// with the documented exit code.
func TestWrongInput(t *testing.T) {
	s := newSite(t, "15")
	s.backup()
	s.Exec(t, "create role plain login password 's3cret'")
	s.Exec(t, "create role reader login; grant pg_read_all_settings, pg_read_all_stats to reader")
	user := "user=postgres"
	segment := "000000010000000000000042"

	t.Run("any command", func(t *testing.T) {
		s.t = t
		stopsRecovery := []string{"wal-restore", "get-wal"} // codes that PostgreSQL does not take for a missing file
		for _, c := range documented((&app{stdout: io.Discard}).root()) {
			name := strings.Fields(c.CommandPath())[1:]
			s.refuse([]mistake{{"unknown option", "", append(slices.Clone(name), "--nonesuch"), 2, []string{"--nonesuch", "--help lists the options"}}})
			args, takesServer := name, false
			for _, argument := range arguments(c.Use) {
				args = append(args, stands[argument])
				takesServer = takesServer || strings.HasPrefix(argument, "SERVER")
			}
			args = append(args, needs[c.Name()]...)
			if !takesServer {
				continue
			}
			missing, broken := 3, 2
			if slices.Contains(stopsRecovery, c.Name()) {
				missing, broken = 126, 126
			}
			s.refuse([]mistake{
				{"unknown server", "[main]=>[mian]", args, missing, []string{"main", "did you mean mian?"}},
				{"no configuration", "", append([]string{"-c", "/nonexistent/holdfast.conf"}, args...), broken, []string{"/nonexistent/holdfast.conf"}},
			})
			if !strings.Contains(c.Use, "[SERVER") {
				s.refuse([]mistake{{"no arguments", "", name, 2, []string{"SERVER"}}})
			}
			if slices.Contains(describesBroken, c.Name()) {
				continue
			}
			s.refuse([]mistake{{"broken server", "backup_method = postgres=>backup_method = nonsense", args, broken, []string{s.conf + ":8", "nonsense", "local-rsync"}}})
		}
	})
	t.Run("command line", func(t *testing.T) {
		s.t = t
		s.refuse([]mistake{
			{"unknown command", "", []string{"list-bakups", "main"}, 2, []string{"no command list-bakups", "did you mean list-backups"}},
			{"unknown command in JSON", "", []string{"-f", "json", "list-bakups"}, 2, []string{"\"_ERROR\": [", "did you mean list-backups"}},
			{"unknown subcommand", "", []string{"config", "chek"}, 2, []string{"no command chek", "did you mean check"}},
			{"unknown option", "", []string{"list-backups", "main", "--minimla"}, 2, []string{"--minimla", "did you mean --minimal?"}},
			{"unknown global option", "", []string{"--formt=json", "list-servers"}, 2, []string{"--formt", "did you mean --format?"}},
			{"unknown format", "", []string{"-f", "xml", "list-servers"}, 2, []string{"xml", "console and json"}},
			{"too few arguments", "", []string{"show-backup", "main"}, 2, []string{"wants 2 arguments", "SERVER"}},
			{"no arguments", "", []string{"list-backups"}, 2, []string{"SERVER"}},
			{"too many arguments", "", []string{"switch-wal", "main", "now"}, 2, []string{"wants 1 arguments"}},
			{"two that exclude each other", "", []string{"restore", "main", "latest", "/x", "--get-wal", "--no-get-wal"}, 2, []string{"get-wal"}},
			{"unknown backup", "", []string{"show-backup", "main", "20200101T000000"}, 3, []string{"no such backup", "server main has"}},
			{"unknown name", "", []string{"show-backup", "main", "monday"}, 3, []string{"monday", "server main has"}},
			{"misspelt word", "", []string{"list-files", "main", "lastest"}, 3, []string{"did you mean latest?"}},
			{"misspelt target", "", []string{"list-files", "main", "latest", "--target", "standalon"}, 2, []string{"did you mean standalone?"}},
			{"no timeline", "", []string{"check-wal-archive", "main", "--timeline", "x"}, 2, []string{"from 1 on"}},
			{"no segment", "", []string{"check-archived-wal-range", "main", "1", segment}, 2, []string{"24 hexadecimal digits"}},
			{"wrong order", "", []string{"check-archived-wal-range", "main", segment, "000000010000000000000041"}, 2, []string{"older segment first"}},
			{"unknown shell", "", []string{"completion", "bsh"}, 2, []string{"did you mean bash?"}},
			{"no number", "", []string{"switch-wal", "main", "--archive-timeout", "soon"}, 2, []string{"soon"}},
			{"a timeout of nothing", "", []string{"switch-wal", "main", "--archive-timeout", "0"}, 2, []string{"at least 1"}},
		})
	})
	t.Run("configuration", func(t *testing.T) {
		s.t = t
		s.refuse([]mistake{
			{"no INI", "archiver = on=>archiver = on\nthis is no option", []string{"config", "check"}, 2, []string{"ERROR: " + s.conf + ":10", "write [name] or option = value"}},
			{"errors are counted", "archiver = on=>archiver = on\nbackup_method = nonsense\nstreming = on", []string{"config", "check"}, 2, []string{"ERROR: " + s.conf, "WARNING: " + s.conf, "nonsense", "streming"}},
			{"warnings are not errors", "archiver = on=>archiver = on\nstreming_archiver = on", []string{"config", "check"}, 0, []string{"WARNING", "did you mean streaming_archiver?", "no errors, 1 warning"}},
			{"bad DSN", user + "=>user=postgres password='s3cret", []string{"switch-wal", "main"}, 2, []string{"conninfo"}},
			{"no such user", "barman_home = " + s.home + "/repo=>barman_home = relative/repo", []string{"list-backups", "main"}, 2, []string{"barman_home", "relative/repo"}},
		})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		s.t = t
		s.Exec(t, "alter system set password_encryption = 'scram-sha-256'")
		s.refuse([]mistake{
			{"unknown role", user + "=>user=nobody_here", []string{"switch-wal", "main"}, 1, []string{"nobody_here", "pg_hba.conf", "psql"}},
			{"unknown database", "dbname=postgres=>dbname=nonesuch", []string{"switch-wal", "main"}, 2, []string{"nonesuch", "dbname=postgres"}},
			{"missing privilege", user + "=>user=plain password=s3cret", []string{"switch-wal", "main"}, 1, []string{"permission denied", "GRANT EXECUTE ON FUNCTION pg_switch_wal()"}},
			{"missing privilege in check", user + "=>user=reader", []string{"check", "main"}, 1, []string{"no access to backup functions: FAILED", "GRANT EXECUTE ON FUNCTION pg_backup_start"}},
			{"missing privilege in status", user + "=>user=plain password=s3cret", []string{"status", "main"}, 0, []string{"WARNING", "GRANT pg_read_all_settings", "No. of available backups: 1"}},
			{"no server", "host=127.0.0.1 port==>host=127.0.0.1 port=1 keepalives_idle=", []string{"switch-wal", "main"}, 1, []string{"127.0.0.1", "is the server running"}},
			{"no server in check", "host=127.0.0.1 port==>host=127.0.0.1 port=1 keepalives_idle=", []string{"check", "main"}, 1, []string{"PostgreSQL: FAILED", "is the server running", "minimum redundancy requirements: OK"}},
			{"no server in status", "host=127.0.0.1 port==>host=127.0.0.1 port=1 keepalives_idle=", []string{"status", "main"}, 0, []string{"WARNING", "is the server running", "Last available backup"}},
			{"Nagios", "host=127.0.0.1 port==>host=127.0.0.1 port=1 keepalives_idle=", []string{"check", "main", "--nagios"}, 2, []string{"HOLDFAST CRITICAL - 1 of 1 server failed: main"}},
			{"old pg_basebackup", "path_prefix = " + s.BinDir + "=>path_prefix = " + s.oldBaseBackup(), []string{"check", "main"}, 1, []string{"pg_basebackup compatible: FAILED", "postgresql-client-15"}},
			{"encryption of plain files", "backup_method = postgres=>backup_method = postgres\nencryption = gpg\nencryption_key_id = x", []string{"check", "main"}, 1, []string{"configuration: FAILED", "encryption = gpg", "only archives are encrypted"}},
		})
	})
	t.Run("WAL", func(t *testing.T) {
		s.t = t
		taken := filepath.Join(s.DataDir, "pg_wal", segment)
		s.must(os.WriteFile(taken, []byte("no WAL"), 0o644))
		defer os.Remove(taken)
		out := filepath.Join(s.home, "repo", "out")
		locked := filepath.Join(s.home, "locked")
		s.must(os.Mkdir(locked, 0o500))
		s.own(locked)
		s.refuse([]mistake{
			{"no such file", "", []string{"wal-archive", "main", "pg_wal/000000010000000000000099"}, 3, []string{"pg_wal/000000010000000000000099"}},
			{"no WAL name", "", []string{"wal-archive", "main", "postgresql.conf"}, 2, []string{"postgresql.conf", "wal-archive SERVER %p"}},
			{"no WAL content", "", []string{"wal-archive", "main", "pg_wal/" + segment}, 1, []string{"pg_wal/" + segment, "too short"}},
			{"nothing mounted", "/repo=>/unmounted/repo", []string{"wal-archive", "main", "pg_wal/" + segment}, 2, []string{s.home + "/unmounted/repo does not exist", "mount"}},
			{"unwritable home", "/repo=>/locked", []string{"wal-archive", "main", "pg_wal/" + segment}, 1, []string{locked, "permission denied"}},
			{"unwritable home in check", "/repo=>/locked", []string{"check", "main"}, 1, []string{"directories: FAILED", locked, "barman_user"}},
			{"not archived", "", []string{"wal-restore", "main", "0000000100000000000000FF", out}, 1, nil},
			{"no history", "", []string{"wal-restore", "main", "00000002.history", out}, 1, nil},
			{"no name", "", []string{"wal-restore", "main", "postgresql.conf", out}, 126, []string{"neither a segment"}},
			{"unwritable", "", []string{"wal-restore", "main", s.anySegment(), filepath.Join(locked, "x")}, 126, []string{"permission denied"}},
			{"archive not mounted", "/repo=>/unmounted/repo", []string{"wal-restore", "main", s.anySegment(), out}, 126, []string{"does not exist", "mounted"}},
			{"another server", "", []string{"wal-restore", "mian", s.anySegment(), out}, 126, []string{"did you mean main?"}},
		})
		if a := s.run("wal-restore", "main", "00000002.history", out); a.stdout+a.stderr != "" {
			t.Errorf("a missing history file is no message: %q", a.stdout+a.stderr)
		}
	})
}

// oldBaseBackup is a directory with a program that calls itself pg_basebackup 9.6.
func (s *site) oldBaseBackup() string {
	s.t.Helper()
	dir := filepath.Join(s.home, "old")
	s.must(os.Mkdir(dir, 0o755))
	s.must(os.WriteFile(filepath.Join(dir, "pg_basebackup"), []byte("#!/bin/sh\necho 'pg_basebackup (PostgreSQL) 9.6.24'\n"), 0o755))
	return dir
}

func (s *site) anySegment() string {
	s.t.Helper()
	info, err := s.catalog().Resolve("latest")
	s.must(err)
	return *info.BeginWAL
}

// TestWithoutEngine: what needs no engine works without one, in both formats,
// with the global options before and after the verb.
func TestWithoutEngine(t *testing.T) {
	s := newSite(t, "15")
	if out := s.ok("list-backups", "main"); out != "" {
		t.Errorf("a new server has backups: %q", out)
	}
	id := string(s.backup())
	for _, args := range [][]string{
		{"list-servers"}, {"list-servers", "--minimal"}, {"show-servers", "main"}, {"config", "check"}, {"list-backups", "main"}, {"list-backups", "all", "--minimal"},
		{"list-backup", "main"}, {"show-backup", "main", id}, {"show-backup", "main", "latest"}, {"status", "main"}, {"check", "main"}, {"check", "main", "--nagios"}, {"switch-wal", "main", "--force", "--archive"},
	} {
		if out := s.ok(args...); strings.TrimSpace(out) == "" {
			t.Errorf("%v printed nothing", args)
		}
		before, after := s.ok(append([]string{"-f", "json"}, args...)...), s.ok(append(args, "--format=json")...)
		var a, b map[string]any
		if err := json.Unmarshal([]byte(before), &a); err != nil || len(a) == 0 {
			t.Errorf("%v: %v\n%s", args, err, before)
		}
		if err := json.Unmarshal([]byte(after), &b); err != nil || len(b) == 0 {
			t.Errorf("%v: %v\n%s", args, err, after)
		}
	}
	if out := s.ok("status", "main"); !strings.Contains(out, "Running backup: unknown, the engine does not answer (holdfast up starts it)") || !strings.Contains(out, "Current WAL segment") {
		t.Errorf("status: %s", out)
	}
	for _, args := range [][]string{{"backup", "main"}, {"cancel", "main"}, {"cron"}, {"schedule", "apply"}} {
		if a := s.run(args...); a.code != 5 || !strings.Contains(a.stderr, "holdfast up") {
			t.Errorf("%v: %+v", args, a)
		}
	}
	if out := s.ok("show-servers", "main"); !strings.Contains(out, "backup_method: postgres  ["+s.conf+":8 [main]]") {
		t.Errorf("show-servers: %s", out)
	}
	if a := s.run("-q", "list-backups", "main"); a.stdout+a.stderr != "" || a.code != 0 {
		t.Errorf("-q: %+v", a)
	}
	dest := s.restoreTo("restored", "latest")
	c := pgtest.NewFromDataDir(t, "15", dest)
	if c.Fingerprint(t) != s.Fingerprint(t) {
		t.Error("other rows")
	}
}

// TestCheckIsBarmans: of a healthy server, both say the same of every item.
func TestCheckIsBarmans(t *testing.T) {
	s := newSite(t, "18")
	s.backup()
	var theirs, ours map[string]map[string]map[string]string
	s.must(json.Unmarshal([]byte(s.ok("-f", "json", "check", "main")), &ours))
	out := s.barmanOK("-f", "json", "check", "main")
	out = strings.Replace(out, `"_WARNING"`, `"x": {}, "y"`, 1)
	var raw map[string]json.RawMessage
	s.must(json.Unmarshal([]byte(out), &raw))
	theirs = map[string]map[string]map[string]string{"main": {}}
	items := theirs["main"]
	s.must(json.Unmarshal(raw["main"], &items))
	for key, item := range items {
		if got, is := ours["main"][key]; !is || got["status"] != item["status"] {
			t.Errorf("%s: Barman says %v, we say %v", key, item, got)
		}
	}
	for key := range ours["main"] {
		if _, is := items[key]; !is {
			t.Errorf("%s: only we have it", key)
		}
	}
}
