package pgtool_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pgtool"
)

// program is a directory with one that says its version.
func program(t *testing.T, says string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pg_combinebackup"), fmt.Appendf(nil, "#!/bin/sh\necho '%s'\n", says), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFind(t *testing.T) {
	older, newer, odd := program(t, "pg_combinebackup (PostgreSQL) 17.6 (Debian 17.6-1)"), program(t, "pg_combinebackup (PostgreSQL) 99beta1"), program(t, "hello")
	t.Setenv("PATH", odd+":/bin")
	for major, want := range map[int]string{17: older, 99: newer} {
		if got, err := pgtool.Find(t.Context(), "pg_combinebackup", older+"::"+newer, major); err != nil || got != filepath.Join(want, "pg_combinebackup") {
			t.Errorf("%d: %s, %v", major, got, err)
		}
	}
	_, err := pgtool.Find(t.Context(), "pg_combinebackup", older, 98)
	for _, text := range []string{"version 98 is needed", older + "/pg_combinebackup is of version 17", `it says "hello"`} {
		if !fault.Is(err, fault.Tool) || !strings.Contains(err.Error(), text) {
			t.Errorf("%v lacks %q", err, text)
		}
	}
	if _, err := pgtool.Find(t.Context(), "pg_none", "", 98); err == nil || !strings.Contains(err.Error(), "neither in path_prefix nor in PATH") || !strings.Contains(fault.HintOf(err), "postgresql-98") {
		t.Errorf("%v", err)
	}
}
