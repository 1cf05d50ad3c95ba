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
	"time"
)

var limit struct {
	sync.Mutex
	base, reserved int64
	high           int64 // the most that was reserved, until it was not for as long as lull
	lowering       *time.Timer
}

// beside is what a process needs beside its buffers, in bytes.
const beside = 12 << 20

// lull is how long the limit outlives the buffers. Lowered while they are being let go it has the
// process collect garbage over and over, and give back what it needs for what it does next.
const lull = 10 * time.Second

// Set is called at the start of a process that may take base bytes when it has no buffers. Who sets
// GOMEMLIMIT knows better.
func Set(base int64) {
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
	limit.Lock()
	defer limit.Unlock()
	limit.reserved += n
	limit.high = max(limit.high, limit.reserved)
	apply()
	return func() { free(n) }
}

func free(n int64) {
	limit.Lock()
	defer limit.Unlock()
	limit.reserved -= n
	if limit.lowering == nil {
		limit.lowering = time.AfterFunc(lull, lower)
		return
	}
	limit.lowering.Reset(lull)
}

func lower() {
	limit.Lock()
	limit.high = limit.reserved
	idle := limit.base > 0 && limit.reserved == 0
	apply()
	limit.Unlock()
	if idle {
		// A process that makes no garbage collects none, and would keep all that it had.
		debug.FreeOSMemory()
	}
}

func apply() {
	if limit.base > 0 {
		debug.SetMemoryLimit(max(limit.base, beside+limit.high))
	}
}
