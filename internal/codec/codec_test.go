package codec_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// segment looks like WAL: random records, then zeros.
func segment(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n / 3 {
		b[i] = byte(r.IntN(7)) * byte(i>>9)
	}
	return b
}

func compress(t testing.TB, c codec.Compression, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := c.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestEachFormatAndLevelReadsBack(t *testing.T) {
	data := segment(256 << 10)
	for _, name := range []string{"", "none", "gzip", "pigz", "pygzip", "zstd", "lz4", "bzip2", "pybzip2", "xz", "snappy"} {
		for _, level := range []string{"", "low", "medium", "high", "1", "9"} {
			c, err := codec.New(name, level)
			if err != nil {
				t.Fatal(err)
			}
			packed := compress(t, c, data)
			r, a, err := codec.NewReader(bytes.NewReader(packed))
			if err != nil || a != c.Algorithm {
				t.Fatalf("%s %s: recognised as %q, %v", name, level, a, err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s %s: %d bytes came back, %v", name, level, len(got), err)
			}
			if c.Algorithm != codec.None && len(packed) > len(data)/2 {
				t.Errorf("%s %s: %d bytes, not compressed", name, level, len(packed))
			}
		}
	}
}

// Barman calls these programs, so what they write and read is the yardstick.
func TestProgramsAgree(t *testing.T) {
	data := segment(300_000)
	for _, name := range []string{"gzip", "zstd", "lz4", "bzip2", "xz"} {
		pack := exec.Command(name, "-c")
		pack.Stdin = bytes.NewReader(data)
		packed, err := pack.Output()
		if err != nil {
			t.Fatal(name, err)
		}
		// Two streams after each other, as some programs write them.
		r, a, err := codec.NewReader(bytes.NewReader(append(bytes.Clone(packed), packed...)))
		if err != nil || string(a) != name {
			t.Fatalf("%s: recognised as %q, %v", name, a, err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, append(bytes.Clone(data), data...)) {
			t.Errorf("%s: %d bytes came back, %v", name, len(got), err)
		}
		c, err := codec.New(name, "high")
		if err != nil {
			continue
		}
		unpack := exec.Command(name, "-dc")
		unpack.Stdin = bytes.NewReader(compress(t, c, data))
		if got, err := unpack.Output(); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s does not read what we write: %v", name, err)
		}
	}
}

func TestBadOptions(t *testing.T) {
	for _, c := range [][2]string{{"rot13", ""}, {"custom", ""}, {"bzip2", "0"}, {"xz", "10"}, {"gzip", "10"}, {"zstd", "fast"}, {"lz4", "-1"}, {"gzip", "0"}} {
		if _, err := codec.New(c[0], c[1]); !fault.Is(err, fault.Config) || fault.HintOf(err) == "" {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// TestCustomFormat: with a magic it is recognised by that, and also when the
// server writes something else by now; without one, whatever is neither known
// nor plain WAL or text is taken for it.
func TestCustomFormat(t *testing.T) {
	const filter, unfilter = "printf MYZ1; tr a-z n-za-m", "tail -c +5 | tr n-za-m a-z"
	data := append([]byte("\x18\xd1 like a page of WAL"), segment(300_000)...)
	for _, magic := range []string{"0x4D595A31", ""} {
		c, err := codec.Configured(codec.Options{Compression: "custom", Filter: filter, Unfilter: unfilter, Magic: magic})
		if err != nil {
			t.Fatal(err)
		}
		packed := compress(t, c, data)
		if magic == "" {
			packed[0] = 0xFF // what is printable from its first bytes on would be taken for text
		}
		for what, in := range map[string][]byte{"packed": packed, "plain": data, "text": []byte("1\t0/3000000\tno recovery target specified\n")} {
			want := codec.None
			if what == "packed" {
				want = codec.Custom
			}
			r, a, err := c.NewReader(bytes.NewReader(in))
			if err != nil || a != want {
				t.Fatalf("magic %q: %s is taken for %q, %v", magic, what, a, err)
			}
			got, err := io.ReadAll(r)
			if what == "packed" {
				in = data
			}
			if err != nil || !bytes.Equal(got, in) {
				t.Errorf("magic %q: %s: %d bytes came back, %v", magic, what, len(got), err)
			}
			r.Close()
		}
	}
	later, err := codec.Configured(codec.Options{Compression: "gzip", Unfilter: unfilter, Magic: "0x4D595A31"})
	if err != nil || later.Detect([]byte("MYZ1 and more")) != codec.Custom {
		t.Errorf("what the custom command wrote is forgotten: %v", err)
	}
	broken, err := codec.Configured(codec.Options{Compression: "custom", Filter: "exit 3", Unfilter: "exit 4", Magic: "0x00"})
	if err != nil {
		t.Fatal(err)
	}
	w, err := broken.NewWriter(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(data) // it may have ended before
	if err := w.Close(); !fault.Is(err, fault.Tool) {
		t.Errorf("a command that fails: %v", err)
	}
	r, _, err := broken.NewReader(bytes.NewReader(make([]byte, 100)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !fault.Is(err, fault.Tool) && !fault.Is(err, fault.Corrupt) {
		t.Errorf("a command that fails: %v", err)
	}
	r.Close()
}

func TestTruncatedStreamsFail(t *testing.T) {
	for _, name := range []string{"gzip", "zstd", "lz4", "bzip2", "xz", "snappy"} {
		c, err := codec.New(name, "")
		if err != nil {
			t.Fatal(err)
		}
		packed := compress(t, c, segment(1<<20))
		r, _, err := codec.NewReader(bytes.NewReader(packed[:len(packed)/2]))
		if err != nil {
			continue
		}
		if n, err := io.Copy(io.Discard, r); err == nil {
			t.Errorf("%s: half a stream gave %d bytes without an error", name, n)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, name := range []string{"", "gzip", "zstd", "lz4"} {
		c, err := codec.New(name, "low")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(compress(f, c, segment(2000)))
	}
	f.Add([]byte("BZh91AY&SY"))
	f.Add([]byte("\xfd7zXZ\x00\x00\x04"))
	f.Add([]byte("\xff\x06\x00\x00sNaPpY"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, a, err := codec.NewReader(bytes.NewReader(data))
		if err != nil {
			return
		}
		defer r.Close()
		n, err := io.Copy(io.Discard, io.LimitReader(r, 4<<20))
		if a == codec.None && (err != nil || n != int64(len(data))) {
			t.Errorf("plain content changed: %d of %d bytes, %v", n, len(data), err)
		}
	})
}
