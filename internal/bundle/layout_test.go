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
			l := layout{allowance: &Allowance{}, old: old, copies: true, weaves: weaves,
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

// TestFewJoinsAtTheBeginning: of an object whose first piece and another one near it are new, what is
// between them is sent, unless that is too long for what was sent again before; what follows is joined.
func TestFewJoinsAtTheBeginning(t *testing.T) {
	const half = 512 << 10
	for _, c := range []struct {
		size, between, strands int
		again, short           int64
	}{
		{half, 1, 2, 0, 0}, {half, 7, 1, 0, 0}, {half, 8, 3, 0, 0},
		{half, 1, 2, 7 << 20, 0}, {half, 2, 4, 7 << 20, 0}, {half, 7, 4, 7 << 20, 0},
		{half / 4, 1, 2, 1 << 30, 0}, {half / 4, 2, 4, 1 << 30, 0}, {half, 1, 4, 1 << 30, 0},
		{half, 2, 2, 1 << 30, mostShort}, {half, 8, 3, 1 << 30, mostShort},
	} {
		const pieces = 160
		old := &places{offsets: []int64{0, 100}}
		for i := range int64(pieces) {
			old.offsets = append(old.offsets, 100+(i+1)*int64(c.size))
		}
		var first *part
		l := layout{old: old, copies: true, weaves: true, allowance: &Allowance{},
			size:   func(number int) int64 { return objstore.PartSize(0, number) },
			buffer: func() ([]byte, error) { return nil, nil },
			emit: func(p part) error {
				if first == nil {
					first = &p
				}
				return nil
			}}
		l.allowance.again.Store(c.again)
		l.allowance.short.Store(c.short)
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		must(l.add(make([]byte, 100)))
		for piece := range c.between {
			must(l.same(1 + piece))
		}
		must(l.add(make([]byte, c.size)))
		for piece := 2 + c.between; piece <= pieces; piece++ {
			must(l.same(piece))
		}
		must(l.finish())
		if len(first.strands) != c.strands {
			t.Errorf("%d pieces of %d bytes between, %d sent again and %d strands woven before: %d strands, not %d", c.between, c.size, c.again, c.short, len(first.strands), c.strands)
		}
	}
}

// SpentAllowance has nothing left.
func SpentAllowance() *Allowance {
	a := &Allowance{}
	a.again.Store(1 << 40)
	return a
}
