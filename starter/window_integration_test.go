//go:build integration

package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// TestHolesAreNamed: check and status say which WAL is missing, what can be
// restored all the same, and what a backup waits for.
func TestHolesAreNamed(t *testing.T) {
	s := newSite(t, "15")
	first := s.backup()
	for range 3 {
		s.Exec(t, "create table if not exists work (n int); insert into work values (1)")
		s.archive()
	}
	status := func() map[string]struct {
		Message   string
		Timelines []struct {
			Ranges []struct {
				FromBackup string `json:"from_backup"`
				LastWAL    string `json:"last_wal"`
				FromTime   string `json:"from_time"`
				ToTime     string `json:"to_time"`
			}
			Gaps []struct{ First, Last string }
		}
	} {
		t.Helper()
		var all map[string]map[string]struct {
			Message   string
			Timelines []struct {
				Ranges []struct {
					FromBackup string `json:"from_backup"`
					LastWAL    string `json:"last_wal"`
					FromTime   string `json:"from_time"`
					ToTime     string `json:"to_time"`
				}
				Gaps []struct{ First, Last string }
			}
		}
		s.must(json.Unmarshal([]byte(s.ok("-f", "json", "status", "main")), &all))
		return all["main"]
	}
	st := status()
	whole := st["recoverable_window"].Timelines
	if len(whole) != 1 || len(whole[0].Ranges) != 1 || whole[0].Ranges[0].FromBackup != string(first) || len(whole[0].Gaps) != 0 || st["wal_gaps"].Message != "" {
		t.Fatalf("%+v", st)
	}
	r := whole[0].Ranges[0]
	from, err := time.Parse(time.RFC3339, r.FromTime)
	s.must(err)
	to, err := time.Parse(time.RFC3339, r.ToTime)
	s.must(err)
	if to.Before(from) || time.Since(to) > time.Hour {
		t.Errorf("from %s to %s", from, to)
	}

	end, err := wal.ParseSegment(r.LastWAL, wal.DefaultSegmentSize)
	s.must(err)
	missing := wal.Segment{TLI: 1, No: end.No - 1, Size: end.Size}.Name()
	archived := filepath.Join(s.catalog().WALDir, wal.HashDir(missing), missing)
	s.must(os.Rename(archived, archived+".away"))
	if out := s.run("check", "main"); out.code != 1 || !strings.Contains(out.stdout, "\tWAL gaps: FAILED (missing "+missing+":") {
		t.Errorf("check: exit %d\n%s", out.code, out.stdout)
	}
	if out := s.run("check", "--nagios", "main"); out.code != 2 || !strings.Contains(out.stdout, "1 of 1 server failed: main; backups can be taken all the same") {
		t.Errorf("check --nagios: exit %d\n%s", out.code, out.stdout)
	}
	out := s.ok("status", "main")
	st = status()
	before := wal.Segment{TLI: 1, No: end.No - 2, Size: end.Size}.Name()
	if got := st["recoverable_window"].Timelines[0]; !strings.Contains(out, "\tWAL gaps: "+missing) || got.Ranges[0].LastWAL != before || got.Gaps[0].First != missing {
		t.Errorf("%+v\n%s", got, out)
	}
	for _, args := range [][]string{{"list-backups", "--window", "main"}, {"show-servers", "main"}} {
		if out := s.ok(args...); !strings.Contains(out, "\tWAL gaps: "+missing) || !strings.Contains(out, "\tRecoverable window: timeline 1: ") {
			t.Errorf("%v: %s", args, out)
		}
	}
	if out := s.ok("list-backups", "main"); strings.Contains(out, missing) || strings.Count(out, "\n") != 1 {
		t.Errorf("a program reads %s", out)
	}
	var listed struct {
		Main        []any
		Recoverable map[string]map[string]struct{ Message string } `json:"_recoverable"`
	}
	s.must(json.Unmarshal([]byte(s.ok("-f", "json", "list-backups", "--window", "main")), &listed))
	if len(listed.Main) != 1 || listed.Recoverable["main"]["wal_gaps"].Message != missing {
		t.Errorf("%+v", listed)
	}
	s.must(os.Rename(archived+".away", archived))

	cat := s.catalog()
	info, err := cat.Get(first)
	s.must(err)
	later := wal.Segment{TLI: 1, No: end.No + 2, Size: end.Size}
	info.ID, info.Status, info.BeginLSN, info.EndLSN = "20250101T000000", backup.WaitingForWALs, ptr(later.Start()+40), ptr(later.End())
	info.BeginWAL, info.EndWAL, info.EndTime = ptr(later.Name()), ptr(later.Name()), ptr(time.Now().Add(-24*time.Hour))
	s.must(cat.Create(info))
	s.own(filepath.Join(s.home, "repo"))
	if out := s.ok("status", "main"); !strings.Contains(out, "\tBackups that wait for WAL: 1\n\t\t20250101T000000 waits for "+later.Name()) {
		t.Errorf("%s", out)
	}
	if out := s.run("check", "main"); out.code != 1 || !strings.Contains(out.stdout, "\tbackups waiting for WAL: FAILED (20250101T000000 waits for "+later.Name()) {
		t.Errorf("check: exit %d\n%s", out.code, out.stdout)
	}

	// A server that accepts and then says nothing costs as long as the check may take.
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	defer mute.Close()
	text, err := os.ReadFile(s.conf)
	s.must(err)
	_, port, err := net.SplitHostPort(mute.Addr().String())
	s.must(err)
	s.must(os.WriteFile(s.conf, []byte(strings.ReplaceAll(string(text), s.DSN(), "host=127.0.0.1 user=postgres dbname=postgres port="+port)), 0o644))
	began := time.Now()
	if out := s.run("check", "--check-timeout", "1", "main"); out.code != 1 || !strings.Contains(out.stdout, "\tcheck timeout: FAILED") || !strings.Contains(out.stdout, "\tdirectories: OK") {
		t.Errorf("check: exit %d\n%s", out.code, out.stdout)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}
