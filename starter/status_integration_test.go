//go:build integration

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// TestStatusOfARunningBackup: what the engine knows of a backup is part of the
// status, and only while one runs.
func TestStatusOfARunningBackup(t *testing.T) {
	s := stacktest.Start(t, stacktest.Options{Method: "postgres", Settings: []string{"bandwidth_limit = 2000"}})
	s.Cluster.Fill(t, "rows", "", 20000)
	running := func() string {
		t.Helper()
		var status map[string]map[string]struct{ Message string }
		if err := json.Unmarshal([]byte(s.Must(t, "-f", "json", "status", stacktest.Server).Stdout), &status); err != nil {
			t.Fatal(err)
		}
		return status[stacktest.Server]["running_backup"].Message
	}
	if got := running(); got != "" {
		t.Errorf("nothing runs, but: %s", got)
	}
	s.Must(t, "backup", stacktest.Server, "--detach")
	got := ""
	for end := time.Now().Add(time.Minute); !strings.Contains(got, "phase copy") || !strings.Contains(got, "%"); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the status never showed the progress of the copy: %q", got)
		}
		got = running()
	}
	for _, want := range []string{"attempt 1", "MiB of"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	if out := s.Must(t, "list-backups", stacktest.Server).Stdout; !strings.Contains(out, " - STARTED") {
		t.Errorf("list-backups: %q", out)
	}
	if r := s.Holdfast(t, "restore", stacktest.Server, onlyBackup(t, s), t.TempDir()); r.Code != 4 || !strings.Contains(r.Stderr, "STARTED") {
		t.Errorf("restore of an unfinished backup: %+v", r)
	}
	if r := s.Holdfast(t, "delete", stacktest.Server, onlyBackup(t, s)); r.Code != 4 || !strings.Contains(r.Stderr, "holdfast cancel "+stacktest.Server) {
		t.Errorf("deletion of a backup that is being made: %+v", r)
	}
	s.Must(t, "cancel", stacktest.Server)
	if got := running(); got != "" {
		t.Errorf("the backup was cancelled, but: %s", got)
	}

	// The workers would back up what their own configuration says.
	other := filepath.Join(s.Dir, "other.conf")
	if text, err := os.ReadFile(s.Config); err != nil || os.WriteFile(other, append(text, "parallel_jobs = 9\n"...), 0o644) != nil {
		t.Fatal("no other configuration")
	}
	if r := s.Holdfast(t, "-c", other, "backup", stacktest.Server); r.Code != 2 || !strings.Contains(r.Stderr, "other values of parallel_jobs (default)") || !strings.Contains(r.Stderr, "HINT: name the workers' configuration with -c") {
		t.Errorf("a backup with another configuration: %+v", r)
	}

	// A program that is too old is refused before anything is written.
	old := pgtest.Dir(t)
	if err := os.WriteFile(filepath.Join(old, "rsync"), []byte("#!/bin/sh\necho 'rsync  version 3.1.2  protocol version 31'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.Configure(t, "local-rsync", "path_prefix = "+old)
	before := s.Must(t, "list-backups", "--minimal", stacktest.Server).Stdout
	r := s.Holdfast(t, "backup", stacktest.Server)
	if after := s.Must(t, "list-backups", "--minimal", stacktest.Server).Stdout; r.Code == 0 || !strings.Contains(r.Stderr, "it is of version 3.1.2, 3.1.3 is needed") || !strings.Contains(r.Stderr, "HINT: install rsync 3.1.3") || after != before {
		t.Errorf("a backup with an old rsync: %+v\n%s", r, after)
	}
	if r := s.Holdfast(t, "check", stacktest.Server); r.Code != 1 || !strings.Contains(r.Stdout, "\trsync: FAILED (use "+old) {
		t.Errorf("a check with an old rsync: %+v", r)
	}
}

// onlyBackup is the ID of the only backup.
func onlyBackup(t *testing.T, s *stacktest.Stack) string {
	t.Helper()
	return strings.TrimSpace(s.Must(t, "list-backups", "--minimal", stacktest.Server).Stdout)
}
