package nh

import (
	"crypto/sha256"
	"crypto/sha3"
	"encoding/binary"
	"unsafe"
)

const (
	// Size is that of a hash, in bytes.
	Size = 16
	// SecretSize is that of a secret, in bytes.
	SecretSize = 32

	passes = 4
	block  = 2048       // bytes that are multiplied with the same words of a key
	sums   = 8 * passes // bytes that a block gives
	batch  = 32         // blocks whose sums are hashed at once
)

// Key is what a secret is expanded to. Several may use it at a time.
type Key struct {
	words [passes * block / 4]uint32
	last  [sha256.BlockSize]byte
}

// NewKey expands a secret.
func NewKey(secret *[SecretSize]byte) *Key {
	k := &Key{}
	stream := sha3.SumSHAKE256(secret[:], 4*len(k.words)+len(k.last))
	for i := range k.words {
		k.words[i] = binary.LittleEndian.Uint32(stream[4*i:])
	}
	copy(k.last[:], stream[4*len(k.words):])
	return k
}

// Sum is the hash of data. Two that were chosen without the secret have the same one with a probability of at
// most 2^-128: of two blocks NH gives the same with one of at most 2^-32, for each of the keys (UMAC, section 4).
func (k *Key) Sum(data []byte) [Size]byte {
	h := sha256.New()
	_, _ = h.Write(k.last[:])
	length := uint64(len(data))
	var out [batch * sums]byte
	for len(data) >= block {
		n := min(len(data)/block, batch)
		multiply(&out, &k.words, &data[0], n)
		_, _ = h.Write(out[:n*sums])
		data = data[n*block:]
	}
	if len(data) > 0 {
		var last [block]byte
		copy(last[:], data)
		multiply(&out, &k.words, &last[0], 1)
		_, _ = h.Write(out[:sums])
	}
	_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, length))
	return [Size]byte(h.Sum(nil))
}

// multiplyInGo adds up, for each of n blocks and each pass, the products of pairs of words, of 32 bits, to
// each of which a word of the key was added.
func multiplyInGo(out *[batch * sums]byte, words *[passes * block / 4]uint32, data *byte, n int) {
	all := unsafe.Slice(data, n*block)
	for b := range n {
		var s [passes]uint64
		for i := 0; i < block; i += 8 {
			x := binary.LittleEndian.Uint32(all[b*block+i:])
			y := binary.LittleEndian.Uint32(all[b*block+i+4:])
			for p := range s {
				k := words[p*block/4+i/4:]
				s[p] += uint64(x+k[0]) * uint64(y+k[1])
			}
		}
		for p, v := range s {
			binary.LittleEndian.PutUint64(out[b*sums+8*p:], v)
		}
	}
}
