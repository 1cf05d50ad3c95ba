//go:build integration

package main

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// TestWALInABucket: backups of both kinds wait for their WAL in an S3 bucket, are proven
// by it, and when retention deletes the first one its WAL goes from there, and nothing else.
func TestWALInABucket(t *testing.T) {
	g := storetest.StartGateway(t, "bucket")
	g.Setenv(t)
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		t.Setenv(name, "/nonexistent/aws") // the server's user may not look into the test's directory
	}
	settings := []string{"wals_directory = s3://bucket/walls", "holdfast_endpoint_url = " + g.URL, "compression = zstd"}
	version := pgtest.Versions()[1]
	b := &bed{Stack: stacktest.Start(t, stacktest.Options{Version: version, OneDatabase: true, Method: config.MethodPostgres, SegmentMB: 1, Settings: settings})}
	incoming := filepath.Join(b.Home, stacktest.Server, "incoming")
	b.archiveWith(t, fmt.Sprintf("mkdir -p %[1]s && cp %%p %[1]s/.%%f && mv %[1]s/.%%f %[1]s/%%f", incoming))
	b.Cluster.Fill(t, "plain", "", 2000)
	first := b.backup(t)
	b.Configure(t, config.MethodLocalRsync, append(settings, "retention_policy = REDUNDANCY 1")...)
	b.Cluster.Fill(t, "plain", "", 2000)
	b.Cluster.Exec(t, "select pg_switch_wal()")
	b.Cluster.Fill(t, "plain", "", 2000)
	second := b.backup(t)
	rows := b.Cluster.Fingerprint(t)

	for says, args := range map[string][]string{
		"is archived and whole": {"check-backup", stacktest.Server, string(second.ID)},
		"Read back":             {"show-backup", stacktest.Server, string(second.ID)},
		"Last archived WAL":     {"status", stacktest.Server},
		string(first.ID):        {"list-backups", stacktest.Server},
		"nothing is left over":  {"doctor", stacktest.Server},
	} {
		if r := b.Must(t, args...); !strings.Contains(r.Stdout, says) {
			t.Errorf("%v does not say %q:\n%s%s", args, says, r.Stdout, r.Stderr)
		}
	}
	if r := b.Holdfast(t, "check", stacktest.Server); !strings.Contains(r.Stdout, "directories: OK") {
		t.Errorf("check:\n%s%s", r.Stdout, r.Stderr)
	}
	before := objects(t, g)
	if in := b.cron(t); len(in.Deleted) != 1 || in.Deleted[0] != first.ID || in.Purged == 0 {
		t.Errorf("%+v", in)
	}
	after := objects(t, g)
	begin := b.begin(t, second)
	for _, name := range before {
		if slices.Contains(after, name) != (name >= begin) {
			t.Errorf("of %v these are left, and WAL from %s on is needed: %v", before, begin, after)
		}
	}
	if before[0] >= begin {
		t.Errorf("there was nothing to purge: %v", before)
	}
	dest := filepath.Join(pgtest.Dir(t), "restored")
	b.Must(t, "restore", stacktest.Server, string(second.ID), dest)
	r := pgtest.NewFromDataDir(t, version, dest)
	if r.Fingerprint(t) != rows {
		t.Error("other rows are restored")
	}
	r.Stop(t, pgtest.Fast)

	for url, says := range map[string]string{"s3://missing/x": "missing: it does not exist", "gs://bucket": "credentials for Google Cloud Storage"} {
		b.Configure(t, config.MethodLocalRsync, "wals_directory = "+url, "holdfast_endpoint_url = "+g.URL)
		if r := b.Holdfast(t, "backup", stacktest.Server); r.Code == 0 || !strings.Contains(r.Stderr, says) || !strings.Contains(r.Stderr, "HINT") {
			t.Errorf("%s: exit %d\n%s%s", url, r.Code, r.Stdout, r.Stderr)
		}
		if r := b.Must(t, "list-backups", "--minimal", stacktest.Server); strings.TrimSpace(r.Stdout) != string(second.ID) {
			t.Errorf("%s: a backup was begun: %s", url, r.Stdout)
		}
	}
	b.Configure(t, config.MethodLocalRsync, settings...)
	g.Kill(t)
	if r := b.Holdfast(t, "check", stacktest.Server, "--check-timeout", "3"); r.Code != 1 || !strings.Contains(r.Stdout, "FAILED") {
		t.Errorf("without the store: exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	g.Start(t)
	b.Must(t, "delete", stacktest.Server, string(second.ID))
}

// objects are the names of WAL in the bucket.
func objects(t *testing.T, g *storetest.Gateway) (names []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(g.Data("bucket"), "walls", stacktest.Server, "wals"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// begin is the first segment that a backup needs.
func (b *bed) begin(t *testing.T, of taken) string {
	t.Helper()
	cfg, err := config.Load(b.Config)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cfg.Server(stacktest.Server)
	if err != nil {
		t.Fatal(err)
	}
	info, err := catalog.Open(catalog.LayoutOf(s)).Get(of.ID)
	if err != nil {
		t.Fatal(err)
	}
	return *info.BeginWAL
}
