//go:build integration

package manifest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/pgcontrol"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// baseBackup takes one with a manifest of the given algorithm.
func baseBackup(t *testing.T, c *pgtest.Cluster, algorithm string) (data string, dirs manifest.Dirs) {
	t.Helper()
	dir := pgtest.Dir(t)
	data = filepath.Join(dir, "data")
	space := filepath.Join(dir, "space")
	run(t, c, "pg_basebackup", "-d", c.DSN(), "-D", data, "-X", "none", "-c", "fast", "--manifest-checksums", algorithm, "-T", c.Tablespaces["space"]+"="+space)
	links, err := os.ReadDir(filepath.Join(data, "pg_tblspc"))
	if err != nil || len(links) != 1 {
		t.Fatal(links, err)
	}
	oid, err := strconv.ParseUint(links[0].Name(), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return data, manifest.Dirs{Data: data, Tablespaces: map[uint32]string{uint32(oid): space}}
}

func command(t *testing.T, c *pgtest.Cluster, program string, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(c.BinDir, program), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pgtest.Credential(t)}
	cmd.Dir = "/"
	return cmd
}

func run(t *testing.T, c *pgtest.Cluster, program string, args ...string) {
	t.Helper()
	if out, err := command(t, c, program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// TestAgreesWithPgVerifybackup changes a backup in every way that matters: both
// must accept the same changes, and name the same files otherwise.
func TestAgreesWithPgVerifybackup(t *testing.T) {
	for _, version := range pgtest.Versions() {
		t.Run(version, func(t *testing.T) {
			c := pgtest.Start(t, pgtest.Options{Version: version, Tablespaces: []string{"space"}})
			c.Fill(t, "spaced", "space", 2000)
			for _, algorithm := range []string{"CRC32C", "SHA384", "NONE"} {
				data, dirs := baseBackup(t, c, algorithm)
				if out, theirs, ours := verdicts(t, c, data, dirs); theirs != nil || ours.Err("") != nil || ours.Summary.Files < 500 {
					t.Errorf("%s: %v, %v, %d files\n%s", algorithm, theirs, ours.Err(""), ours.Summary.Files, out)
				}
			}
			data, dirs := baseBackup(t, c, "SHA256")
			ourManifest(t, c, data)
			change(t, os.WriteFile(filepath.Join(data, "postgresql.auto.conf"), nil, 0o644),
				os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o644),
				os.WriteFile(filepath.Join(data, "pg_wal/000000010000000000000001"), nil, 0o644))
			if out, theirs, ours := verdicts(t, c, data, dirs); theirs != nil || ours.Err("") != nil {
				t.Errorf("%v, %v\n%s", theirs, ours.Err(""), out)
			}

			var space, spaced string
			for _, space = range dirs.Tablespaces {
			}
			change(t, filepath.WalkDir(space, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					spaced = path
				}
				return err
			}))
			change(t, flip(filepath.Join(data, "global/pg_control")), flip(spaced), os.Truncate(filepath.Join(data, "PG_VERSION"), 1),
				os.Remove(filepath.Join(data, "pg_hba.conf")), os.WriteFile(filepath.Join(data, "base/1/999999"), nil, 0o644),
				os.WriteFile(filepath.Join(space, "extra"), nil, 0o644))
			out, theirs, ours := verdicts(t, c, data, dirs)
			if theirs == nil || ours.Bad != 6 || len(ours.Findings) != 6 {
				t.Errorf("%v, %v\n%s", theirs, ours.Err(""), out)
			}
			for _, f := range ours.Findings {
				if !strings.Contains(out, `"`+f.Path+`"`) {
					t.Errorf("only we name %s (%s)\n%s", f.Path, f.Reason, out)
				}
			}
		})
	}
}

func change(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// verdicts is what pg_verifybackup and we say of a backup.
func verdicts(t *testing.T, c *pgtest.Cluster, data string, dirs manifest.Dirs) (out string, theirs error, ours manifest.Report) {
	t.Helper()
	text, theirs := command(t, c, "pg_verifybackup", "--no-parse-wal", data).CombinedOutput()
	ours, err := manifest.Verify(t.Context(), filepath.Join(data, manifest.Name), dirs, manifest.Options{Jobs: 2})
	change(t, err)
	return string(text), theirs, ours
}

// ourManifest replaces PostgreSQL's manifest by one of ours with the same entries.
func ourManifest(t *testing.T, c *pgtest.Cluster, data string) {
	t.Helper()
	path := filepath.Join(data, manifest.Name)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	control, err := pgcontrol.Read(filepath.Join(data, "global/pg_control"))
	if err != nil || control.Timeline != 1 || control.State != pgcontrol.InProduction {
		t.Fatalf("%+v, %v", control, err)
	}
	var text bytes.Buffer
	probe, err := manifest.Read(bytes.NewReader(old), path, func(manifest.File) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if probe.Version == 2 && probe.SystemID != control.SystemID {
		t.Errorf("the manifest is of %d, pg_control of %d", probe.SystemID, control.SystemID)
	}
	w := manifest.NewWriter(&text, probe.SystemID)
	if _, err := manifest.Read(bytes.NewReader(old), path, w.Add); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(probe.WAL); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, c, "pg_verifybackup", "--no-parse-wal", data)
}

// flip changes a byte in the middle of a file.
func flip(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return fmt.Errorf("%s is empty", path)
	}
	data[len(data)/2] ^= 1
	return os.WriteFile(path, data, 0o644)
}
