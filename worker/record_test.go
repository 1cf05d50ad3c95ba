//go:build integration

package main

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// equalFields are those of backup.info that are the same for two backups of a
// cluster that nobody changes; others differ in their values.
var equalFields = []string{"compression", "config_file", "data_checksums", "encryption", "error", "hba_file", "ident_file", "included_files", "mode", "pgdata",
	"server_name", "status", "summarize_wal", "systemid", "tablespaces", "timeline", "version", "xlog_segment_size"}

// recordsAsBarman lets Barman take a backup as well, and compares the records of
// it and of ours, field by field.
func (b *bed) recordsAsBarman(t *testing.T, ours backup.ID, args ...string) backup.ID {
	t.Helper()
	cred := pgtest.Credential(t)
	// rsync reads the cluster where it lies, and its tablespaces beside it.
	r := barmantest.RunAs(t, b.visible(filepath.Dir(b.Cluster.DataDir)), int(cred.Uid), int(cred.Gid),
		append([]string{"barman", "-c", b.Config, "backup", stacktest.Server}, args...)...)
	if r.Exit != 0 {
		t.Fatalf("barman backup: exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
	b.Must(t, "cron", stacktest.Server) // archives, and makes it DONE
	theirs, _ := b.newest()
	mine, barmans := fields(t, b.cat.InfoPath(ours)), fields(t, b.cat.InfoPath(theirs))
	for key, want := range barmans {
		got, there := mine[key]
		switch {
		case !there:
			t.Errorf("backup.info lacks %s=%s", key, want)
		case slices.Contains(equalFields, key) && got != want:
			t.Errorf("backup.info has %s=%s, Barman's has %s", key, got, want)
		case key == "copy_stats":
			if !slices.Equal(keysIn(got), keysIn(want)) {
				t.Errorf("copy_stats is %s, Barman's is %s", got, want)
			}
		case key != "children_backup_ids" && shape(got) != shape(want):
			t.Errorf("backup.info has %s=%s, Barman's has %s", key, got, want)
		}
		delete(mine, key)
	}
	if len(mine) > 0 {
		t.Errorf("Barman does not write %v", mine)
	}
	return theirs
}

// keysIn are the keys of a Python dict, and of those in it.
func keysIn(text string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`('[^']*'|"[^"]*"):`).FindAllStringSubmatch(text, -1) {
		out = append(out, strings.Trim(m[1], `'"`))
	}
	slices.Sort(out)
	return out
}
