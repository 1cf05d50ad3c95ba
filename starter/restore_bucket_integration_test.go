//go:build integration

package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/walspool/handout"
)

// TestRestoreFromABucket: a server whose WAL lies in a bucket is told of, restored to its
// end and to a time, with WAL copied and fetched, and along two timelines.
func TestRestoreFromABucket(t *testing.T) {
	t.Parallel()
	dir := pgtest.Dir(t)
	const version = "18"
	s := newSite(t, version, "wals_directory = file://"+dir, "compression = zstd", "cloud_wal_archive_parallel = 4", "cloud_wal_restore_parallel = 4")
	s.Fill(t, "first", "ts1", 500)
	s.Exec(t, "create table second (like first including all)")
	s.Exec(t, "create database other")
	id := s.backup()
	for range 5 {
		s.Fill(t, "second", "", 100)
		s.Exec(t, "select pg_switch_wal()")
	}
	middle, at := s.Fingerprint(t), s.Value(t, "clock_timestamp()")
	time.Sleep(10 * time.Millisecond)
	s.Fill(t, "second", "", 100)
	end := s.Fingerprint(t)
	s.archive()

	url := "file://" + dir + "/main/wals/0000000100000000/"
	for _, c := range []struct{ says, args string }{
		{string(id), "list-backups main"}, {"WAL Size", "list-backups main"}, {"WAL number", "show-backup main latest"},
		{"is archived and whole", "check-backup main latest"}, {"Last archived WAL", "status main"}, {url, "list-files main latest --target wal"},
		{".zst", "list-files main latest --target wal"},
	} {
		if out := s.ok(strings.Fields(c.args)...); !strings.Contains(out, c.says) {
			t.Errorf("%s does not say %q:\n%s", c.args, c.says, out)
		}
	}
	for _, c := range []struct {
		name, rows string
		options    []string
	}{
		{"copied", end, nil},
		{"fetched", end, []string{"--get-wal"}},
		{"time fetched", middle, []string{"--target-time", at, "--target-action", "promote", "--get-wal"}},
	} {
		dest := s.restoreTo(c.name, "latest", c.options...)
		r := pgtest.NewFromDataDir(t, version, dest)
		if r.Fingerprint(t) != c.rows {
			t.Errorf("%s: other rows", c.name)
		}
		r.Stop(t, pgtest.Fast)
		if left, _ := filepath.Glob(filepath.Join(dest, "pg_wal", handout.Dir, "*")); len(left) > 3 {
			t.Errorf("%s: left in the spool: %v", c.name, left)
		}
	}
	s.standbyAndTimeline(version, end)
}
