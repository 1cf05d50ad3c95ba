//go:build integration

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// killedRestore: nothing that a server could be started on is left, and the next
// restore succeeds.
func (f *family) killedRestore(t *testing.T) {
	home := pgtest.Dir(t)
	dest := filepath.Join(home, "restored")
	staging := f.scratch(t)
	args := f.restoring(dest, f.newestID(), "--combine-mode", "link", "--staging-path", staging)
	for _, victim := range []string{"pg_combinebackup", "holdfast"} {
		said := f.killWhileCombining(t, victim, dest, args)
		if _, err := os.Stat(dest); err == nil {
			t.Error("the killed restore has left its destination")
		}
		if victim == "holdfast" {
			continue
		}
		if !strings.Contains(said, "pg_combinebackup") || !strings.Contains(said, "killed") {
			t.Errorf("it says %s", said)
		}
		for _, dir := range []string{home, staging} {
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		}
	}
	f.Must(t, args...)
	if left, err := os.ReadDir(staging); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	f.started(t, dest)
	f.untouched(t)
}

// killWhileCombining kills pg_combinebackup or the restore that runs it, and
// returns what that says. A restore that is over before it was seen is repeated.
func (f *family) killWhileCombining(t *testing.T, victim, dest string, args []string) string {
	t.Helper()
	for range 50 {
		cmd := exec.Command(filepath.Join(f.Bin, "holdfast"), append([]string{"-c", f.Config}, args...)...)
		said := &strings.Builder{}
		cmd.Stderr = said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		tool := 0
		for tool == 0 && len(ended) == 0 {
			tool = combining(cmd.Process.Pid)
		}
		if victim == "holdfast" && tool != 0 {
			tool = cmd.Process.Pid
		}
		killed := tool != 0 && syscall.Kill(tool, syscall.SIGKILL) == nil
		if err := <-ended; killed && err != nil {
			return said.String()
		}
		for _, dir := range []string{dest, dest + "-ts"} {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Fatal("the restore was never seen at work")
	return ""
}

// combining is the PID of the pg_combinebackup that a process runs; 0 for none.
func combining(parent int) int {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		return 0
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue
		}
		for _, word := range strings.Fields(string(text)) {
			line, err := os.ReadFile("/proc/" + word + "/cmdline")
			if pid, e := strconv.Atoi(word); err == nil && e == nil && strings.Contains(string(line), "--output=") {
				return pid
			}
		}
	}
	return 0
}

// killed takes another child, while a process dies.
func (f *family) killed(t *testing.T, victim, point string) {
	hit := f.killAt(t, scenario{config.MethodPostgres, f.Cluster.Version, victim, point})
	f.Cluster.Exec(t, "UPDATE plain SET payload = repeat(md5(random()::text), 8)")
	f.rows = f.Cluster.Fingerprint(t)
	id := f.backup(t, append([]string{"--incremental", string(f.newestID())}, slow...)...).ID
	await(t, hit, victim)
	f.on(t, nil)
	f.CheckNothingIsLeft(t)
	f.ids = append(f.ids, id)
	f.hashes[id] = f.hash(t, id)
	f.kin(t)
}
