// Package barmantest runs Barman, the judge of what we write into a catalogue.
//
// Barman lives in a directory tree of its own with everything that it needs,
// the clients of PostgreSQL 18 included; `make testbed` makes it. Commands run
// inside that tree and see the machine's network, and of its files only the
// directories that they are given. Nothing but tests imports this package.
package barmantest

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

//go:embed run.sh
var script string

// PostgreSQL is the version of the clients that Barman has there.
const PostgreSQL = "18"

// patience bounds a command.
const patience = 5 * time.Minute

// Result is what a command printed and how it ended.
type Result struct {
	Stdout, Stderr string
	Exit           int
}

// Run runs a program of the tree, such as barman, as user and group uid. Each bind is a directory
// outside, visible inside under its own name.
func Run(t testing.TB, binds []string, uid int, args ...string) Result {
	t.Helper()
	return RunAs(t, binds, uid, uid, args...)
}

// RunAs is Run with a group of its own.
func RunAs(t testing.TB, binds []string, uid, gid int, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := inside(ctx, t, binds, uid, gid, args)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("%v: %v\n%s%s", args, errors.Join(err, ctx.Err()), &stdout, &stderr)
	}
	return Result{Stdout: stdout.String(), Stderr: stderr.String(), Exit: cmd.ProcessState.ExitCode()}
}

// Start runs a server of the tree, as user and group uid, until the test ends.
func Start(t testing.TB, uid int, args ...string) {
	t.Helper()
	cmd := inside(context.Background(), t, nil, uid, uid, args)
	said := new(command.Tail)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%v:\n%s", args, said)
		}
	})
}

// inside is a command in the tree.
func inside(ctx context.Context, t testing.TB, binds []string, uid, gid int, args []string) *exec.Cmd {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("Barman runs in a tree of its own, which needs root: run this test as root")
	}
	tree := filepath.Join(pgtest.Testbed(), "judge")
	if _, err := os.Stat(tree + ".complete"); err != nil {
		t.Fatalf("Barman is not in the testbed %s: run `make testbed`", pgtest.Testbed())
	}
	full := []string{"-m", "--", "bash", "-c", script, "run.sh", tree, strconv.Itoa(uid), strconv.Itoa(gid), strconv.Itoa(len(binds))}
	full = append(append(full, binds...), args...)
	cmd := exec.CommandContext(ctx, "unshare", full...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 10 * time.Second
	return cmd
}
