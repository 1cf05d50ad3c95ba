package pagesum

import (
	"encoding/binary"

	"golang.org/x/sys/cpu"
)

// sumAVX2 mixes a page, whose length is a multiple of 128 and not 0, into 32 sums,
// and folds those into eight.
//
//go:noescape
func sumAVX2(page []byte, sums *[lanes]uint32, folded *[8]uint32)

func fold(page []byte) uint32 {
	if !cpu.X86.HasAVX2 || len(page) == 0 || len(page)%row != 0 {
		return foldWords(page)
	}
	sums := bases
	// The same as a zero in the checksum's place.
	sums[2] ^= uint32(binary.LittleEndian.Uint16(page[sumAt:]))
	var eight [8]uint32
	sumAVX2(page, &sums, &eight)
	var folded uint32
	for _, s := range eight {
		folded ^= s
	}
	return folded
}
