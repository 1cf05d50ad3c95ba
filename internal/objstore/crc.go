package objstore

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"math/bits"
)

// EncodeCRC32C is a checksum as the stores write it: base64 of its bytes, the highest first.
func EncodeCRC32C(crc uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc))
}

// DecodeCRC32C reads one; nil is none, or something else.
func DecodeCRC32C(text string) *uint32 {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != 4 {
		return nil
	}
	crc := binary.BigEndian.Uint32(raw)
	return &crc
}

// PartsCRC32C is the checksum of the parts one behind the other, nil when one has none.
func PartsCRC32C(parts []Part) *uint32 {
	var whole uint32
	for _, p := range parts {
		if p.CRC32C == nil {
			return nil
		}
		whole = shiftCRC(whole, p.Size) ^ *p.CRC32C
	}
	return &whole
}

// shiftCRC is what n zero bytes make of a checksum, apart from what they add by
// themselves: multiplication by x^(8n), bits in the order of CRC32C, lowest last.
func shiftCRC(crc uint32, n int64) uint32 {
	power := uint32(1) << (31 - 8) // x^8
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			crc = multiply(crc, power)
		}
		power = multiply(power, power)
	}
	return crc
}

// multiply is the product of two polynomials modulo that of CRC32C.
func multiply(a, b uint32) (product uint32) {
	for ; a != 0; a &^= 1 << (31 - bits.LeadingZeros32(a)) {
		term := b
		for range bits.LeadingZeros32(a) {
			term = term>>1 ^ crc32.Castagnoli&-(term&1)
		}
		product ^= term
	}
	return product
}
