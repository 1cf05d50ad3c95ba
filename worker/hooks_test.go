//go:build integration

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
	"github.com/holdfast-pg/holdfast/workflows"
)

// Scripts run before and after everything that they may be attached to; one
// before a backup can forbid it, and those after it see how it ended.
func TestScripts(t *testing.T) {
	t.Parallel()
	b := newBed(t, config.MethodPostgres, pgtest.Versions()[1])
	out := filepath.Join(b.Dir, "scripts")
	said := func() []string {
		t.Helper()
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(out); err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	note := "echo $BARMAN_PHASE $BARMAN_HOOK $BARMAN_STATUS$BARMAN_SEGMENT$BARMAN_ERROR >> " + out + "; chmod 666 " + out
	var settings []string
	for _, name := range []string{"backup", "delete", "archive", "recovery"} {
		settings = append(settings, "pre_"+name+"_script = "+note, "post_"+name+"_retry_script = "+note)
	}
	b.Configure(t, config.MethodPostgres, append(settings, "minimum_redundancy = 0")...)
	b.chmod(t, b.Dir)

	got := b.backup(t)
	b.keepHistory(t, "postgres-scripts", workflows.BackupID(stacktest.Server))
	lines := said()
	if lines[0] != "pre backup_script EMPTY" || lines[len(lines)-1] != "post backup_retry_script DONE" {
		t.Errorf("%q", lines)
	}
	archived := 0
	for _, l := range lines {
		if strings.HasPrefix(l, "post archive_retry_script 00000001") {
			archived++
		}
	}
	if archived == 0 {
		t.Errorf("no archived file: %q", lines)
	}

	dest := filepath.Join(pgtest.Dir(t), "restored")
	b.Must(t, "restore", stacktest.Server, string(got.ID), dest, "--tablespace", "odd name's:"+dest+"-ts")
	if lines = said(); lines[0] != "pre recovery_script DONE" || lines[len(lines)-1] != "post recovery_retry_script DONE" {
		t.Errorf("%q", lines)
	}
	b.Must(t, "delete", stacktest.Server, string(got.ID))
	if lines = said(); lines[0] != "pre delete_script DONE" || lines[len(lines)-1] != "post delete_retry_script DONE" {
		t.Errorf("%q", lines)
	}

	b.Configure(t, config.MethodPostgres, "pre_backup_retry_script = exit 63", "post_backup_script = "+note)
	r := b.Holdfast(t, "backup", stacktest.Server)
	if r.Code != 4 || !strings.Contains(r.Stderr, "pre_backup_retry_script") {
		t.Errorf("%d %s", r.Code, r.Stderr)
	}
	if lines = said(); len(lines) != 1 || !strings.HasPrefix(lines[0], "post backup_script FAILED") || !strings.Contains(lines[0], "pre_backup_retry_script") {
		t.Errorf("%q", lines)
	}
	if id, ok := b.newest(); !ok {
		t.Error("the forbidden backup is not listed")
	} else if info, err := b.cat.Get(id); err != nil || info.Status != backup.Failed {
		t.Errorf("%+v, %v", info, err)
	}
	b.CheckNothingIsLeft(t)
}

// chmod lets every user write into a directory.
func (b *bed) chmod(t *testing.T, dir string) {
	t.Helper()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
}
