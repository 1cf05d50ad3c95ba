package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// inDirectory is a store in a directory: the backups of Barman's samples, one without a record, and some WAL.
func inDirectory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	put := func(name string, content []byte) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for id, sample := range map[string]string{"20261123T025620": "cloud-pgc-full", "20261123T025628": "cloud-pgc-incr", "20261123T025636": "cloud-ltc-full", "20261123T025124": "barman-cloud-backup"} {
		record, err := os.ReadFile("../internal/backupinfo/testdata/" + sample + ".backup.info")
		if err != nil {
			t.Fatal(err)
		}
		put("pgc/base/"+id+"/backup.info", record)
		put("pgc/base/"+id+"/data.tar", make([]byte, 2048))
	}
	put("pgc/base/20261123T025800/data.tar", nil)
	for _, no := range []string{"2B", "2C", "2D", "2E", "2F"} {
		put("pgc/wals/0000000100000000/0000000100000000000000"+no+".gz", make([]byte, 1<<20))
	}
	return dir
}

// inProcess runs a command in this process, without a configuration.
func inProcess(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	t.Setenv("HOLDFAST_CONFIG", "/nonexistent")
	var out, warnings bytes.Buffer
	a := &app{stdout: &out, stderr: &warnings}
	root := a.root()
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	if ferr := a.finish(err); ferr != nil {
		t.Fatal(ferr)
	}
	return out.String(), warnings.String(), err
}

// TestListFromADirectory: lists and shows are those of a local catalogue; what has no record is told.
func TestListFromADirectory(t *testing.T) {
	t.Setenv("TZ", "UTC")
	url := "file://" + inDirectory(t)
	out, warned, err := inProcess(t, "list-backups", "pgc", "--from", url)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"pgc 20261123T025636 - F - ", "pgc 20261123T025628 - I - ", "pgc 20261123T025620 - F - ", "pgc 20261123T025124 - F - "}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%q", lines)
	}
	for i, begin := range want {
		if !strings.HasPrefix(lines[i], begin) {
			t.Errorf("%q does not begin with %q", lines[i], begin)
		}
	}
	if !strings.HasSuffix(lines[0], "- Size: 29.4 MiB - WAL Size: 0 B") || !strings.HasSuffix(lines[3], "- Size: 2.0 KiB - WAL Size: 1.0 MiB") {
		t.Errorf("%q", lines)
	}
	if !strings.Contains(warned, "pgc/base/20261123T025800 has no backup.info") {
		t.Errorf("warned of %q", warned)
	}
	out, _, err = inProcess(t, "-f", "json", "list-backups", "all", "--window", "--from", url)
	var object map[string]json.RawMessage
	if err != nil || json.Unmarshal([]byte(out), &object) != nil || object["pgc"] == nil || object["_recoverable"] == nil || object["_WARNING"] == nil {
		t.Errorf("%v\n%s", err, out)
	}
	one, _, _ := inProcess(t, "list-backups", "pgc", "--from", url)
	for _, every := range [][]string{{"list-backups", "all", "--from", url}, {"list-backups", "--from", url}} {
		if out, _, err := inProcess(t, every...); err != nil || out != one {
			t.Errorf("%q: %v\n%s", every, err, out)
		}
	}
	if out, warned, err := inProcess(t, "list-backups", "--from", "file://"+t.TempDir()); err != nil || out != "" || !strings.Contains(warned, "no server has backups below file://") {
		t.Errorf("of nothing: %v\n%s%s", err, out, warned)
	}
	out, _, err = inProcess(t, "show-backup", "pgc", "20261123T025628", "--from", url)
	for _, text := range []string{"Backup 20261123T025628:", "Root Backup", "20261123T025620", url + "/pgc/base/20261123T025628", "2 objects"} {
		if err != nil || !strings.Contains(out, text) {
			t.Errorf("%q is missing: %v\n%s", text, err, out)
		}
	}
	if _, told, err := inProcess(t, "verify-backup", "pgc", "20261123T025800", "--from", url); exitCode(err) != 3 || !strings.Contains(told, "no backup.info") {
		t.Errorf("%v, %s", err, told)
	}
}

// TestKeepAndDeleteFromADirectory: nothing of a deleted backup is left.
func TestKeepAndDeleteFromADirectory(t *testing.T) {
	dir := inDirectory(t)
	url := "file://" + dir
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"keep", "pgc", "oldest", "--target", "full"}, 0, "is kept (full)"},
		{[]string{"delete", "pgc", "oldest"}, 4, "it is kept (KEEP:FULL)"},
		{[]string{"keep", "pgc", "oldest", "--status"}, 0, "Keep: full"},
		{[]string{"keep", "pgc", "oldest", "--release"}, 0, "retention policy"},
		{[]string{"keep", "pgc", "latest", "--target", "half"}, 2, "full and standalone"},
		{[]string{"delete", "pgc", "20261123T025800"}, 4, "it has no backup.info"},
		{[]string{"delete", "pgc", "20261123T025620"}, 0, "Deleted backup 20261123T025628 of server pgc."},
	} {
		out, told, err := inProcess(t, append(c.args, "--from", url)...)
		if exitCode(err) != c.code || !strings.Contains(out+told, c.says) {
			t.Errorf("%v: exit %d\n%s%s", c.args, exitCode(err), out, told)
		}
	}
	for _, id := range []string{"20261123T025620", "20261123T025628"} {
		if _, err := os.Stat(filepath.Join(dir, "pgc/base", id)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", id, err)
		}
	}
}
