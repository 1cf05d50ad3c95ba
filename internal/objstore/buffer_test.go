package objstore

import "testing"

func TestBuffer(t *testing.T) {
	for _, size := range []int64{0, 1, hugePage, 2*hugePage - 1, 2 * hugePage, 16 << 20, 20<<20 + 1} {
		b := Buffer(size)
		if len(b) != 0 || int64(cap(b)) != size {
			t.Errorf("buffer of %d: length %d, capacity %d", size, len(b), cap(b))
		}
		for i := range size {
			b = append(b, byte(i))
		}
		for i, c := range b {
			if c != byte(i) {
				t.Fatalf("buffer of %d: byte %d is %d", size, i, c)
			}
		}
	}
}
