package lanes

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/klauspost/cpuid/v2"
)

var (
	hasTwo     = cpuid.CPU.Supports(cpuid.SHA, cpuid.AVX)
	hasSixteen = cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512BW)
)

func best(data []byte) sums {
	switch {
	case hasSixteen:
		return sixteenAtOnce(data)
	case hasTwo:
		return twoAtOnce(data)
	}
	return oneByOne(data)
}

// initial are the working variables a to h of a message that has not begun (FIPS 180-4, 5.3.3).
var initial = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

// blocks16 takes n blocks, at least one, of each of sixteen messages into their working variables.
// A message's blocks are stride bytes apart.
//
//go:noescape
func blocks16(states *[8][lanes]uint32, from *[lanes]*byte, stride, n int)

// sixteenAtOnce hashes whole rows in the lanes of AVX-512.
func sixteenAtOnce(data []byte) sums {
	var from [lanes]*byte
	if len(data) > 0 {
		for i := range from {
			from[i] = &data[i*sha256.BlockSize]
		}
	}
	return sixteen(&from, row, len(data)/row)
}

// sixteen hashes sixteen messages of n blocks each.
func sixteen(from *[lanes]*byte, stride, n int) (all sums) {
	var states [8][lanes]uint32
	for v := range states {
		for i := range states[v] {
			states[v][i] = initial[v]
		}
	}
	if n > 0 {
		blocks16(&states, from, stride, n)
	}
	end := padding(n * sha256.BlockSize)
	var ends [lanes]*byte
	for i := range ends {
		ends[i] = &end[0]
	}
	blocks16(&states, &ends, 0, 1)
	for i := range all {
		for v := range states {
			binary.BigEndian.PutUint32(all[i][4*v:], states[v][i])
		}
	}
	return all
}

// together hashes some of the messages, all of which have the same length, at least a block, and whole
// blocks: their number, from the first on.
func together(messages []Message) int {
	n := len(messages[0].Data) / sha256.BlockSize
	switch {
	case hasSixteen && len(messages) >= worthSixteen:
		var from [lanes]*byte
		k := min(lanes, len(messages))
		for i := range from {
			from[i] = &messages[min(i, k-1)].Data[0]
		}
		all := sixteen(&from, sha256.BlockSize, n)
		for i, m := range messages[:k] {
			*m.Sum = all[i]
		}
		return k
	case hasTwo && len(messages) >= 2:
		a, b := begun(), begun()
		blocks2(&a, &b, &messages[0].Data[0], &messages[1].Data[0], sha256.BlockSize, n)
		end := padding(n * sha256.BlockSize)
		blocks2(&a, &b, &end[0], &end[0], 0, 1)
		*messages[0].Sum, *messages[1].Sum = a.sum(), b.sum()
		return 2
	}
	return 0
}

// worthSixteen is how many messages take as long one by one as sixteen at once.
const worthSixteen = 6

// state are the working variables f, e, b, a, h, g, d, c of a message, as SHA256RNDS2 wants them.
type state [8]uint32

// order is where the working variables a to h are in a state.
var order = [8]int{3, 2, 7, 6, 1, 0, 5, 4}

// begun is that of a message that has not begun.
func begun() (s state) {
	for v, at := range order {
		s[at] = initial[v]
	}
	return s
}

// sum is the result of a message that has ended.
func (s *state) sum() (sum [sha256.Size]byte) {
	for v, at := range order {
		binary.BigEndian.PutUint32(sum[4*v:], s[at])
	}
	return sum
}

// blocks2 takes n blocks, at least one, of each of two messages into their states. A message's
// blocks are stride bytes apart.
//
//go:noescape
func blocks2(first, second *state, a, b *byte, stride, n int)

// twoAtOnce hashes whole rows, two messages at once, by the instructions for SHA-256.
func twoAtOnce(data []byte) (all sums) {
	var states [lanes]state
	for i := range states {
		states[i] = begun()
	}
	end := padding(len(data) / lanes)
	for rest := data; len(rest) > 0; {
		n := min(stretch, len(rest)/row)
		for i := 0; i < lanes; i += 2 {
			blocks2(&states[i], &states[i+1], &rest[i*sha256.BlockSize], &rest[(i+1)*sha256.BlockSize], row, n)
		}
		rest = rest[n*row:]
	}
	for i := 0; i < lanes; i += 2 {
		blocks2(&states[i], &states[i+1], &end[0], &end[0], 0, 1)
	}
	for i := range all {
		all[i] = states[i].sum()
	}
	return all
}

// padding is the block that ends a message of n bytes, which are whole blocks (FIPS 180-4, 5.1.1).
func padding(n int) (block [sha256.BlockSize]byte) {
	block[0] = 0x80
	binary.BigEndian.PutUint64(block[sha256.BlockSize-8:], uint64(n)*8)
	return block
}
