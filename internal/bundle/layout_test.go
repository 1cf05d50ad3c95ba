package bundle

import (
	"testing"

	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// TestLargeObjectsHaveNotTooManyParts, however often and however close together they have changed.
func TestLargeObjectsHaveNotTooManyParts(t *testing.T) {
	const pieces, size = 150_000, 1 << 20 // some 150 GB
	old := &places{offsets: make([]int64, pieces+1)}
	for i := range old.offsets {
		old.offsets[i] = int64(i) * size
	}
	for _, weaves := range []bool{false, true} {
		for _, every := range []int{2, 4, 7, 12} {
			var buf []byte
			var parts, length, sum int64
			l := layout{old: old, copies: true, weaves: weaves,
				size:   func(number int) int64 { return objstore.PartSize(0, number) },
				buffer: func() ([]byte, error) { return buf[:0], nil },
				emit: func(p part) error {
					if parts > 0 && length < objstore.MinPart {
						t.Fatalf("part %d has %d bytes", parts, length)
					}
					parts, length = parts+1, int64(len(p.data))
					for _, s := range p.strands {
						length += s.old.Length
					}
					sum += length
					if p.data != nil {
						buf = p.data
					}
					return nil
				}}
			var want int64
			for piece := range pieces - 1 {
				var err error
				if piece%every == 0 {
					want++
					err = l.add([]byte{1})
				} else {
					want += size
					err = l.same(piece)
				}
				if err != nil {
					t.Fatalf("weaving %v, every %d: piece %d: %v", weaves, every, piece, err)
				}
			}
			if err := l.finish(); err != nil {
				t.Fatalf("weaving %v, every %d: %v", weaves, every, err)
			}
			if sum != want {
				t.Errorf("weaving %v, every %d: %d bytes in %d parts, not %d", weaves, every, sum, parts, want)
			}
			t.Logf("weaving %v, every %d: %d parts", weaves, every, parts)
		}
	}
}
