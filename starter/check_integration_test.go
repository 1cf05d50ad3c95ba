//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// checks are the items of "check main" in JSON, and how the command ended.
type checks struct {
	items map[string]struct{ Hint, Status string }
	code  int
}

func (s *site) checks(stdout string, code int) checks {
	s.t.Helper()
	var all map[string]json.RawMessage
	c := checks{code: code}
	if err := json.Unmarshal([]byte(stdout), &all); err != nil {
		s.t.Fatalf("%v\n%s", err, stdout)
	}
	s.must(json.Unmarshal(all["main"], &c.items))
	return c
}

// listing is every file and directory below barman_home with its times.
func (s *site) listing() string {
	s.t.Helper()
	var b strings.Builder
	s.must(filepath.WalkDir(filepath.Join(s.home, "repo"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err == nil {
			fmt.Fprintln(&b, path, st.Mode(), st.Size(), st.ModTime().UnixNano())
		}
		return err
	}))
	return b.String()
}

// TestChecksAreBarmans: the same items with the same results under the same
// keys, for a healthy server and for broken ones; and ours changes nothing.
func TestChecksAreBarmans(t *testing.T) {
	s := newSite(t, "18")
	s.backup()
	good, err := os.ReadFile(s.conf)
	s.must(err)
	s.Exec(t, "create role reader login; grant pg_read_all_settings, pg_read_all_stats to reader")
	repo := filepath.Join(s.home, "repo", "main")
	file := func(path, text string) func() {
		return func() {
			s.must(os.MkdirAll(filepath.Dir(path), 0o755))
			s.must(os.WriteFile(path, []byte(text), 0o644))
			s.own(repo)
		}
	}
	for _, c := range []struct {
		name   string
		conf   string // replaces "old=>new"
		change func()
		failed []string // items that must fail
	}{
		{name: "healthy"},
		{name: "demands", conf: "archiver = on=>archiver = on\nminimum_redundancy = 2\nlast_backup_minimum_size = 100G\nlast_backup_maximum_age = 1 DAYS\nlast_wal_maximum_age = 1 DAYS\nretention_policy = REDUNDANCY 2",
			failed: []string{"backup_minimum_size", "minimum_redundancy_requirements"}},
		{name: "no server", conf: s.DSN() + "=>host=127.0.0.1 port=1 user=postgres dbname=postgres", failed: []string{"postgresql", "pg_basebackup_compatible"}},
		{name: "no privileges", conf: "conninfo = " + s.DSN() + "\nstreaming=>conninfo = " + strings.Replace(s.DSN(), "user=postgres", "user=reader", 1) + "\nstreaming", failed: []string{"no_access_to_backup_functions"}},
		{name: "no replication", conf: "streaming_conninfo = " + s.DSN() + "=>streaming_conninfo = " + strings.Replace(s.DSN(), "user=postgres", "user=reader", 1), failed: []string{"postgresql_streaming"}},
		{name: "local-rsync", conf: "backup_method = postgres=>backup_method = local-rsync"},
		{name: "inactive", conf: "archiver = on=>archiver = on\nactive = off"},
		{name: "rejected WAL", change: file(filepath.Join(repo, "errors", "000000010000000000000001.20260301T000000Z.duplicate"), "x"), failed: []string{"archiver_errors"}},
		{name: "a long queue", conf: "archiver = on=>archiver = on\nmax_incoming_wals_queue = 1", failed: []string{"incoming_wals_directory"}, change: func() {
			file(filepath.Join(repo, "incoming", "0000000100000000000000F1"), "x")()
			file(filepath.Join(repo, "incoming", "0000000100000000000000F2"), "x")()
		}},
		{name: "a failed backup", change: func() { s.failedBackup() }, failed: []string{"failed_backups"}},
		{name: "another cluster", change: file(filepath.Join(repo, "identity.json"), `{"systemid": "77", "version": "18"}`), failed: []string{"systemid_coherence"}},
		{name: "archive_command fails", change: func() {
			s.Exec(t, "alter system set archive_command = '/bin/false'")
			s.Exec(t, "select pg_reload_conf()")
			s.Exec(t, "create table unarchived(); select pg_switch_wal()")
			s.await("archiving to fail", func() bool { return s.Value(t, "select failed_count > 0 from pg_stat_archiver") == "true" })
		}, failed: []string{"continuous_archiving"}},
		{name: "no archive_command", change: func() {
			s.Exec(t, "alter system set archive_command = ''")
			s.Exec(t, "select pg_reload_conf()")
			s.await("the setting to be read", func() bool { return s.Value(t, "current_setting('archive_command')") == "" })
		}, failed: []string{"archive_command"}},
		{name: "archiving is off", change: func() {
			s.Exec(t, "alter system reset archive_command")
			s.Exec(t, "alter system set archive_mode = off")
			s.Exec(t, "alter system set wal_level = minimal")
			s.Exec(t, "alter system set max_wal_senders = 0")
			s.Restart(t)
		}, failed: []string{"archive_mode", "wal_level"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.t = t
			text := string(good)
			if c.conf != "" {
				was, is, _ := strings.Cut(c.conf, "=>")
				if !strings.Contains(text, was) {
					t.Fatalf("the configuration has no %q:\n%s", was, text)
				}
				text = strings.ReplaceAll(text, was, is)
			}
			s.must(os.WriteFile(s.conf, []byte(text), 0o644))
			if c.change != nil {
				c.change()
			}
			before := s.listing()
			run := s.run("-f", "json", "check", "main")
			ours := s.checks(run.stdout, run.code)
			if nagios := s.run("check", "--nagios", "main"); (nagios.code == 2) != (ours.code != 0) {
				t.Errorf("exit %d, but with --nagios %d: %s", ours.code, nagios.code, nagios.stdout)
			}
			if after := s.listing(); after != before {
				t.Errorf("the check has changed the repository:\n%s\nbefore:\n%s", after, before)
			}
			judged := s.barman("-f", "json", "check", "main")
			theirs := s.checks(judged.Stdout, judged.Exit)
			for key, item := range theirs.items {
				if got, is := ours.items[key]; !is || got.Status != item.Status {
					t.Errorf("%s: Barman says %v, we say %v", key, item, got)
				}
			}
			for key, item := range ours.items {
				if _, is := theirs.items[key]; !is {
					t.Errorf("%s: only we have it: %v", key, item)
				}
				if (item.Status == "FAILED") && item.Hint == "" {
					t.Errorf("%s fails without a word", key)
				}
			}
			for _, key := range c.failed {
				if ours.items[key].Status != "FAILED" {
					t.Errorf("%s: %v", key, ours.items[key])
				}
			}
			if theirs.code != ours.code {
				t.Errorf("Barman ends with %d, we with %d", theirs.code, ours.code)
			}
			if c.change != nil {
				return
			}
			if x, y := order(s.barman("check", "main").Stdout), order(s.run("check", "main").stdout); !slices.Equal(x, y) {
				t.Errorf("Barman's order is %q, ours %q", x, y)
			}
		})
	}
}

// order is the names of the items as they are listed.
func order(out string) []string {
	var names []string
	for line := range strings.Lines(out) {
		if name, _, is := strings.Cut(strings.TrimPrefix(line, "\t"), ": "); is && line[0] == '\t' {
			names = append(names, name)
		}
	}
	return names
}
