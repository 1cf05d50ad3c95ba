//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// barman runs Barman on our configuration, as the user of the server.
func (s *site) barman(args ...string) barmantest.Result {
	s.t.Helper()
	cred := pgtest.Credential(s.t)
	if cred == nil {
		s.t.Fatal("Barman's tree needs root: run this test as root")
	}
	return barmantest.RunAs(s.t, []string{s.home}, int(cred.Uid), int(cred.Gid), append([]string{"barman", "-c", s.conf}, args...)...)
}

func (s *site) barmanOK(args ...string) string {
	s.t.Helper()
	r := s.barman(args...)
	if r.Exit != 0 {
		s.t.Fatalf("barman %v: exit %d\n%s%s", args, r.Exit, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// TestBarmanReadsWhatWeWroteAndBack: Barman lists, shows, checks and restores
// our backup, and we list, show and restore the one that Barman then takes.
func TestBarmanReadsWhatWeWroteAndBack(t *testing.T) {
	for _, version := range pgtest.Versions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, version, "compression = gzip")
			s.Fill(t, "first", "ts1", 1000)
			ours := string(s.backup())
			s.Fill(t, "first", "ts1", 100)
			s.archive()
			want := s.Fingerprint(t)

			s.sameObjects("list-backups", "main")
			s.sameObjects("show-backup", "main", ours)
			s.barmanOK("check", "main")
			s.barmanOK("check-backup", "main", ours)
			dest := filepath.Join(s.home, "by-barman")
			theirAnswer := s.barmanOK("-f", "json", "restore", "--tablespace", "ts1:"+dest+"_ts1", "main", ours, dest)
			s.sameRows(version, dest, want)
			other := filepath.Join(s.home, "by-us-first")
			s.sameKeys(theirAnswer, s.ok("-f", "json", "restore", "--tablespace", "ts1:"+other+"_ts1", "main", ours, other))
			failed := s.failedBackup()
			s.sameObjects("list-backups", "main")
			s.sameObjects("show-backup", "main", failed)
			s.sameObjects("show-backup", "main", "last-failed")

			// Barman refuses a second backup within the second of the first.
			s.barmanOK("backup", "--wait", "main")
			s.archive()
			theirs := s.theBackup()
			if string(theirs) == ours {
				t.Fatal("Barman took no backup")
			}
			s.sameObjects("list-backups", "main")
			s.sameObjects("show-backup", "main", string(theirs))
			if out := s.ok("show-backup", "main", "latest"); strings.Contains(out, "Holdfast information") {
				t.Errorf("a backup of Barman has what only ours has:\n%s", out)
			}
			if out := s.ok("show-backup", "main", ours); !strings.Contains(out, "Proven") || !strings.Contains(out, "Attempt 1") {
				t.Errorf("our backup lacks its proof:\n%s", out)
			}
			dest = s.restoreTo("by-us", string(theirs))
			s.sameRows(version, dest, want)
			dest = s.restoreTo("by-us-in-time", string(theirs), "--target-immediate", "--target-action", "promote", "--get-wal")
			s.sameRows(version, dest, want)
		})
	}
}

// sameRows starts what was restored, beside the source.
func (s *site) sameRows(version, dest, want string) {
	s.t.Helper()
	c := pgtest.NewFromDataDir(s.t, version, dest)
	if got := c.Fingerprint(s.t); got != want {
		s.t.Errorf("%s: other rows than the source", dest)
	}
	c.AmCheck(s.t)
	c.Stop(s.t, pgtest.Fast)
}

// sameObjects compares our JSON with Barman's.
func (s *site) sameObjects(args ...string) {
	s.t.Helper()
	full := append([]string{"-f", "json"}, args...)
	var theirs, ours any
	s.must(json.Unmarshal([]byte(s.barmanOK(full...)), &theirs))
	s.must(json.Unmarshal([]byte(s.ok(full...)), &ours))
	// Barman's only remark is about the option that it does not know.
	if object, is := theirs.(map[string]any); is {
		if remark := fmt.Sprint(object["_WARNING"]); !strings.Contains(remark, "holdfast_state_directory") {
			s.t.Errorf("barman %v: %s", args, remark)
		}
		delete(object, "_WARNING")
	}
	compare(s.t, strings.Join(args, " "), theirs, ours)
}

// sameKeys compares the keys of two JSON objects.
func (s *site) sameKeys(theirs, ours string) {
	s.t.Helper()
	var a, b map[string]any
	s.must(json.Unmarshal([]byte(theirs), &a))
	s.must(json.Unmarshal([]byte(ours), &b))
	for _, o := range []map[string]any{a, b} {
		for key := range o {
			if strings.HasPrefix(key, "_") {
				delete(o, key)
			}
		}
	}
	x, y := slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(b))
	if !slices.Equal(x, y) {
		s.t.Errorf("Barman's keys: %v\nours: %v", x, y)
	}
}

// failedBackup files one, with a name.
func (s *site) failedBackup() string {
	s.t.Helper()
	cat := s.catalog()
	info, err := cat.Resolve("latest")
	s.must(err)
	info.ID, info.Status, info.BackupName, info.Error = "20250101T000000", backup.Failed, ptr("before upgrade"), ptr("the disk was full")
	info.EndTime, info.EndWAL, info.EndLSN, info.EndOffset = nil, nil, nil, nil
	s.must(cat.Create(info))
	s.own(filepath.Join(s.home, "repo"))
	return string(info.ID)
}

// compare reports each place where two JSON values differ.
func compare(t *testing.T, path string, theirs, ours any) {
	t.Helper()
	a, isObject := theirs.(map[string]any)
	b, both := ours.(map[string]any)
	if isObject && both {
		for key, value := range a {
			compare(t, path+"."+key, value, b[key])
		}
		for key := range b {
			if _, is := a[key]; !is {
				t.Errorf("%s.%s: only we have it: %v", path, key, b[key])
			}
		}
		return
	}
	x, _ := json.Marshal(theirs)
	y, _ := json.Marshal(ours)
	if string(x) != string(y) {
		t.Errorf("%s: Barman says %s, we say %s", path, x, y)
	}
}
