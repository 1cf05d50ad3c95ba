package fence

import (
	"os/exec"
	"testing"
)

// TestAProgramThatIsJustBeingStartedIsMarked: os/exec says that a program was
// started some microseconds before the kernel shows its environment.
func TestAProgramThatIsJustBeingStartedIsMarked(t *testing.T) {
	missed := 0
	const starts = 500
	for range starts {
		child := exec.Command("sleep", "60")
		child.Env = []string{MarkerEnv + "=/a dir|token"}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if dir, token, is := markOf(child.Process.Pid); !is || dir != "/a dir" || token != "token" {
			missed++
		}
		_ = child.Process.Kill()
		_ = child.Wait()
	}
	if missed > 0 {
		t.Errorf("%d of %d were not seen", missed, starts)
	}
}

// TestWhoHasNoEnvironment: neither a program without one nor one that has ended
// is waited for.
func TestWhoHasNoEnvironment(t *testing.T) {
	child := exec.Command("sleep", "60")
	child.Env = []string{}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if _, _, is := markOf(child.Process.Pid); is {
		t.Error("a program without an environment has a marker")
	}
	_ = child.Process.Kill()
	defer func() { _ = child.Wait() }()
	if _, _, is := markOf(child.Process.Pid); is {
		t.Error("a program that has ended has a marker")
	}
}
