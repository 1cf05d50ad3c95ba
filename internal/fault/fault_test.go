package fault_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

func TestWrapKeepsTheFirstKindAndHint(t *testing.T) {
	first := fault.New(fault.Refused, "lock", "main", "held by PID 7").WithHint("wait for it")
	err := fault.Wrap(fault.Internal, "begin backup", "main", fmt.Errorf("keeper: %w", first))
	if got := fault.KindOf(err); got != fault.Refused {
		t.Errorf("kind %s", got)
	}
	if got := fault.HintOf(err); got != "wait for it" {
		t.Errorf("hint %q", got)
	}
	if want := "begin backup main: keeper: lock main: held by PID 7"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestSystemErrorsHaveKinds(t *testing.T) {
	for _, c := range []struct {
		err  error
		want fault.Kind
	}{
		{syscall.ENOSPC, fault.Disk},
		{syscall.EACCES, fault.Permission},
		{syscall.ENOENT, fault.NotFound},
		{errors.New("x"), fault.Internal},
		{nil, ""},
	} {
		if got := fault.KindOf(c.err); got != c.want {
			t.Errorf("%v: got %s, want %s", c.err, got, c.want)
		}
	}
	if fault.Wrap(fault.Internal, "a", "b", nil) != nil {
		t.Error("Wrap(nil) must be nil")
	}
}

func TestExitCodes(t *testing.T) {
	want := map[fault.Kind]int{
		fault.Usage: 2, fault.Config: 2, fault.NotFound: 3, fault.Refused: 4, fault.Unreachable: 5,
		fault.Cancelled: 130, fault.Internal: 1, fault.Disk: 1, fault.SessionLost: 1,
	}
	for k, code := range want {
		if k.ExitCode() != code {
			t.Errorf("%s: %d, want %d", k, k.ExitCode(), code)
		}
	}
}
