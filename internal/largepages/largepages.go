// Package largepages makes buffers that the kernel may give large pages.
//
// Each page costs a fault when it is first written to. That takes virtual machines up to 10 µs: to fill
// fresh memory takes longer there than to compress as much.
package largepages

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// size is the usual one, in bytes.
const size = 2 << 20

// Buffer makes an empty buffer for n bytes. One of two large pages or more begins with one and asks for
// as many as it fills, and is as good without where there are none to be had.
func Buffer(n int) []byte {
	if n < 2*size {
		return make([]byte, 0, n)
	}
	b := make([]byte, size+n)
	from := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) % size)
	_ = unix.Madvise(b[from:from+n/size*size], unix.MADV_HUGEPAGE)
	return b[from : from : from+n]
}
