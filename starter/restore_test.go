package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/restore"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// The copies of a restore report from several goroutines.
func TestRestoreMeter(t *testing.T) {
	var out bytes.Buffer
	m := &byteMeter{what: "restores", line: &progressLine{out: &out, width: func() int { return 80 }}}
	var wg sync.WaitGroup
	for i := range int64(8) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			m.show(i<<20, 8<<20)
		}()
	}
	wg.Wait()
	if n := strings.Count(out.String(), "restores"); n != 1 {
		t.Errorf("drawn %d times at once: %q", n, &out)
	}
	m.last = time.Time{}
	m.show(4<<20, 8<<20)
	if !strings.Contains(out.String(), " 50 %  4.0 MiB of 8.0 MiB") {
		t.Errorf("%q", &out)
	}
	m.line.clear()
	if !strings.HasSuffix(out.String(), "\r\x1b[J") {
		t.Errorf("the line stays: %q", &out)
	}
}

// TestRestoreTellsWhatToLookAt: people are told everything that the JSON object has.
func TestRestoreTellsWhatToLookAt(t *testing.T) {
	res := &restore.Result{Files: 2, Bytes: 2048, WALFiles: 1, MissingFiles: []string{"pg_hba.conf"},
		Changes:  []restore.Change{{File: "postgresql.conf", Line: 7, Key: "archive_command", Value: "false"}},
		Warnings: []restore.Change{{File: "conf.d/x.conf", Line: 1, Key: "ssl_key_file", Value: "'/etc/key'"}}}
	plan := &restoreplan.Plan{Dest: "/srv/new", Notes: []string{"a note"}}
	var out, warnings bytes.Buffer
	a := &app{stdout: &out, stderr: &warnings, format: "console", json: map[string]any{}}
	a.tellRestore("main", &backupinfo.Info{ID: "20261123T023506"}, plan, res, time.Now())
	for _, want := range []string{"postgresql.conf, line 7: archive_command was switched off", "Backup 20261123T023506 of server main is restored to /srv/new (2 files, 2.0 KiB, 1 file of WAL, in less than one second)."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q lacks %q", &out, want)
		}
	}
	for _, want := range []string{"a note", "conf.d/x.conf, line 1: look at ssl_key_file = '/etc/key'", "no pg_hba.conf", "/srv/new"} {
		if !strings.Contains(warnings.String(), want) {
			t.Errorf("%q lacks %q", &warnings, want)
		}
	}
	if a.json["changes_count"] != 1 || a.json["warnings_count"] != 1 {
		t.Errorf("%v", a.json)
	}
}
