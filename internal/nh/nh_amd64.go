package nh

import "github.com/klauspost/cpuid/v2"

// Fast reports whether this processor has instructions that make it faster than other hashes.
var Fast = cpuid.CPU.Supports(cpuid.AVX2)

// multiplyAVX2 is multiplyInGo.
//
//go:noescape
func multiplyAVX2(out *[batch * sums]byte, words *[passes * block / 4]uint32, data *byte, n int)

func multiply(out *[batch * sums]byte, words *[passes * block / 4]uint32, data *byte, n int) {
	if Fast {
		multiplyAVX2(out, words, data, n)
		return
	}
	multiplyInGo(out, words, data, n)
}
