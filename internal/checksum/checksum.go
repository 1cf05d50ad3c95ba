// Package checksum joins the CRC-32 of two pieces into that of both together,
// without their content. It computes no checksums: package hash/crc32 does.
package checksum

import "sync"

// one is the polynomial 1: the coefficient of x^0 is the highest bit.
const one = uint32(1) << 31

// shifts are what to append so many bytes multiplies by, modulo a polynomial: of row i,
// x^8 to the power of n times 256^i.
type shifts [8][256]uint32

var known sync.Map // of polynomials

func shiftsOf(polynomial uint32) *shifts {
	if s, is := known.Load(polynomial); is {
		return s.(*shifts) //nolint:forcetypeassert // nothing else is in it
	}
	s, unit := new(shifts), one>>8
	for i := range s {
		s[i][0] = one
		for n := 1; n < len(s[i]); n++ {
			s[i][n] = multiply(polynomial, s[i][n-1], unit)
		}
		unit = multiply(polynomial, s[i][len(s[i])-1], unit)
	}
	known.Store(polynomial, s)
	return s
}

// Join is the checksum of a piece and the length bytes that follow it. The
// polynomial is written as in package hash/crc32: crc32.IEEE, crc32.Castagnoli.
func Join(polynomial, first, second uint32, length int64) uint32 {
	s := shiftsOf(polynomial)
	for i := 0; length > 0; i, length = i+1, length>>8 {
		if n := length & 0xff; n != 0 {
			first = multiply(polynomial, first, s[i][n])
		}
	}
	return first ^ second
}

// multiply is a times b modulo the polynomial.
func multiply(polynomial, a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 31)
		b = b>>1 ^ polynomial&-(b&1)
	}
	return product
}
