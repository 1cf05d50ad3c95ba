package nh

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/minio/highwayhash"
)

func random(n int, seed byte) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// byDefinition is Sum, as the comments and RFC 4418, 5.2, have it.
func byDefinition(secret [SecretSize]byte, data []byte) [Size]byte {
	stream := make([]byte, 4*2048+64)
	copy(stream, sha3.SumSHAKE256(secret[:], len(stream)))
	all := bytes.Clone(stream[4*2048:])
	padded := append(bytes.Clone(data), make([]byte, (2048-len(data)%2048)%2048)...)
	word := func(b []byte, i int) *big.Int { return big.NewInt(int64(binary.LittleEndian.Uint32(b[4*i:]))) }
	mod := func(x *big.Int, bits uint) *big.Int { return x.Mod(x, new(big.Int).Lsh(big.NewInt(1), bits)) }
	for ; len(padded) > 0; padded = padded[2048:] {
		for pass := range 4 {
			key := stream[2048*pass:]
			sum := new(big.Int)
			for i := 0; i < 512; i += 2 {
				x := mod(new(big.Int).Add(word(padded, i), word(key, i)), 32)
				y := mod(new(big.Int).Add(word(padded, i+1), word(key, i+1)), 32)
				sum.Add(sum, x.Mul(x, y))
			}
			all = binary.LittleEndian.AppendUint64(all, mod(sum, 64).Uint64())
		}
	}
	all = binary.LittleEndian.AppendUint64(all, uint64(len(data)))
	sum := sha256.Sum256(all)
	return [Size]byte(sum[:])
}

func TestSum(t *testing.T) {
	secret := [SecretSize]byte(random(SecretSize, 1))
	key := NewKey(&secret)
	data := random(70*2048, 2)
	for _, n := range []int{0, 1, 7, 8, 31, 32, 33, 2047, 2048, 2049, 4096, 32*2048 - 1, 32 * 2048, 32*2048 + 1, 64 * 2048, 65*2048 + 5} {
		for _, part := range [][]byte{data[:n], data[1 : n+1], bytes.Repeat([]byte{0xff}, n), make([]byte, n)} { // at an odd address, too
			if got, want := key.Sum(part), byDefinition(secret, part); got != want {
				t.Fatalf("%d bytes: %x, want %x", n, got, want)
			}
		}
	}
	large := random(4<<20, 3)
	before := key.Sum(large)
	for _, at := range []int{0, 31, 32, 2047, 2048, 2 << 20, len(large) - 1} {
		for bit := range 8 {
			changed := bytes.Clone(large)
			changed[at] ^= 1 << bit
			if key.Sum(changed) == before {
				t.Errorf("bit %d of the byte at %d does not count", bit, at)
			}
		}
	}
	if key.Sum(large[:len(large)-1]) == key.Sum(append(large[:len(large)-1:len(large)-1], 0)) {
		t.Error("the length does not count")
	}
	secret[31] ^= 1
	if NewKey(&secret).Sum(large) == before {
		t.Error("the secret does not count")
	}
}

// TestInGo: without the processor's instructions the result is the same.
func TestInGo(t *testing.T) {
	secret := [SecretSize]byte(random(SecretSize, 1))
	key := NewKey(&secret)
	for n := 1; n <= batch; n++ {
		data := random(n*block+1, byte(n))[1:]
		var fast, slow [batch * sums]byte
		multiply(&fast, &key.words, &data[0], n)
		multiplyInGo(&slow, &key.words, &data[0], n)
		if fast != slow {
			t.Fatalf("%d blocks: %x, want %x", n, fast, slow)
		}
	}
}

// BenchmarkSum compares with the hash that is taken where this one is not fast.
func BenchmarkSum(b *testing.B) {
	secret := [SecretSize]byte(random(SecretSize, 1))
	data := random(1<<20, 2)
	key := NewKey(&secret)
	run := func(name string, sum func()) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				sum()
			}
		})
	}
	run("nh", func() { key.Sum(data) })
	run("highwayhash", func() { highwayhash.Sum128(data, secret[:]) })
	run("in Go", func() {
		var out [batch * sums]byte
		for at := 0; at < len(data); at += batch * block {
			multiplyInGo(&out, &key.words, &data[at], batch)
		}
	})
	run("new key", func() { NewKey(&secret) })
}
