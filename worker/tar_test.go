//go:build integration

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// compressed is a backup that is kept as tar archives, or compressed on its way.
type compressed struct {
	settings    string // of backup_compression, in the order algorithm, format, location, level, workers; - for unset
	suffix      string // of the archives; - for plain files
	compression string // in backup.info
	said        string // to the server
}

// kinds are by version, so that each is tried once and every option on either version.
var kinds = map[string][]compressed{
	"15": {
		{"gzip tar client 1 -", ".tar.gz", "gzip", "MANIFEST_CHECKSUMS 'SHA256', TARGET 'client')"},
		{"lz4 - - 12 -", ".tar.lz4", "lz4", "MANIFEST_CHECKSUMS 'SHA256', TARGET 'client')"},
		{"zstd tar server -5 0", ".tar.zst", "zstd", "COMPRESSION 'zstd', COMPRESSION_DETAIL 'level=-5,workers=0')"},
		{"zstd plain server 9 -", "-", "None", "COMPRESSION 'zstd', COMPRESSION_DETAIL 'level=9')"},
	},
	"18": {
		{"none - - 0 -", ".tar", "none", "MANIFEST_CHECKSUMS 'SHA256', TARGET 'client')"},
		{"zstd tar client 3 2", ".tar.zst", "zstd", "MANIFEST_CHECKSUMS 'SHA256', TARGET 'client')"},
		{"gzip tar server - -", ".tar.gz", "gzip", "COMPRESSION 'gzip')"},
		{"lz4 plain server - -", "-", "None", "COMPRESSION 'lz4')"},
	},
}

// lines are the options as the configuration has them.
func (c compressed) lines() []string {
	lines := []string{"bandwidth_limit = 100000"}
	for i, value := range strings.Fields(c.settings) {
		if value != "-" {
			lines = append(lines, []string{"backup_compression", "backup_compression_format", "backup_compression_location", "backup_compression_level", "backup_compression_workers"}[i]+" = "+value)
		}
	}
	return lines
}

// TestTars: Barman and we restore what pg_basebackup stored as tar archives, and
// a kill in the middle costs nothing but time.
func TestTars(t *testing.T) {
	t.Parallel()
	for _, version := range pgtest.Versions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			extra := filepath.Join(pgtest.Dir(t), "extra.conf")
			if err := os.WriteFile(extra, []byte("work_mem = 5MB\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			b := newBed(t, config.MethodPostgres, version, "log_replication_commands = on", "include = '"+extra+"'")
			t.Run("what versions refuse", func(t *testing.T) { versionsRefuse(t, b) })
			for _, c := range kinds[version] {
				t.Run(c.settings, func(t *testing.T) { c.livesOn(t, b) })
			}
			c := kinds[version][0]
			b.Configure(t, config.MethodPostgres, c.lines()...)
			t.Run("to a moment", func(t *testing.T) { pointInTime(t, b, extra) })
			t.Run("damaged before the proof", func(t *testing.T) { damagedBeforeProof(t, b) })
			t.Run("damaged before a restore", func(t *testing.T) { damagedBeforeRestore(t, b) })
			for _, victim := range []string{"child", "copy", "session"} {
				t.Run("killed "+victim, func(t *testing.T) {
					b.try(t, scenario{config.MethodPostgres, version, victim, duringCopy})
				})
			}
		})
	}
}

