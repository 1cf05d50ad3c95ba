// Package memlimit keeps the garbage of a process small beside its large buffers.
//
// The runtime lets as much garbage wait as there is live memory, so that buffers count
// twice. A limit on all of the memory prevents that, but one that is near to what is alive
// has the process collect garbage all the time. So the limit follows the buffers.
package memlimit

import (
	"os"
	"runtime/debug"
	"sync"
)

var limit struct {
	sync.Mutex
	base, reserved int64
}

// garbage is how much may wait in all, in percent of what is alive: buffers that are reserved and
// not used leave room for as much of it.
const garbage = 50

// Set is called at the start of a process that has base bytes beside its buffers. Who sets
// GOMEMLIMIT or GOGC knows better.
func Set(base int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit.Lock()
	defer limit.Unlock()
	limit.base = base
	apply()
}

// Reserve makes room for buffers of n bytes, until release is called.
func Reserve(n int64) (release func()) {
	add(n)
	return func() { add(-n) }
}

func add(n int64) {
	limit.Lock()
	defer limit.Unlock()
	limit.reserved += n
	apply()
}

func apply() {
	if limit.base > 0 {
		debug.SetMemoryLimit(limit.base + limit.reserved)
	}
}
