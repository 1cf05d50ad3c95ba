//go:build integration

package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// TestInPlaceTablespace: one that has no directory of its own (allow_in_place_tablespaces) is backed up, and goes
// nowhere but where the user says; pg_basebackup, which cannot be told where, is refused before the backup starts.
func TestInPlaceTablespace(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	b := newBedWith(t, stacktest.Options{Version: pgtest.Versions()[1], Method: config.MethodLocalToCloud, Env: c.Environment(), Settings: c.settings(),
		Config: []string{"allow_in_place_tablespaces = on"}})
	b.Cluster.Exec(t, "CREATE TABLESPACE here LOCATION ''")
	b.Cluster.Exec(t, "CREATE TABLE inside TABLESPACE here AS SELECT generate_series(1, 1000) i")
	rows := b.Cluster.Fingerprint(t)
	got := b.backup(t)
	b.Must(t, "verify-backup", stacktest.Server, string(got.ID))
	dest := filepath.Join(pgtest.Dir(t), "restored")
	restore := []string{"restore", stacktest.Server, string(got.ID), dest, "--target-immediate", "--target-action", "promote", "--tablespace", "odd name's:" + dest + "-odd"}
	if r := b.Holdfast(t, restore...); r.Code != 2 || !strings.Contains(r.Stderr, "--tablespace here:DIR") {
		t.Errorf("without a directory for it: exit %d, %s", r.Code, r.Stderr)
	}
	b.Must(t, append(restore, "--tablespace", "here:"+dest+"-here")...)
	s := pgtest.NewFromDataDir(t, b.Cluster.Version, dest)
	if s.Fingerprint(t) != rows {
		t.Error("the rows are others")
	}
	s.Stop(t, pgtest.Immediate)

	b.Configure(t, config.MethodPostgres)
	r := b.Holdfast(t, "backup", stacktest.Server, "--wait")
	if r.Code != 2 || !strings.Contains(r.Stderr, "tablespace here was made in place") || !strings.Contains(r.Stderr, "local-rsync") {
		t.Errorf("with pg_basebackup: exit %d, %s", r.Code, r.Stderr)
	}
}
