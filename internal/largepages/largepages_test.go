package largepages

import (
	"testing"
	"unsafe"
)

func TestBuffer(t *testing.T) {
	for _, n := range []int{0, 1, size, 2*size - 1, 2 * size, 16 << 20, 20<<20 + 1} {
		b := Buffer(n)
		if len(b) != 0 || cap(b) != n {
			t.Errorf("buffer of %d: length %d, capacity %d", n, len(b), cap(b))
		}
		if at := uintptr(unsafe.Pointer(unsafe.SliceData(b))); n >= 2*size && at%size != 0 {
			t.Errorf("a buffer of %d begins at %x, in the middle of a large page", n, at)
		}
		for i := range n {
			b = append(b, byte(i))
		}
		for i, c := range b {
			if c != byte(i) {
				t.Fatalf("buffer of %d: byte %d is %d", n, i, c)
			}
		}
	}
}
