package zstd

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	peer "github.com/klauspost/compress/zstd"
)

// mixed is size bytes, half of them random.
func mixed(size int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, size)
	for i := range data {
		if i>>16&1 == 0 {
			data[i] = byte(r.Uint32())
		} else {
			data[i] = "what is alike "[i%14]
		}
	}
	return data
}

func pack(t *testing.T, data []byte, level int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	half := len(data) / 2
	if _, err := w.Write(data[:half]); err != nil {
		t.Fatal(err)
	}
	if n, err := w.ReadFrom(iotest.HalfReader(bytes.NewReader(data[half:]))); err != nil || n != int64(len(data)-half) {
		t.Fatal(n, err)
	}
	for range 2 { // it may be called again
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

func unpack(r io.Reader) ([]byte, error) {
	z, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return io.ReadAll(z)
}

func TestStream(t *testing.T) {
	for _, size := range []int{0, 1, piece, 3*piece + 17, 5 << 20} {
		data := mixed(size)
		for _, level := range []int{1, 3, 22} {
			stream := pack(t, data, level)
			for name, r := range map[string]io.Reader{
				"whole": bytes.NewReader(stream), "half": iotest.HalfReader(bytes.NewReader(stream)), "with its end": iotest.DataErrReader(bytes.NewReader(stream)),
				"two frames": io.MultiReader(bytes.NewReader(stream), bytes.NewReader(stream)),
			} {
				want := data
				if name == "two frames" {
					want = append(data[:size:size], data...)
				}
				if got, err := unpack(r); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%d bytes, level %d, %s: %d bytes, %v", size, level, name, len(got), err)
				}
			}
			var head peer.Header
			if err := head.Decode(stream); err != nil || !head.HasCheckSum && size > 0 || head.WindowSize > Window && !head.SingleSegment {
				t.Errorf("%d bytes, level %d: %+v, %v", size, level, head, err)
			}
		}
	}
}

// TestPeer reads what the implementation in Go writes, and writes what it reads: the
// builds with cgo and those without it.
func TestPeer(t *testing.T) {
	data := mixed(10 << 20)
	d, err := peer.NewReader(bytes.NewReader(pack(t, data, 3)))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got, err := io.ReadAll(d); err != nil || !bytes.Equal(got, data) {
		t.Error(len(got), err)
	}
	var theirs bytes.Buffer
	e, err := peer.NewWriter(&theirs, peer.WithWindowSize(8<<20))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(e, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := unpack(&theirs); err != nil || !bytes.Equal(got, data) {
		t.Error(len(got), err)
	}
}

func TestDamage(t *testing.T) {
	data := mixed(1 << 20)
	good := pack(t, data, 3)
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 4
	sum := bytes.Clone(good)
	sum[len(sum)-1] ^= 1
	wide := append([]byte("\x28\xb5\x2f\xfd\x00"), 18<<3) // a window of 256 MiB
	for name, stream := range map[string][]byte{
		"a flipped bit": flipped, "another checksum": sum, "no zstd": []byte("no zstd at all"), "something behind it": append(bytes.Clone(good), "more"...),
		"too wide a window": append(wide, good[6:]...),
	} {
		if _, err := unpack(bytes.NewReader(stream)); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, n := range []int{1, 3, 4, 5, 7, 20, len(good) / 2, len(good) - 4, len(good) - 1} {
		if got, err := unpack(bytes.NewReader(good[:n])); !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(data, got) {
			t.Errorf("the first %d bytes: %d bytes, %v", n, len(got), err)
		}
	}
	broken := errors.New("broken")
	if got, err := unpack(io.MultiReader(bytes.NewReader(good[:len(good)/2]), iotest.ErrReader(broken))); !errors.Is(err, broken) || len(got) == 0 {
		t.Error(len(got), err)
	}
}

type failing struct{ after int }

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	if f.after -= len(p); f.after < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestFailingDestination(t *testing.T) {
	for _, after := range []int{0, 300 << 10} {
		w, err := NewWriter(&failing{after}, 1)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.ReadFrom(bytes.NewReader(mixed(4 << 20)))
		if cerr := w.Close(); !errors.Is(err, errFull) || !errors.Is(cerr, errFull) {
			t.Errorf("after %d bytes: %v, %v", after, err, cerr)
		}
		w, err = NewWriter(&failing{-1}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, strings.NewReader("short")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); !errors.Is(err, errFull) {
			t.Error(err)
		}
	}
	w, err := NewWriter(io.Discard, 1)
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	if _, err := w.ReadFrom(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Error(err)
	}
	w.Close()
}

// TestBuffersBesidePointers, as those of archive/tar are.
func TestBuffersBesidePointers(t *testing.T) {
	type block struct {
		owner *testing.T
		data  [512]byte
	}
	var stream bytes.Buffer
	w, err := NewWriter(&stream, 1)
	if err != nil {
		t.Fatal(err)
	}
	in := &block{owner: t, data: [512]byte{1, 2, 3}}
	if _, err := w.Write(in.data[:]); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	z, err := NewReader(&stream)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out := &block{owner: t}
	if _, err := io.ReadFull(z, out.data[:]); err != nil || out.data != in.data {
		t.Error(err)
	}
}

func BenchmarkStream(b *testing.B) {
	data := mixed(16 << 20)
	var stream bytes.Buffer
	b.Run("write", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			stream.Reset()
			w, err := NewWriter(&stream, 3)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := w.ReadFrom(bytes.NewReader(data)); err != nil {
				b.Fatal(err)
			}
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, err := unpack(bytes.NewReader(stream.Bytes())); err != nil {
				b.Fatal(err)
			}
		}
	})
}
