//go:build integration

package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// elsewhere runs a command as a machine does that has nothing but the URL and the credentials.
func (c *cloud) elsewhere(t *testing.T, b *bed, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(b.Bin, "holdfast"), append(args, "--from", cloudURL, "--endpoint-url", c.URL)...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + b.Cluster.BinDir + ":/usr/bin:/bin", "HOME=/nonexistent", "TZ=UTC", "HOLDFAST_CONFIG=/nonexistent"}
	for name, value := range b.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pgtest.Credential(t), Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// segments are the names of a server's WAL in the bucket.
func (c *cloud) segments(t *testing.T) (names []string) {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(c.Data(cloudBucket), "some/where", stacktest.Server, "wals", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range list {
		name, _, _ := strings.Cut(filepath.Base(path), ".")
		names = append(names, name)
	}
	return names
}

// TestEverythingInOneBucket: backups and WAL lie beside each other; a moment is restored from
// there by a machine that knows nothing else, and the deletion of a backup takes its WAL along.
func TestEverythingInOneBucket(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	env := c.Environment()
	env["AWS_CONFIG_FILE"], env["AWS_SHARED_CREDENTIALS_FILE"] = "/nonexistent/aws", "/nonexistent/aws" // PostgreSQL's user may not look into the test's directory
	settings := append(c.settings(), "wals_directory = "+cloudURL, "compression = zstd")
	b := newBedWith(t, stacktest.Options{Version: pgtest.Versions()[1], Method: config.MethodLocalToCloud, SegmentMB: 1, Env: env, Settings: settings})
	b.cloud = c
	first := b.backup(t)
	for range 3 {
		b.Cluster.Fill(t, "plain", "", 500)
		b.Cluster.Exec(t, "select pg_switch_wal()")
	}
	second := b.backup(t)
	b.Cluster.Fill(t, "plain", "", 500)
	rows, moment := b.Cluster.Fingerprint(t), b.Cluster.Value(t, "clock_timestamp()")
	time.Sleep(10 * time.Millisecond) // of PostgreSQL's clock: what follows has later times
	b.Cluster.Exec(t, "delete from plain")
	last := b.Cluster.Value(t, "pg_walfile_name(pg_switch_wal())")
	for deadline := time.Now().Add(2 * time.Minute); !slices.Contains(c.segments(t), last); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s has not arrived: %v", last, c.segments(t))
		}
	}

	begin := b.begin(t, second)
	before := c.segments(t)
	b.Must(t, "delete", stacktest.Server, string(first.ID))
	after := c.segments(t)
	if !slices.ContainsFunc(before, func(name string) bool { return name < begin }) {
		t.Errorf("there was nothing to purge before %s: %v", begin, before)
	}
	for _, name := range before {
		if slices.Contains(after, name) != (name >= begin) {
			t.Errorf("of %v these are left, and WAL from %s on is needed: %v", before, begin, after)
		}
	}
	if left := c.keys(t, first.ID); len(left) > 0 {
		t.Errorf("left in the store: %q", left)
	}
	b.Must(t, "verify-backup", stacktest.Server, string(second.ID))
	for said, args := range map[string][]string{
		string(second.ID): {"list-backups", stacktest.Server}, "was read back": {"verify-backup", stacktest.Server, "latest"},
	} {
		if out := c.elsewhere(t, b, args...); !strings.Contains(out, said) {
			t.Errorf("%v does not say %q: %s", args, said, out)
		}
	}
	dest := filepath.Join(pgtest.Dir(t), "restored")
	c.elsewhere(t, b, "restore", stacktest.Server, "latest", dest, "--tablespace", fmt.Sprintf("odd name's:%s-ts", dest), "--target-time", moment, "--target-action", "promote")
	s := pgtest.NewFromDataDir(t, b.Cluster.Version, dest)
	if s.Fingerprint(t) != rows {
		t.Errorf("at %s there were other rows", moment)
	}
	s.AmCheck(t)
	s.Stop(t, pgtest.Fast)
}
