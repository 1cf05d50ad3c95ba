// Package checksum joins the CRC-32 of two pieces into that of both together,
// without their content. It computes no checksums: package hash/crc32 does.
package checksum

// Join is the checksum of a piece and the length bytes that follow it. The
// polynomial is written as in package hash/crc32: crc32.IEEE, crc32.Castagnoli.
func Join(polynomial, first, second uint32, length int64) uint32 {
	// Appending a byte multiplies by x^8, modulo the polynomial; the coefficient of x^0 is the highest bit.
	shift, square := uint32(1)<<31, uint32(1)<<23
	for ; length > 0; length >>= 1 {
		if length&1 != 0 {
			shift = multiply(polynomial, shift, square)
		}
		square = multiply(polynomial, square, square)
	}
	return multiply(polynomial, shift, first) ^ second
}

// multiply is a times b modulo the polynomial.
func multiply(polynomial, a, b uint32) (product uint32) {
	for bit := uint32(1) << 31; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		if b&1 != 0 {
			b = b>>1 ^ polynomial
		} else {
			b >>= 1
		}
	}
	return product
}
