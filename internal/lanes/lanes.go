package lanes

import (
	"cmp"
	"crypto/sha256"
	"slices"
)

const (
	lanes = 16
	row   = lanes * sha256.BlockSize // a block of each message
	// stretch is how many rows are hashed for one message after the other: they stay in a
	// processor's first cache.
	stretch = 16
)

// sums are the SHA-256 of sixteen messages.
type sums [lanes][sha256.Size]byte

// Sum deals data to sixteen messages, in blocks of 64 bytes, in turn, as long as each gets one. It is
// the SHA-256 of the messages' SHA-256 (FIPS 180-4), in order, and of the bytes that are left over.
func Sum(data []byte) [sha256.Size]byte {
	whole := len(data) / row * row
	all := best(data[:whole])
	buf := make([]byte, 0, len(all)*sha256.Size+row)
	for i := range all {
		buf = append(buf, all[i][:]...)
	}
	return sha256.Sum256(append(buf, data[whole:]...))
}

// Message is one whose SHA-256 is wanted.
type Message struct {
	Data []byte
	Sum  *[sha256.Size]byte
}

// Each gives each message its SHA-256, in an order of its own. Messages of the same length, which is a
// multiple of 64, are worked on at the same time.
func Each(messages []Message) {
	slices.SortFunc(messages, func(a, b Message) int { return cmp.Compare(len(a.Data), len(b.Data)) })
	for len(messages) > 0 {
		size := len(messages[0].Data)
		alike := 1
		for alike < len(messages) && len(messages[alike].Data) == size {
			alike++
		}
		for left := messages[:alike]; len(left) > 0; {
			done := 0
			if size > 0 && size%sha256.BlockSize == 0 {
				done = together(left)
			}
			if done == 0 {
				*left[0].Sum, done = sha256.Sum256(left[0].Data), 1
			}
			left = left[done:]
		}
		messages = messages[alike:]
	}
}

// oneByOne hashes whole rows as the standard library does it.
func oneByOne(data []byte) (all sums) {
	for i := range all {
		h := sha256.New()
		var buf [stretch * sha256.BlockSize]byte
		message := buf[:0]
		for at := i * sha256.BlockSize; at < len(data); at += row {
			if message = append(message, data[at:at+sha256.BlockSize]...); len(message) == cap(message) {
				h.Write(message)
				message = message[:0]
			}
		}
		h.Write(message)
		h.Sum(all[i][:0])
	}
	return all
}
