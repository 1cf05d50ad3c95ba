//go:build !amd64

package nh

// Fast reports whether this processor has instructions that make it faster than other hashes.
const Fast = false

func multiply(out *[batch * sums]byte, words *[passes * block / 4]uint32, data *byte, n int) {
	multiplyInGo(out, words, data, n)
}
