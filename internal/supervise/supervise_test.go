package supervise_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/supervise"
)

func shell(t *testing.T, script string) supervise.Child {
	t.Helper()
	return supervise.Child{Path: "/bin/sh", Args: []string{"-c", script}, StopWithin: 300 * time.Millisecond}
}

func TestADeadChildIsStartedAgain(t *testing.T) {
	log := filepath.Join(t.TempDir(), "starts")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := shell(t, "echo x >> "+log+"; kill -9 $$")
	ends := 0
	c.Ended = func(err error, _ time.Duration) {
		if ends++; ends == 3 {
			cancel()
		}
	}
	c.FailFast = true // a child that somebody killed has not failed by itself
	if err := c.Keep(ctx); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(log)
	if err != nil || strings.Count(string(data), "x") != 3 {
		t.Errorf("started %q, %v; want three times", data, err)
	}
}

func TestAFirstStartThatFailsIsReported(t *testing.T) {
	c := shell(t, "exit 4")
	c.FailFast = true
	var exit *exec.ExitError
	if err := c.Keep(context.Background()); !errors.As(err, &exit) || exit.ExitCode() != 4 {
		t.Errorf("got %v, want exit code 4", err)
	}
	c.Path = "/nowhere"
	if err := c.Keep(context.Background()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v for a program that does not exist", err)
	}
}

func TestAChildThatDoesNotStopIsKilled(t *testing.T) {
	started := filepath.Join(t.TempDir(), "started")
	ctx, cancel := context.WithCancel(context.Background())
	c := shell(t, "trap '' TERM; : > "+started+"; while :; do sleep 0.1; done")
	done := make(chan error, 1)
	go func() { done <- c.Keep(ctx) }()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(started); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the child was not started")
		}
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the child was not killed")
	}
}
