package objstore

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePage is the usual size of a large page of memory.
const hugePage = 2 << 20

// Buffer makes an empty buffer. Each of its pages costs a fault when it is first written to, which takes
// virtual machines up to 10 µs: a large buffer asks for large pages, where there are some to be had.
func Buffer(size int64) []byte {
	b := make([]byte, size)
	if size < 2*hugePage {
		return b[:0]
	}
	from := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) % hugePage
	_ = unix.Madvise(b[from:from+(uintptr(size)-from)/hugePage*hugePage], unix.MADV_HUGEPAGE) // small ones do, too
	return b[:0]
}
