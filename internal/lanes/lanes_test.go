package lanes

import (
	"bytes"
	"crypto/sha256"
	"math/rand/v2"
	"testing"
)

// byDefinition is Sum, as its comment has it.
func byDefinition(data []byte) [sha256.Size]byte {
	var messages [16][]byte
	for ; len(data) >= 1024; data = data[1024:] {
		for i := range messages {
			messages[i] = append(messages[i], data[64*i:64*i+64]...)
		}
	}
	var all []byte
	for _, m := range messages {
		sum := sha256.Sum256(m)
		all = append(all, sum[:]...)
	}
	return sha256.Sum256(append(all, data...))
}

func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(data)
	return data
}

func TestSum(t *testing.T) {
	data := random(4101)
	for n := range len(data) {
		for _, part := range [][]byte{data[:n], data[1 : n+1]} { // at an odd address, too
			if got, want := Sum(part), byDefinition(part); got != want {
				t.Fatalf("%d bytes: %x, want %x", n, got, want)
			}
		}
	}
	large := random(4 << 20)
	before := Sum(large)
	for _, at := range []int{0, 63, 64, 1023, 1024, 2 << 20, len(large) - 1} {
		changed := bytes.Clone(large)
		changed[at] ^= 1
		if Sum(changed) == before {
			t.Errorf("the bit at %d does not count", at)
		}
	}
}

// TestWays: each that this processor knows has the same result.
func TestWays(t *testing.T) {
	for name, way := range ways() {
		for _, rows := range []int{0, 1, 2, stretch - 1, stretch, stretch + 1, 4096} {
			data := random(rows*row + 1)[1:]
			want := oneByOne(data)
			if way(data) != want {
				t.Errorf("%s: %d rows", name, rows)
			}
			for i := range want {
				var message []byte
				for at := i * 64; at < len(data); at += 1024 {
					message = append(message, data[at:at+64]...)
				}
				if want[i] != sha256.Sum256(message) {
					t.Fatalf("%d rows: message %d", rows, i)
				}
			}
		}
	}
}

func TestEach(t *testing.T) {
	var messages []Message
	var data [][]byte
	for size, n := range map[int]int{0: 3, 1: 20, 63: 2, 64: 1, 128: 2, 192: 5, 8192: 40, 8193: 17, 16384: 15, 65536: 16, 24576: 6, 1 << 20: 7} {
		for range n {
			// At odd addresses, too, and no two alike.
			message := random(size + 3)[1 : size+1]
			if size > 0 {
				message[size-1], message[size/2] = byte(len(data)), byte(len(data)>>8)
			}
			data = append(data, message)
			messages = append(messages, Message{message, new([sha256.Size]byte)})
		}
	}
	rand.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
	Each(messages)
	for _, m := range messages {
		if *m.Sum != sha256.Sum256(m.Data) {
			t.Errorf("%d bytes: %x", len(m.Data), *m.Sum)
		}
	}
	Each(nil)
}

func FuzzSum(f *testing.F) {
	f.Add([]byte("abc"))
	f.Add(random(3000))
	f.Fuzz(func(t *testing.T, data []byte) {
		if Sum(data) != byDefinition(data) {
			t.Errorf("%x", data)
		}
	})
}

func BenchmarkSum(b *testing.B) {
	data := random(4 << 20)
	all := ways()
	all["standard library"] = func(data []byte) (s sums) {
		s[0] = sha256.Sum256(data)
		return s
	}
	for name, way := range all {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				way(data)
			}
		})
	}
}

func BenchmarkEach(b *testing.B) {
	data := random(4 << 20)
	var messages []Message
	for len(data) > 0 {
		messages = append(messages, Message{data[:8<<10], new([sha256.Size]byte)})
		data = data[8<<10:]
	}
	b.SetBytes(4 << 20)
	for b.Loop() {
		Each(messages)
	}
}
