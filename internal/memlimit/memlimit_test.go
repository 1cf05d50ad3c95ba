package memlimit

import (
	"math"
	"runtime/debug"
	"testing"
)

func TestLimit(t *testing.T) {
	was, percent := debug.SetMemoryLimit(math.MaxInt64), debug.SetGCPercent(100)
	t.Cleanup(func() {
		limit.base = 0
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(was)
	})
	is := func(want int64) {
		t.Helper()
		if got := debug.SetMemoryLimit(-1); got != want {
			t.Errorf("%d bytes, not %d", got, want)
		}
	}
	Reserve(5)()
	is(math.MaxInt64) // nobody wants one
	t.Setenv("GOMEMLIMIT", "1GiB")
	Set(1 << 40)
	is(math.MaxInt64)
	t.Setenv("GOMEMLIMIT", "")
	Set(1 << 40)
	is(1 << 40)
	if got := debug.SetGCPercent(100); got != garbage {
		t.Errorf("%d %% of garbage", got)
	}
	t.Setenv("GOGC", "300")
	if Set(1 << 40); debug.SetGCPercent(100) != 100 {
		t.Error("GOGC does not count")
	}
	first := Reserve(100)
	second := Reserve(20)
	is(1<<40 + 120)
	first()
	is(1<<40 + 20)
	second()
	is(1 << 40)
}
