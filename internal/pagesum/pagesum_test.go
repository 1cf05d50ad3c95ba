package pagesum

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/wal"
)

// page is the first block of pg_database of a new cluster.
func page(t testing.TB) []byte {
	t.Helper()
	p, err := os.ReadFile("testdata/global_1262")
	require.NoError(t, err)
	return p
}

// slowly is the algorithm word by word.
func slowly(page []byte, block uint32) uint16 {
	page = append([]byte(nil), page...)
	binary.LittleEndian.PutUint16(page[8:], 0)
	sums := bases
	for i := 0; i < len(page); i += 4 {
		lane := i / 4 % lanes
		sums[lane] = mix(sums[lane], binary.LittleEndian.Uint32(page[i:]))
	}
	var all uint32
	for _, s := range sums {
		all ^= mix(mix(s, 0), 0)
	}
	return uint16((all^block)%65535 + 1)
}

func TestRealPage(t *testing.T) {
	j := Judge{BlockSize: 8192, RelationBlocks: 131072, Start: 1 << 62}
	p := page(t)
	assert.Equal(t, Good, j.Page(p, 0))
	assert.Equal(t, Bad, j.Page(p, 1), "the block's number counts")
	assert.Equal(t, Bad, j.Page(p, j.First(1)))
	var unseen int
	for bit := range 8 * len(p) {
		p[bit/8] ^= 1 << (bit % 8)
		switch v := j.Page(p, 0); {
		case v == Bad:
		case v == Recent && bit/8 < 8: // the upper bits of the LSN
		case v == Good && slowly(p, 0) == binary.LittleEndian.Uint16(p[8:]):
			unseen++
		default:
			t.Fatalf("bit %d: %d", bit, v)
		}
		p[bit/8] ^= 1 << (bit % 8)
	}
	assert.Less(t, unseen, 8, "one in 65,535 is what 16 bits cannot tell")
	assert.Equal(t, Good, j.Page(p, 0))
}

func TestVerdicts(t *testing.T) {
	p := page(t)
	lsn := uint64(binary.LittleEndian.Uint32(p))<<32 | uint64(binary.LittleEndian.Uint32(p[4:]))
	j := Judge{BlockSize: 8192, RelationBlocks: 131072}
	for _, tc := range []struct {
		name  string
		start uint64
		spoil func([]byte)
		want  Verdict
	}{
		{"changed at the start", lsn, func([]byte) {}, Recent},
		{"changed after the start", lsn - 1, func(p []byte) { p[5000] ^= 1 }, Recent},
		{"changed just before the start", lsn + 1, func([]byte) {}, Good},
		{"damaged", lsn + 1, func(p []byte) { p[5000] ^= 1 }, Bad},
		{"the checksum damaged", lsn + 1, func(p []byte) { p[8] ^= 1 }, Bad},
		{"nothing", 1, func(p []byte) { clear(p) }, New},
		{"nothing but a bit", 1, func(p []byte) { clear(p); p[8191] = 1 }, Bad},
		{"new by its header alone", lsn + 1, func(p []byte) { p[14], p[15] = 0, 0 }, Bad},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := append([]byte(nil), p...)
			tc.spoil(q)
			j.Start = wal.LSN(tc.start)
			assert.Equal(t, tc.want, j.Page(q, 0))
		})
	}
}

func TestSumIsThatOfTheDescription(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1024, 2048, 4096, 8192, 16384, 32768} {
		p := make([]byte, size)
		for range 50 {
			for i := range p {
				p[i] = byte(r.Uint32())
			}
			n := r.Uint32()
			want := slowly(p, n)
			assert.Equal(t, want, Sum(p, n))
			assert.Equal(t, want, uint16((foldWords(p)^n)%65535+1), "without special instructions")
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	j := Judge{BlockSize: 8192, RelationBlocks: 131072, Start: 1 << 62}
	p := page(t)
	assert.Zero(t, testing.AllocsPerRun(10, func() { j.Page(p, 0) }))
}

func BenchmarkSum(b *testing.B) {
	p := page(b)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		Sum(p, 7)
	}
}

func BenchmarkSumOfWords(b *testing.B) {
	p := page(b)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		foldWords(p)
	}
}

func BenchmarkNewPages(b *testing.B) {
	j := Judge{BlockSize: 8192, RelationBlocks: 131072, Start: 1 << 62}
	p := make([]byte, 8192)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		j.Page(p, 7)
	}
}
