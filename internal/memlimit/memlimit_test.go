package memlimit

import (
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheLimitFollowsTheBuffers(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() {
		limit.base, limit.lowering = 0, nil
		debug.SetMemoryLimit(before)
	})
	const mb = 1 << 20
	is := func(want int64) {
		t.Helper()
		synctest.Wait()
		if got := debug.SetMemoryLimit(-1); got != want*mb {
			t.Errorf("the limit is %d MiB, want %d", got/mb, want)
		}
	}
	synctest.Test(t, func(*testing.T) {
		Set(1000 * mb)
		is(1000)
		first := Reserve(100 * mb)
		second := Reserve(50 * mb)
		is(1150)
		first()
		is(1150)
		time.Sleep(lull / 2)
		third := Reserve(100 * mb) // takes the place of the first
		is(1150)
		third()
		second()
		time.Sleep(lull - 1)
		is(1150)
		time.Sleep(time.Nanosecond)
		is(1000)
		fourth := Reserve(50 * mb)
		is(1050)
		fourth()
		time.Sleep(lull)
		is(1000)
	})
}
