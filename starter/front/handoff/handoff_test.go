package handoff_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/starter/front/handoff"
)

// TestAHandoffIsTheFirstThingToHappen has the real program followed by one that tells what it was given.
func TestAHandoffIsTheFirstThingToHappen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a place with 'blanks'")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "holdfast")
	if out, err := exec.Command("go", "build", "-o", path, "..").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	start := func(args ...string) (stdout, stderr string, err error) {
		cmd := exec.Command(path, args...)
		cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1", "HOLDFAST_CONFIG="+filepath.Join(dir, "missing"))
		var out, said strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &said
		err = cmd.Run()
		return out.String(), said.String(), err
	}
	_, said, err := start("list-backups")
	if err == nil || !strings.Contains(said, "holdfast-cli: it is not there") {
		t.Errorf("with nobody to hand over to: %v\n%s", err, said)
	}
	if err := os.WriteFile(filepath.Join(dir, handoff.Whole), []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, said, err = start("list-backups")
	if err == nil || !strings.Contains(said, "HINT: install all programs of one release") {
		t.Errorf("with what cannot be run: %v\n%s", err, said)
	}
	if err := os.WriteFile(filepath.Join(dir, handoff.Whole), []byte("#!/bin/sh\nprintf '<%s>' \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{}, {"backup", "main"}, {"show-backup", "", "a \"b\" 'c'\nd", strings.Repeat("x", 9000)}, {"wal-archiver"}} {
		want := "<" + strings.Join(args, "><") + ">"
		out, said, err := start(args...)
		if err != nil || out != want {
			t.Errorf("%q: %q, %v", args, out, err)
		}
		for _, late := range []string{"init os ", "init github.com/aws/aws-sdk-go-v2/service", "init net "} {
			if strings.Contains(said, late) {
				t.Errorf("%q: the program has begun to start before it hands over: %s", args, late)
			}
		}
	}
	out, said, err := start("-c", filepath.Join(dir, "missing"), "wal-archive", "main", "x")
	if err == nil || out != "" || !strings.Contains(said, "missing") {
		t.Errorf("of a WAL file: %q, %v\n%s", out, err, said)
	}
}
