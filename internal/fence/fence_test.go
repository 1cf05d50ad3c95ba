package fence_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/fence"
)

// frozenEnv makes the test binary a writer that is frozen while it holds a lock.
const frozenEnv = "HOLDFAST_TEST_FROZEN"

func TestMain(m *testing.M) {
	if what := os.Getenv(frozenEnv); what != "" {
		name, dir, _ := strings.Cut(what, " ")
		f, err := fence.Take(context.Background(), dir, fence.Claim{Attempt: 1, Activity: 1, Token: "frozen"})
		freeze := func() error {
			err := unix.Kill(os.Getpid(), unix.SIGSTOP)
			// The signal may stop another thread first, while this one goes on.
			time.Sleep(time.Minute)
			return err
		}
		if err == nil && name == "write" {
			err = f.Do(freeze)
		} else if err == nil {
			if _, err = f.Lease(); err == nil {
				err = freeze()
			}
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func TestSuccessorEndsAFrozenPredecessor(t *testing.T) {
	for _, where := range []string{"write", "lease"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			writer := exec.Command(os.Args[0])
			writer.Env = append(os.Environ(), frozenEnv+"="+where+" "+dir)
			if err := writer.Start(); err != nil {
				t.Fatal(err)
			}
			var status unix.WaitStatus
			if _, err := unix.Wait4(writer.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
				t.Fatalf("the writer is not frozen: status %x, %v", status, err)
			}
			if _, err := take(t, dir, 2, 1, "b"); err != nil {
				t.Error(err)
				_ = writer.Process.Kill()
			}
			err := writer.Wait()
			if status, ok := writer.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != unix.SIGKILL {
				t.Errorf("the frozen writer ended with %v", err)
			}
		})
	}
}

func take(t *testing.T, dir string, attempt, activity int, token string) (*fence.Fence, error) {
	t.Helper()
	return fence.Take(context.Background(), dir, fence.Claim{Attempt: attempt, Activity: activity, Token: token})
}

func TestNewerClaimSupersedesOlder(t *testing.T) {
	dir := t.TempDir()
	first, err := take(t, dir, 1, 1, "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Do(func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := take(t, dir, 1, 1, "a"); err != nil {
		t.Fatalf("the same claim again: %v", err)
	}
	second, err := take(t, dir, 1, 2, "b")
	if err != nil {
		t.Fatal(err)
	}
	wrote := false
	if err := first.Do(func() error { wrote = true; return nil }); !fault.Is(err, fault.Superseded) || wrote {
		t.Errorf("a superseded writer wrote: %v, %v", wrote, err)
	}
	if _, err := first.Lease(); !fault.Is(err, fault.Superseded) {
		t.Errorf("a superseded writer may start children: %v", err)
	}
	for _, c := range []struct {
		attempt, activity int
		token             string
	}{{1, 1, "a"}, {1, 2, "other"}, {0, 9, "z"}} {
		if _, err := take(t, dir, c.attempt, c.activity, c.token); !fault.Is(err, fault.Superseded) {
			t.Errorf("claim %v: %v", c, err)
		}
	}
	if err := second.Do(func() error { return nil }); err != nil {
		t.Errorf("the newest claim was refused: %v", err)
	}
}

func TestSuccessorEndsChildrenOfItsPredecessor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's a dir")
	first, err := take(t, dir, 1, 1, "a")
	if err != nil {
		t.Fatal(err)
	}
	lease, err := first.Lease()
	if err != nil {
		t.Fatal(err)
	}
	// The child has a child of its own, as rsync does.
	child := exec.Command("sh", "-c", "sleep 100 & wait")
	child.Env = append(os.Environ(), first.Marker())
	child.ExtraFiles = []*os.File{lease}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lease.Close()
	began := time.Now()
	if _, err := take(t, dir, 2, 1, "b"); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("took %s", d)
	}
	if err := child.Wait(); err == nil {
		t.Error("the predecessor's child was not ended")
	}
	if left, err := fence.Marked(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

func TestSuccessorWaitsForAWriteInFlight(t *testing.T) {
	dir := t.TempDir()
	first, err := take(t, dir, 1, 1, "a")
	if err != nil {
		t.Fatal(err)
	}
	inside, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		done <- first.Do(func() error { close(inside); <-leave; return nil })
	}()
	<-inside
	claimed := make(chan error)
	go func() { _, err := take(t, dir, 1, 2, "b"); claimed <- err }()
	select {
	case <-claimed:
		t.Fatal("the claim returned while a write was in flight")
	case <-time.After(300 * time.Millisecond):
	}
	close(leave)
	if err := <-claimed; err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
