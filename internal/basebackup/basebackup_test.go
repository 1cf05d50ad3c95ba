package basebackup_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/basebackup"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

func TestArgs(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  basebackup.Options
		want string
	}{
		{"plain", basebackup.Options{DSN: "host=h user=u", Application: "a", Dest: "/b/data"},
			"--dbname=host=h user=u application_name=a options=-csearch_path=|-v|--no-password|--progress|--pgdata=/b/data|--no-slot|--wal-method=none|--manifest-checksums=SHA256"},
		{"all", basebackup.Options{DSN: "host=h application_name=mine options=-cx=y", Application: "a", Dest: "/b/data", Fast: true, MaxRateKB: 640,
			Tablespaces: []basebackup.Tablespace{{"/t=1/a b", "/b/16384"}}},
			`--dbname=host=h application_name=mine options=-cx=y|-v|--no-password|--progress|--pgdata=/b/data|--no-slot|--wal-method=none|--manifest-checksums=SHA256|--tablespace-mapping=/t\=1/a b=/b/16384|--max-rate=640|--checkpoint=fast`},
	} {
		if got := strings.Join(basebackup.Args(c.opt), "|"); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestCompressionArgs(t *testing.T) {
	number := func(n int) *int { return &n }
	for _, c := range []struct {
		c    basebackup.Compression
		want string
	}{
		{basebackup.Compression{Algorithm: "gzip", Tool: 15}, "--format=tar --compress=gzip"},
		{basebackup.Compression{Algorithm: "gzip", Level: number(-1), Location: "client", Tool: 18}, "--format=tar --compress=client-gzip:level=-1"},
		{basebackup.Compression{Algorithm: "lz4", Format: "plain", Location: "server", Level: number(12), Tool: 18}, "--format=plain --compress=server-lz4:level=12"},
		{basebackup.Compression{Algorithm: "zstd", Format: "tar", Location: "server", Level: number(-7), Workers: number(2), Tool: 15}, "--format=tar --compress=server-zstd:level=-7,workers=2"},
		{basebackup.Compression{Algorithm: "zstd", Workers: number(0), Tool: 15}, "--format=tar --compress=zstd:workers=0"},
		{basebackup.Compression{Algorithm: "none", Location: "server", Level: number(0), Tool: 15}, "--format=tar --compress=none"},
		{basebackup.Compression{Algorithm: "none", Tool: 14}, "--format=tar --compress=0"},
		{basebackup.Compression{Algorithm: "gzip", Tool: 13}, "--format=tar --gzip"},
		{basebackup.Compression{Algorithm: "gzip", Location: "client", Level: number(9), Tool: 14}, "--format=tar --gzip --compress=9"},
		{basebackup.Compression{Algorithm: "gzip", Level: number(-1), Tool: 14}, "--format=tar --gzip"},
	} {
		args := basebackup.Args(basebackup.Options{DSN: "host=h", Dest: "/b/data", Fast: true, Compression: &c.c})
		if got := strings.Join(args[len(args)-strings.Count(c.want, " ")-1:], " "); got != c.want || args[len(args)-strings.Count(c.want, " ")-2] != "--checkpoint=fast" {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestReadProgress(t *testing.T) {
	for _, c := range []struct {
		out  string
		want basebackup.Progress
	}{
		{"", basebackup.Progress{}},
		{"pg_basebackup: initiating base backup, waiting for checkpoint to complete\n", basebackup.Progress{Checkpoint: true}},
		{"pg_basebackup: initiating base backup, waiting for checkpoint to complete\npg_basebackup: checkpoint completed\n   12/ 900 kB (1%), 0/1 tablespace\r", basebackup.Progress{}},
		{"   12/900 kB (1%), 0/2 tablespaces (/x)\r  450/900 kB (50%), 1/2 tablespaces\n", basebackup.Progress{DoneKB: 450, TotalKB: 900}},
		{"900/900 kB (100%), 2/2 tablespaces\nNOTICE:  base backup done, waiting for required WAL segments to be archived\n", basebackup.Progress{DoneKB: 900, TotalKB: 900, WaitingForWAL: true}},
	} {
		if got := basebackup.ReadProgress(c.out); got != c.want {
			t.Errorf("%q: got %+v", c.out, got)
		}
	}
}

func TestVersions(t *testing.T) {
	if err := basebackup.CheckVersion("/x", 15, 18); !fault.Is(err, fault.Tool) || !strings.Contains(fault.HintOf(err), "postgresql-client-18") {
		t.Errorf("got %v", err)
	}
	if err := basebackup.CheckVersion("/x", 18, 15); err != nil {
		t.Error(err)
	}
}

func TestClassify(t *testing.T) {
	cause := errors.New("pg_basebackup: exit code 1")
	for out, want := range map[string]fault.Kind{
		"pg_basebackup: error: could not write to file \"/b/data/base/1/2\": No space left on device":                                                                 fault.Disk,
		"pg_basebackup: error: connection to server at \"127.0.0.1\", port 1 failed: FATAL:  password authentication failed for user \"u\"":                           fault.Permission,
		"pg_basebackup: error: connection to server at \"127.0.0.1\", port 1 failed: FATAL:  no pg_hba.conf entry for replication connection from host \"127.0.0.1\"": fault.Permission,
		"pg_basebackup: error: connection to server at \"127.0.0.1\", port 1 failed: Connection refused":                                                              fault.Connection,
		"pg_basebackup: error: this build does not support compression with zstd":                                                                                     fault.Tool,
		"pg_basebackup: error: could not initiate base backup: ERROR:  lz4 compression is not supported by this build":                                                fault.Tool,
		"": fault.Internal,
	} {
		err := basebackup.Classify("/b/data", out, cause)
		if !fault.Is(err, want) {
			t.Errorf("%q: %v (%s)", out, err, fault.KindOf(err))
		}
	}
}

func TestPrepareDestinationsEmpties(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a 'b'")
	if err := os.MkdirAll(filepath.Join(dir, "left"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := basebackup.PrepareDestinations(dir, dir+"2"); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, dir + "2"} {
		entries, err := os.ReadDir(d)
		if err != nil || len(entries) > 0 {
			t.Errorf("%s: %v, %v", d, entries, err)
		}
		if info, err := os.Stat(d); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", d, info.Mode(), err)
		}
	}
}
