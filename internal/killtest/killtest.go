// Package killtest kills a process at a chosen step of what it writes, or after a
// time. The process is the test binary itself, which TestMain turns into a victim
// instead of testing. Nothing but tests imports this package.
package killtest

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
)

const stepEnv = "HOLDFAST_TEST_VICTIM_STEP"

// Victim reports whether this process is one; it then has the word to begin. It
// kills itself at the step of an atomic write that it was given.
func Victim() bool {
	step, is := os.LookupEnv(stepEnv)
	if !is {
		return false
	}
	left, err := strconv.Atoi(step)
	if err != nil {
		panic(err)
	}
	if left > 0 {
		atomicfile.Hook = func(string, string) {
			if left--; left == 0 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				time.Sleep(time.Minute)
			}
		}
	}
	return true
}

// Begun tells the test that the victim does now what it may be killed in.
func Begun() {
	if _, err := os.Stdout.WriteString("go\n"); err != nil {
		panic(err)
	}
}

// Run runs a victim, which kills itself at a step unless that is 0, and is killed
// after a while unless that is 0. It reports whether the victim finished.
func Run(t testing.TB, step int, after time.Duration, env []string, args ...string) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), stepEnv+"="+strconv.Itoa(step)), env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	if after > 0 {
		time.Sleep(after)
		_ = cmd.Process.Kill()
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() >= 0) {
		t.Fatalf("the victim failed by itself: %v %v", args, err)
	}
	return err == nil
}