// versionsRefuse: what this pg_basebackup cannot do is refused with the line to
// blame, before anything is written.
func versionsRefuse(t *testing.T, b *bed) {
	for _, c := range []struct{ settings, says []string }{
		{[]string{"backup_compression = gzip", "backup_compression_level = 0"}, []string{b.Config + ":12: [main] backup_compression_level = 0", "has no level 0", "from 1 to 9"}},
		{[]string{"path_prefix = " + pgtest.BinDir(t, "15")}, []string{"it is of version 15, the server is of version 18", "postgresql-client-18"}},
	} {
		if b.Cluster.Version == "15" && strings.HasPrefix(c.settings[0], "path_prefix") {
			continue // every pg_basebackup here is of version 15 or later
		}
		b.Configure(t, config.MethodPostgres, c.settings...)
		r := b.Holdfast(t, "backup", stacktest.Server)
		for _, text := range c.says {
			if r.Code == 0 || !strings.Contains(r.Stderr, text) {
				t.Errorf("%v: exit code %d, without %q: %s", c.settings, r.Code, text, r.Stderr)
			}
		}
		if r := b.Holdfast(t, "check", stacktest.Server); r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, c.says[len(c.says)-1]) {
			t.Errorf("%v: check ends with %d: %s%s", c.settings, r.Code, r.Stdout, r.Stderr)
		}
	}
	if n := b.count(t); n != 0 {
		t.Errorf("%d backups were entered", n)
	}
}

// livesOn takes a backup, looks at it, and lets Barman and us restore it.
func (c compressed) livesOn(t *testing.T, b *bed) {
	name := []string{"streaming_backup_name = a_name"}
	if b.Cluster.Version != pgtest.Versions()[0] {
		name = []string{"streaming_backup_name = no_name", "streaming_conninfo = " + b.Cluster.DSN() + " application_name=a_name"}
	}
	b.Configure(t, config.MethodPostgres, append(c.lines(), name...)...)
	before := b.count(t)
	said := len(b.Cluster.Log(t))
	got := b.backup(t)
	if log := strings.ReplaceAll(b.Cluster.Log(t)[said:], "  ", " "); !strings.Contains(log, "a_name LOG: received replication command: BASE_BACKUP") || !strings.Contains(log, "MAX_RATE 100000") || !strings.Contains(log, c.said) {
		t.Errorf("PostgreSQL was not told %s:\n%s", c.said, log)
	}
	c.layout(t, b, got)
	b.judge(t, got)
	if b.Cluster.Version == barmantest.PostgreSQL && c.compression == "zstd" {
		if err := b.cat.Remove(b.recordsAsBarman(t, got.ID)); err != nil {
			t.Error(err)
		}
		b.verifiable(t, got.ID)
		b.Must(t, "verify-backup", stacktest.Server, string(got.ID))
	}
	b.verify(t, got, before)
}

// layout compares names, keys and types with those of Barman.
func (c compressed) layout(t *testing.T, b *bed, got taken) {
	t.Helper()
	var names []string
	entries, err := os.ReadDir(b.cat.DataDir(got.ID))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	info, err := b.cat.Get(got.ID)
	if err != nil {
		t.Fatal(err)
	}
	oid := info.Tablespaces[0].OID
	want := []string{fmt.Sprint(oid, c.suffix), "backup_manifest", "base" + c.suffix}
	below, err := os.ReadDir(b.cat.TablespaceDir(got.ID, oid))
	if c.suffix == "-" {
		if !slices.Contains(names, "PG_VERSION") || len(below) == 0 || err != nil {
			t.Errorf("%v, %v, %v are no plain files", names, below, err)
		}
	} else if !slices.Equal(names, want) || len(below) > 0 || err != nil {
		t.Errorf("the backup consists of %v and %v (%v), not of %v", names, below, err, want)
	}
	ours, theirs := fields(t, b.cat.InfoPath(got.ID)), fields(t, "../internal/backupinfo/testdata/postgres-tar-gzip.backup.info")
	for key, value := range theirs {
		if mine, ok := ours[key]; !ok || shape(mine) != shape(value) && key != "compression" && key != "summarize_wal" {
			t.Errorf("backup.info has %s=%s, Barman writes %s", key, mine, value)
		}
		delete(ours, key)
	}
	if len(ours) > 0 {
		t.Errorf("Barman does not write %v", ours)
	}
	if text := fields(t, b.cat.InfoPath(got.ID))["compression"]; text != c.compression {
		t.Errorf("compression=%s, not %s", text, c.compression)
	}
}

func fields(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		out[key] = value
	}
	return out
}

