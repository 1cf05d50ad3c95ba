package memlimit

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimit(t *testing.T) {
	was := debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() {
		limit.base, limit.lowering = 0, nil
		debug.SetMemoryLimit(was)
	})
	const mb = 1 << 20
	is := func(want int64) {
		t.Helper()
		synctest.Wait()
		if got := debug.SetMemoryLimit(-1); got != want {
			t.Errorf("%d bytes, not %d", got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		Reserve(5)()
		is(math.MaxInt64) // nobody wants one
		time.Sleep(lull)
		is(math.MaxInt64)
		t.Setenv("GOMEMLIMIT", "1GiB")
		Set(1000 * mb)
		is(math.MaxInt64)
		t.Setenv("GOMEMLIMIT", "")
		Set(1000 * mb)
		is(1000 * mb)
		Reserve(900 * mb)()
		is(1000 * mb)
		buffer := make([]byte, 64*mb)
		clear(buffer)
		first := Reserve(1000 * mb)
		second := Reserve(500 * mb)
		is(1512 * mb)
		first()
		is(1512 * mb)
		time.Sleep(lull / 2)
		third := Reserve(1000 * mb) // takes the place of the first
		is(1512 * mb)
		third()
		second()
		runtime.KeepAlive(buffer)
		before := held()
		time.Sleep(lull - time.Nanosecond)
		is(1512 * mb)
		time.Sleep(time.Nanosecond)
		is(1000 * mb)
		if after := held(); after > before-48*mb {
			t.Errorf("an idle process holds %d MiB, and held %d before", after/mb, before/mb)
		}
	})
}

// held is the memory of the heap that the kernel has not got back, in bytes.
func held() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapSys - m.HeapReleased)
}
