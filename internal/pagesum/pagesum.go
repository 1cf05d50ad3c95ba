package pagesum

import (
	"bytes"
	"encoding/binary"

	"github.com/holdfast-pg/holdfast/internal/wal"
)

const (
	lanes = 32
	row   = lanes * 4 // bytes that each lane has taken one word of
	prime = 16777619
)

// bases are what the lanes begin with (checksumBaseOffsets).
var bases = [lanes]uint32{
	0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
	0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
	0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
	0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
}

// Where the header of a page (PageHeaderData) has what.
const (
	sumAt   = 8
	upperAt = 14
)

func mix(sum, word uint32) uint32 {
	sum ^= word
	return sum*prime ^ sum>>17
}

// Sum is the checksum that a page should have as a block of its relation. What the
// page has in the checksum's place does not matter. The page's length is a
// multiple of 128, and not 0.
func Sum(page []byte, block uint32) uint16 {
	return uint16((fold(page)^block)%65535) + 1
}

// foldWords folds a page into one word, on every machine.
func foldWords(page []byte) uint32 {
	var folded uint32
	// Eight lanes at a time stay in registers.
	for from := 0; from < lanes; from += 8 {
		b := bases[from : from+8 : from+8]
		s0, s1, s2, s3, s4, s5, s6, s7 := b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]
		if from == 0 {
			// The same as a zero in the checksum's place.
			s2 ^= uint32(binary.LittleEndian.Uint16(page[sumAt:]))
		}
		for rest := page[from*4:]; len(rest) >= 32; {
			w := (*[32]byte)(rest)
			a, c := binary.LittleEndian.Uint64(w[0:]), binary.LittleEndian.Uint64(w[8:])
			d, e := binary.LittleEndian.Uint64(w[16:]), binary.LittleEndian.Uint64(w[24:])
			s0, s1 = mix(s0, uint32(a)), mix(s1, uint32(a>>32))
			s2, s3 = mix(s2, uint32(c)), mix(s3, uint32(c>>32))
			s4, s5 = mix(s4, uint32(d)), mix(s5, uint32(d>>32))
			s6, s7 = mix(s6, uint32(e)), mix(s7, uint32(e>>32))
			if len(rest) < row {
				break
			}
			rest = rest[row:]
		}
		for _, s := range [...]uint32{s0, s1, s2, s3, s4, s5, s6, s7} {
			folded ^= mix(mix(s, 0), 0)
		}
	}
	return folded
}

// Verdict is what is known of a page.
type Verdict int

// The verdicts.
const (
	Good   Verdict = iota
	New            // nothing but zeros: the relation was extended
	Recent         // changed since the backup began, so that WAL replay writes it anew
	Bad
)

// Judge judges the pages of one cluster.
type Judge struct {
	BlockSize      int
	RelationBlocks uint32  // of one file of a relation
	Start          wal.LSN // of the backup
}

// First is the number of the first block in a file of a relation, which is split
// into several.
func (j Judge) First(segment uint32) uint32 { return segment * j.RelationBlocks }

// Page judges a block of a relation. A page whose header says that it is new must
// have nothing but zeros, as for the server (PageIsVerified).
func (j Judge) Page(page []byte, block uint32) Verdict {
	fresh := binary.LittleEndian.Uint16(page[upperAt:]) == 0
	if fresh && empty(page) {
		return New
	}
	lsn := wal.LSN(binary.LittleEndian.Uint32(page))<<32 | wal.LSN(binary.LittleEndian.Uint32(page[4:]))
	switch {
	case lsn >= j.Start:
		return Recent
	case fresh || Sum(page, block) != binary.LittleEndian.Uint16(page[sumAt:]):
		return Bad
	}
	return Good
}

// zeros are as long as the longest page.
var zeros [32 << 10]byte

func empty(page []byte) bool { return bytes.Equal(page, zeros[:len(page)]) }