// shape is a value's type as far as its text shows it.
func shape(value string) string {
	switch {
	case value == "None":
		return value
	case len(value) == 24 && strings.Trim(value, "0123456789ABCDEF") == "":
		return "segment" // whose name may have no letter
	case strings.ContainsAny(value[:min(1, len(value))], "{[('\""):
		return strings.ReplaceAll(value[:1], `"`, "'")
	case strings.Trim(value, "0123456789") == "":
		return "number"
	}
	return "text"
}

// pointInTime recovers to the end of the backup, no further. The backup warns of
// the configuration file that it lacks.
func pointInTime(t *testing.T, b *bed, outside string) {
	before := b.count(t)
	r := b.Holdfast(t, "-f", "json", "backup", stacktest.Server, "--wait")
	if !strings.Contains(r.Stdout+r.Stderr, outside) {
		t.Errorf("no warning of %s: %s%s", outside, r.Stdout, r.Stderr)
	}
	got := took(t, r)
	dest := filepath.Join(pgtest.Dir(t), "restored")
	b.Must(t, "restore", stacktest.Server, string(got.ID), dest, "--tablespace", "odd name's:"+dest+"-ts", "--target-immediate", "--target-action", "promote")
	c := pgtest.NewFromDataDir(t, b.Cluster.Version, dest)
	if rows := c.Fingerprint(t); rows != b.rows {
		t.Error("the restored rows are not those of the source")
	}
	c.Stop(t, pgtest.Immediate)
	b.verify(t, got, before)
}

// damagedBeforeProof: a few bytes that changed meanwhile, and the backup is not DONE.
// A single one may be another way to write the same: a match at another distance.
func damagedBeforeProof(t *testing.T, b *bed) {
	var once sync.Once
	b.on(t, func(t testing.TB, _ int, point string) {
		if point != "before:ProveBackup" {
			return
		}
		once.Do(func() {
			id, _ := b.newest()
			f, err := os.OpenFile(b.baseTar(t, id), os.O_RDWR, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				t.Error(err)
				return
			}
			some := make([]byte, 64)
			at := info.Size() / 2
			if _, err := f.ReadAt(some, at); err != nil {
				t.Error(err)
			}
			for i := range some {
				some[i] ^= 0xff
			}
			if _, err := f.WriteAt(some, at); err != nil {
				t.Error(err)
			}
		})
	})
	r := b.Holdfast(t, "backup", stacktest.Server, "--wait")
	b.on(t, nil)
	id, _ := b.newest()
	info, err := b.cat.Get(id)
	if err != nil || r.Code != 1 || info.Status != backup.Failed || info.Error == nil || !strings.Contains(*info.Error, "base.tar") && !strings.Contains(*info.Error, "not as the manifest says") {
		t.Errorf("exit code %d, %+v, %v: %s%s", r.Code, info, err, r.Stdout, r.Stderr)
	}
	b.CheckNothingIsLeft(t)
	if err := b.cat.Remove(id); err != nil {
		t.Error(err)
	}
}

func (b *bed) baseTar(t testing.TB, id backup.ID) string {
	t.Helper()
	tars, err := filepath.Glob(filepath.Join(b.cat.DataDir(id), "base.tar*"))
	if err != nil || len(tars) != 1 {
		t.Errorf("%v, %v", tars, err)
		return ""
	}
	return tars[0]
}

// damagedBeforeRestore: what cannot be unpacked is said, and leaves nothing behind.
func damagedBeforeRestore(t *testing.T, b *bed) {
	got := b.backup(t)
	tar := b.baseTar(t, got.ID)
	info, err := os.Stat(tar)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(tar, info.Size()/2); err != nil {
		t.Fatal(err)
	}
	home := pgtest.Dir(t)
	r := b.Holdfast(t, "restore", stacktest.Server, string(got.ID), filepath.Join(home, "restored"), "--tablespace", "odd name's:"+filepath.Join(home, "ts"))
	if r.Code != 1 || !strings.Contains(r.Stderr, filepath.Base(tar)) {
		t.Errorf("exit code %d: %s", r.Code, r.Stderr)
	}
	if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := b.cat.Remove(got.ID); err != nil {
		t.Error(err)
	}
}
