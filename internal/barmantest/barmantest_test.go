//go:build integration

package barmantest_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

func TestBarmanTakesABackup(t *testing.T) {
	home := pgtest.Dir(t)
	incoming := filepath.Join(home, "main", "incoming")
	cred := pgtest.Credential(t)
	if cred == nil {
		t.Fatal("run this test as root")
	}
	if err := errors.Join(os.MkdirAll(incoming, 0o755),
		os.Chown(filepath.Dir(incoming), int(cred.Uid), int(cred.Gid)), os.Chown(incoming, int(cred.Uid), int(cred.Gid))); err != nil {
		t.Fatal(err)
	}
	c := pgtest.Start(t, pgtest.Options{Version: "18", ArchiveCommand: "cp %p " + incoming + "/%f"})
	conf := filepath.Join(home, "barman.conf")
	text := fmt.Sprintf(`[barman]
barman_home = %[1]s
barman_user = postgres
log_file = %[1]s/barman.log
[main]
backup_method = postgres
archiver = on
conninfo = %[2]s
streaming_conninfo = %[2]s
`, home, c.DSN())
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"cron"}, {"switch-wal", "--force", "--archive", "main"}, {"backup", "main"}, {"list-backups", "main"}} {
		r := barmantest.Run(t, []string{home}, int(cred.Uid), append([]string{"barman", "-c", conf}, args...)...)
		if r.Exit != 0 {
			t.Fatalf("barman %v: exit %d\n%s%s", args, r.Exit, r.Stdout, r.Stderr)
		}
		if args[0] == "list-backups" && !strings.Contains(r.Stdout, "main ") {
			t.Errorf("no backup listed: %q", r.Stdout)
		}
	}
	r := barmantest.Run(t, []string{home}, int(cred.Uid), "barman", "-c", conf, "show-backup", "main", "nonesuch")
	if r.Exit == 0 {
		t.Errorf("an unknown backup: exit 0\n%s%s", r.Stdout, r.Stderr)
	}
}
