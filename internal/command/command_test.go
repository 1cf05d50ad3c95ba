package command_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// The test binary is its own shim, as our programs are.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == command.ShimArg {
		os.Exit(command.Shim(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func TestRunReportsHowAProgramEnded(t *testing.T) {
	for _, c := range []struct {
		script, want string
	}{
		{"true", ""},
		{"echo broken >&2; exit 3", "sh: exit code 3: broken"},
		{"kill -9 $$", "sh: ended by killed"},
	} {
		err := command.Run(context.Background(), command.Spec{Path: "/bin/sh", Args: []string{"-c", c.script}})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.script, got, c.want)
		}
	}
}

func TestRunKillsTheWholeGroupWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	pidFile := filepath.Join(t.TempDir(), "pid")
	done := make(chan error)
	go func() {
		done <- command.Run(ctx, command.Spec{Path: "/bin/sh", Args: []string{"-c", "sleep 100 & echo $! > \"$1\"; wait", "sh", pidFile}})
	}()
	pid := waitForPID(t, pidFile)
	cancel()
	if err := <-done; !fault.Is(err, fault.Cancelled) {
		t.Errorf("got %v", err)
	}
	waitGone(t, pid)
}

func TestFindNamesWhereItLooked(t *testing.T) {
	dir := t.TempDir()
	_, err := command.Find("no-such-program", dir)
	if !fault.Is(err, fault.Tool) || !strings.Contains(err.Error(), dir) || fault.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
	path := filepath.Join(dir, "prog")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := command.Find("prog", dir); err != nil || got != path {
		t.Errorf("got %q, %v", got, err)
	}
}

func detach(t *testing.T, script string) *command.Detached {
	t.Helper()
	d := command.Attach(filepath.Join(t.TempDir(), "it's detached"))
	if st, err := d.State(); st != nil || err != nil {
		t.Fatalf("before the start: %v, %v", st, err)
	}
	if err := d.Start(command.Spec{Path: "/bin/sh", Args: []string{"-c", script}}); err != nil {
		t.Fatal(err)
	}
	return d
}

func wait(t *testing.T, d *command.Detached) *command.State {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		st, err := d.State()
		if err != nil {
			t.Fatal(err)
		}
		if !st.Alive() {
			return st
		}
	}
	t.Fatal("still alive after 10 s")
	return nil
}

func TestDetachedRecordsHowItEnded(t *testing.T) {
	for _, c := range []struct {
		script, want string
	}{
		{"echo fine", ""},
		{"echo no space >&2; exit 7", "prog: exit code 7: no space"},
		{"echo half; kill -9 $$", "prog: ended by killed: half"},
	} {
		d := detach(t, c.script)
		got := ""
		if err := wait(t, d).Err("prog", d.Tail(100)); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.script, got, c.want)
		}
	}
}

func TestAwait(t *testing.T) {
	const long = time.Minute
	running := func(script string) (*command.Detached, *command.State) {
		d := detach(t, script)
		st, err := d.State()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Kill(context.Background()); err != nil {
				t.Error(err)
			}
		})
		return d, st
	}
	d, st := running("sleep 0.2")
	began := time.Now()
	st.Await(context.Background(), long)
	if end, err := d.State(); err != nil || !end.Ended || time.Since(began) > long/2 {
		t.Errorf("its end: %+v, %v after %v", end, err, time.Since(began))
	}
	st.Await(context.Background(), long) // again
	_, st = running("sleep 100")
	st.Await(context.Background(), 50*time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	st.Await(ctx, long)
	if !st.Alive() || time.Since(began) > long/2 {
		t.Errorf("alive %v after %v", st.Alive(), time.Since(began))
	}
}

func TestDetachedWhoseShimWasKilledIsNotTakenForGood(t *testing.T) {
	d := detach(t, "sleep 100")
	st, err := d.State()
	if err != nil || !st.Alive() {
		t.Fatalf("%v, %v", st, err)
	}
	syscall.Kill(st.ShimPID, syscall.SIGKILL)
	st = wait(t, d)
	var exit *command.ExitError
	if err := st.Err("prog", ""); !errors.As(err, &exit) {
		t.Errorf("got %v", err)
	}
	syscall.Kill(st.PID, syscall.SIGKILL)
}

func TestDetachedKillEndsTheProgramToo(t *testing.T) {
	d := detach(t, "sleep 100")
	st, err := d.State()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Kill(context.Background()); err != nil {
		t.Fatal(err)
	}
	waitGone(t, st.PID)
	if err := d.Kill(context.Background()); err != nil {
		t.Errorf("a second kill: %v", err)
	}
}

func waitForPID(t *testing.T, path string) int {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile(path)
		pid := 0
		for _, c := range strings.TrimSpace(string(b)) {
			pid = pid*10 + int(c-'0')
		}
		if strings.HasSuffix(string(b), "\n") && pid > 0 {
			return pid
		}
	}
	t.Fatal("no PID after 10 s")
	return 0
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, err := command.StartTime(pid); err != nil {
			return
		}
	}
	t.Errorf("process %d is still there", pid)
}
