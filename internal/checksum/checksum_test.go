package checksum_test

import (
	"hash/crc32"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/checksum"
)

func FuzzJoin(f *testing.F) {
	f.Add([]byte("123456789"), 4)
	f.Add([]byte{}, 0)
	f.Add(make([]byte, 70_000), 1)
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		at = max(0, min(at, len(data)))
		for _, polynomial := range []uint32{crc32.IEEE, crc32.Castagnoli} {
			table := crc32.MakeTable(polynomial)
			got := checksum.Join(polynomial, crc32.Checksum(data[:at], table), crc32.Checksum(data[at:], table), int64(len(data)-at))
			if want := crc32.Checksum(data, table); got != want {
				t.Errorf("%08x: %d and %d bytes: %08x, not %08x", polynomial, at, len(data)-at, got, want)
			}
		}
	})
}

// TestLong: more than can be hashed, joined in another order. The order of Castagnoli's
// polynomial is less than 2^32.
func TestLong(t *testing.T) {
	for _, polynomial := range []uint32{crc32.IEEE, crc32.Castagnoli} {
		table := crc32.MakeTable(polynomial)
		first, long, n := crc32.Checksum([]byte("123456789"), table), crc32.Checksum(make([]byte, 1<<20), table), int64(1<<20)
		for n < 1<<45 {
			long, n = checksum.Join(polynomial, long, long, n), 2*n
		}
		left := checksum.Join(polynomial, checksum.Join(polynomial, first, long, n), long, n)
		right := checksum.Join(polynomial, first, checksum.Join(polynomial, long, long, n), 2*n)
		if left != right {
			t.Errorf("%08x: %08x and %08x", polynomial, left, right)
		}
	}
}

// BenchmarkJoin joins what the segments of a large object are joined of.
func BenchmarkJoin(b *testing.B) {
	sum, length := uint32(0x12345678), int64(100_001)
	for b.Loop() {
		sum = checksum.Join(crc32.Castagnoli, sum, sum, length)
		length = length%1_000_000 + 37_199
	}
}
