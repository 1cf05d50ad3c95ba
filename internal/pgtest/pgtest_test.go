//go:build integration

package pgtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

func TestEveryVersion(t *testing.T) {
	for _, version := range pgtest.AllVersions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			archive := pgtest.Dir(t)
			c := pgtest.Start(t, pgtest.Options{
				Version: version, Tablespaces: []string{"fast"}, ArchiveCommand: "cp %p " + archive + "/%f",
				Config: []string{"work_mem = 5MB"},
			})
			if got := c.Value(t, "current_setting('server_version_num')"); !strings.HasPrefix(got, version) {
				t.Errorf("server_version_num %s", got)
			}
			if got := c.Value(t, "current_setting('work_mem')"); got != "5MB" {
				t.Errorf("work_mem %s", got)
			}
			empty := c.Fingerprint(t)
			c.Fill(t, "plain", "", 1000)
			c.Fill(t, "elsewhere", "fast", 1000)
			full := c.Fingerprint(t)
			if full == empty {
				t.Error("the fingerprint does not depend on the rows")
			}
			c.Exec(t, "UPDATE plain SET payload = payload")
			if got := c.Fingerprint(t); got != full {
				t.Error("the fingerprint depends on where the rows are")
			}
			c.Exec(t, "SELECT pg_switch_wal()")
			c.Restart(t)
			c.Stop(t, pgtest.Kill)
			c.Restart(t)

			standby := c.Standby(t)
			if got := standby.Fingerprint(t); got != full {
				t.Error("the standby differs")
			}
			standby.Promote(t)
			standby.AmCheck(t)
			standby.Fill(t, "plain", "", 1)
			if standby.Fingerprint(t) == full {
				t.Error("the promoted standby takes no rows")
			}

			c.Stop(t, pgtest.Fast)
			if segments, _ := os.ReadDir(archive); len(segments) == 0 {
				t.Error("nothing was archived")
			}
			copied := filepath.Join(t.TempDir(), "copied")
			if out, err := exec.Command("cp", "-a", c.DataDir, copied).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			again := pgtest.NewFromDataDir(t, version, copied)
			again.AmCheck(t)
			if got := again.Fingerprint(t); got != full {
				t.Error("the copy differs")
			}
		})
	}
}

func TestDamageIsFound(t *testing.T) {
	c := pgtest.Start(t, pgtest.Options{NewIdentity: true})
	c.Fill(t, "damaged", "", 5000)
	relation := filepath.Join(c.DataDir, c.Value(t, "pg_relation_filepath('damaged_pkey')"))
	c.Stop(t, pgtest.Fast)
	f, err := os.OpenFile(relation, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 100), 8192+4000); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c.Restart(t)
	inner := &recorder{TB: t}
	func() {
		defer func() { _ = recover() }()
		c.AmCheck(inner)
	}()
	if !inner.failed {
		t.Error("pg_amcheck found nothing wrong with a damaged index")
	}
}

// recorder takes note of a failure in place of failing the test.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Fatalf(string, ...any) {
	r.failed = true
	panic("stop here")
}
