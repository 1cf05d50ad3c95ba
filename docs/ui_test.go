//go:build integration

package docs

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// twoServers is the configuration of the walk: the backup of one server cannot succeed.
const twoServers = `[barman]
barman_home = /var/lib/barman
barman_user = postgres
immediate_checkpoint = true
backup_method = postgres
archiver = on

[main]
description = orders and invoices
conninfo = host=127.0.0.1 user=postgres dbname=postgres

[crm]
description = customers
conninfo = host=127.0.0.1 user=crm dbname=postgres
`

// walk looks at the UI as docs/ui.md does, and makes its pictures: into a
// temporary directory, or with HOLDFAST_RECORD=1 into docs/images.
func (s *site) walk(t *testing.T) {
	must(t, os.WriteFile(s.Config, []byte(s.places("ui").Replace(twoServers)), 0o644))
	s.Cluster.Exec(t, "create role crm login")
	s.Must(t, "schedule", "set", "main", "--cron", "0 2 * * *")
	s.Must(t, "schedule", "set", "crm", "--every", "6h")
	if r := s.Holdfast(t, "backup", "crm"); r.Code != 1 || !strings.Contains(r.Stderr, "GRANT") {
		t.Fatalf("exit code %d: %s", r.Code, r.Stderr)
	}
	s.Must(t, "backup", "main", "--bwlimit", "40", "--detach")
	id := s.running(t)

	images := t.TempDir()
	if os.Getenv("HOLDFAST_RECORD") != "" {
		images = "images"
	}
	b := openBrowser(t)
	look := func(name string) {
		t.Helper()
		must(t, os.WriteFile(filepath.Join(images, name+".png"), fewColours(t, b.picture()), 0o644))
	}
	list := strings.TrimSpace(s.Must(t, "ui").Stdout)
	base, _, _ := strings.Cut(list, "/workflows")

	b.open(list, "backup/main", "backup/crm")
	b.press("Configure Columns")
	for _, column := range []string{"Remove Run ID", "Remove Type", "Remove End", "Add HoldfastServer", "Add HoldfastPhase", "Add HoldfastBackupID"} {
		b.press(column + " column")
	}
	b.open(list, "HoldfastServer", "HoldfastPhase", "copy", "failed", id)
	if text := b.run(shown); strings.Contains(text, "maintenance/") {
		t.Errorf("the list of backups has other workflows:\n%s", text)
	}
	look("list")

	b.open(base+"/workflows?query="+url.QueryEscape(`HoldfastServer="crm" AND HoldfastPhase="failed"`), "1 FAILED", "backup/crm", "crm", "failed")
	if text := b.run(shown); strings.Contains(text, "backup/main") {
		t.Errorf("the filter lets another server through:\n%s", text)
	}
	look("filter")

	b.open(strings.TrimSpace(s.Must(t, "ui", "main").Stdout), "RUNNING", "backup/main")
	b.press("User Metadata")
	b.await("Step 3 of 8, copy", "WAL position", id, "method postgres", "size of the cluster", "holdfast cancel main", "orders and invoices")
	look("running")
	b.press("Pending Activities")
	b.await("CopyBaseBackup", "done", "total")
	look("pending")
	s.Must(t, "cancel", "main")

	b.open(strings.TrimSpace(s.Must(t, "ui", "crm").Stdout), "FAILED", "backup/crm")
	b.press("User Metadata")
	b.await("Failed (Permission)", "user crm lacks privileges", "What to do", `GRANT pg_read_all_settings, pg_read_all_stats TO "crm";`)
	look("failed")

	if r := s.Holdfast(t, "ui", "mian"); r.Code != 3 || !strings.Contains(r.Stderr, "main") {
		t.Errorf("a server that does not exist: exit code %d: %s", r.Code, r.Stderr)
	}

	b.open(base+"/schedules", "backup/main", "At 02:00 every day", "backup/crm", "Every 6 hour", "2:00:00.00 AM UTC")
	look("schedules")
}

// running waits until a backup is being made, and tells its ID.
func (s *site) running(t *testing.T) string {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		newest, _, _ := strings.Cut(s.Must(t, "list-backups", "main").Stdout, "\n")
		if strings.Contains(newest, "STARTED") {
			return strings.Fields(newest)[1]
		}
	}
	t.Fatal("no backup runs")
	return ""
}
