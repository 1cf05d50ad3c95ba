package frame_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/frame"
)

var algorithms = []string{"none", "gzip", "bzip2", "lz4", "zstd", "snappy"}

func open(t testing.TB, algorithm, level string) frame.Codec {
	t.Helper()
	c, err := frame.Open(algorithm, level)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encoder(t testing.TB, c frame.Codec) *frame.Encoder {
	t.Helper()
	e, err := c.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func decoder(t testing.TB, c frame.Codec) *frame.Decoder {
	t.Helper()
	d, err := c.NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// pages looks like a table of PostgreSQL: pages with a header, line pointers from the
// front, and rows of numbers and words from the back.
func pages(n int, seed uint64) []byte {
	const page = 8192
	words := strings.Fields("alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa quebec romeo sierra tango uniform victor whiskey xray yankee zulu")
	r := rand.New(rand.NewPCG(seed, 7))
	out := make([]byte, 0, n+page)
	row, id := make([]byte, 0, 200), uint32(r.IntN(1<<20))
	for len(out) < n {
		p := make([]byte, page)
		lower, upper, count := 24, page, uint16(0)
		for {
			row = binary.LittleEndian.AppendUint32(row[:0], 750+id/1000) // xmin
			row = append(row, 0, 0, 0, 0, 0, 0, 0, 0, byte(len(out)>>21), byte(len(out)>>13), byte(count), byte(count>>8), 4, 0, 2, 9, 24, 0)
			row = binary.LittleEndian.AppendUint32(row, id)
			row = binary.LittleEndian.AppendUint32(row, r.Uint32N(1_000_000))
			row = binary.LittleEndian.AppendUint64(row, 700_000_000_000_000+uint64(id)*1000+r.Uint64N(900_000))
			for range 2 + r.IntN(8) {
				row = append(append(row, words[r.IntN(len(words))]...), ' ')
			}
			size := (len(row) + 7) &^ 7
			if upper-size < lower+4 {
				break
			}
			upper -= size
			copy(p[upper:], row)
			binary.LittleEndian.PutUint32(p[lower:], uint32(upper)|1<<15|uint32(len(row))<<17)
			lower, id, count = lower+4, id+1, count+1
		}
		binary.LittleEndian.PutUint64(p, uint64(id)*300)
		binary.LittleEndian.PutUint16(p[8:], uint16(r.Uint32()))
		copy(p[12:], []byte{byte(lower), byte(lower >> 8), byte(upper), byte(upper >> 8), 0, 32, 4, 32})
		out = append(out, p...)
	}
	return out[:n]
}

func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// mixed is content of every kind.
func mixed(n int, seed uint64) []byte {
	var out []byte
	for i := seed; len(out) < n; i++ {
		switch size := n/9 + 1; i % 4 {
		case 0:
			out = append(out, pages(size, i)...)
		case 1:
			out = append(out, noise(size, i)...)
		case 2:
			out = append(out, make([]byte, size)...)
		case 3:
			out = append(out, bytes.Repeat([]byte("the same again, "), size/16+1)...)
		}
	}
	return out[:n]
}

// cut cuts data at random places, here and there into nothing.
func cut(data []byte, r *rand.Rand, most int) (segments [][]byte) {
	for len(data) > 0 {
		n := min(len(data), r.IntN(most+1))
		segments, data = append(segments, data[:n]), data[n:]
	}
	return segments
}

// stitch makes a stream of segments, which are compressed in any order by two encoders.
func stitch(t testing.TB, c frame.Codec, segments [][]byte, r *rand.Rand) (stream []byte, runs [][]byte) {
	t.Helper()
	runs = make([][]byte, len(segments))
	sums := make([]frame.Sum, len(segments))
	encoders := []*frame.Encoder{encoder(t, c), encoder(t, c)}
	var run []byte
	for _, i := range r.Perm(len(segments)) {
		var err error
		if run, sums[i], err = encoders[r.IntN(2)].Append(run[:0], segments[i]); err != nil {
			t.Fatal(err)
		}
		runs[i] = bytes.Clone(run)
	}
	var all frame.Sum
	stream = c.Head()
	for i, run := range runs {
		stream, all = append(stream, run...), all.Join(sums[i])
	}
	return append(stream, c.Tail(all)...), runs
}

// write makes a stream in whatever way the codec has.
func write(t testing.TB, c frame.Codec, segments [][]byte) []byte {
	t.Helper()
	if c.Independent() {
		stream, _ := stitch(t, c, segments, rand.New(rand.NewPCG(1, 1)))
		return stream
	}
	var out bytes.Buffer
	w, err := c.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range segments {
		if _, err := w.Write(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestAnyCutting: however content is cut, the stream expands to it, each run does alone,
// and a run is the same whoever made it and after what.
func TestAnyCutting(t *testing.T) {
	for _, algorithm := range algorithms {
		for _, level := range []string{"", "3", "12"} {
			c, err := frame.Open(algorithm, level)
			if err != nil || !c.Independent() {
				continue
			}
			t.Run(c.String(), func(t *testing.T) {
				d := decoder(t, c)
				for seed, size := range []int{0, 1, 300, 100_000, 600_000} {
					r := rand.New(rand.NewPCG(uint64(seed), 1))
					data := mixed(size, uint64(seed))
					segments := cut(data, r, max(size/3, 1))
					stream, runs := stitch(t, c, segments, r)
					if c.Algorithm() != codec.None {
						checkWhole(t, c, stream, data)
					} else if !bytes.Equal(stream, data) {
						t.Error("content was changed")
					}
					again, _ := stitch(t, c, segments, r)
					if !bytes.Equal(again, stream) {
						t.Errorf("%d bytes: compressed again in another order it is another stream", size)
					}
					for i, run := range runs {
						got, err := d.Append([]byte("before"), run, len(segments[i]))
						if err != nil || !bytes.Equal(got, append([]byte("before"), segments[i]...)) {
							t.Fatalf("run %d of %d bytes: %d bytes, %v", i, len(segments[i]), len(got), err)
						}
					}
				}
			})
		}
	}
}

func checkWhole(t testing.TB, c frame.Codec, stream, data []byte) {
	t.Helper()
	r, a, err := codec.NewReader(bytes.NewReader(stream))
	if err != nil || a != c.Algorithm() {
		t.Fatalf("%s: recognised as %q, %v", c, a, err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%s: %d of %d bytes, %v", c, len(got), len(data), err)
	}
}

// TestLevelsMix: a stream takes the runs of every level.
func TestLevelsMix(t *testing.T) {
	data := mixed(2_000_000, 3)
	for algorithm, levels := range map[string][]string{"zstd": {"1", "3", "6", "9", "13", "19"}, "gzip": {"1", "6", "9"}, "lz4": {"0", "5", "9"}} {
		if !open(t, algorithm, "").Independent() {
			continue
		}
		var all frame.Sum
		stream := open(t, algorithm, levels[0]).Head()
		for i, level := range levels {
			segment := data[len(data)/len(levels)*i:]
			if i < len(levels)-1 {
				segment = segment[:len(data)/len(levels)]
			}
			var sum frame.Sum
			var err error
			if stream, sum, err = encoder(t, open(t, algorithm, level)).Append(stream, segment); err != nil {
				t.Fatal(err)
			}
			all = all.Join(sum)
		}
		c := open(t, algorithm, levels[0])
		stream = append(stream, c.Tail(all)...)
		checkWhole(t, c, stream, data)
		unpack := exec.Command(algorithm, "-dc")
		unpack.Stdin = bytes.NewReader(stream)
		if got, err := unpack.Output(); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", algorithm, len(got), err)
		}
	}
}

// TestLargestSegments, of the kinds that compress worst and best.
func TestLargestSegments(t *testing.T) {
	for _, algorithm := range algorithms {
		c := open(t, algorithm, "")
		if !c.Independent() {
			continue
		}
		segments := [][]byte{noise(frame.MaxSegment, 1), make([]byte, frame.MaxSegment), pages(frame.MaxSegment, 1)}
		stream, runs := stitch(t, c, segments, rand.New(rand.NewPCG(1, 1)))
		if c.Algorithm() != codec.None {
			checkWhole(t, c, stream, slices.Concat(segments...))
		}
		for i, run := range runs {
			if len(run) > frame.MaxRun || i == 1 && c.Algorithm() != codec.None && len(run) > frame.MaxSegment/19 {
				t.Errorf("%s: run %d has %d bytes", c, i, len(run))
			}
			if got, err := decoder(t, c).Append(nil, run, frame.MaxSegment); err != nil || !bytes.Equal(got, segments[i]) {
				t.Errorf("%s: run %d: %v", c, i, err)
			}
		}
		if _, _, err := encoder(t, c).Append(nil, make([]byte, frame.MaxSegment+1)); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: a segment that is too large: %v", c, err)
		}
	}
}

// TestProgramsReadOneFrame: what Barman calls reads all of it; and it is one frame.
func TestProgramsReadOneFrame(t *testing.T) {
	data := mixed(1_000_000, 1)
	segments := cut(data, rand.New(rand.NewPCG(3, 3)), 300_000)
	for _, algorithm := range []string{"gzip", "bzip2", "lz4", "zstd"} {
		c := open(t, algorithm, "")
		stream := write(t, c, segments)
		unpack := exec.Command(algorithm, "-dc")
		unpack.Stdin = bytes.NewReader(stream)
		if got, err := unpack.Output(); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", algorithm, len(got), err)
		}
		file := filepath.Join(t.TempDir(), "stream"+c.Suffix())
		if err := os.WriteFile(file, stream, 0o600); err != nil {
			t.Fatal(err)
		}
		if algorithm == "zstd" {
			out, err := exec.Command("zstd", "-lv", file).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "Frames: 1\n") {
				t.Errorf("%v\n%s", err, out)
			}
		}
		if out, err := exec.Command(algorithm, "-t", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", algorithm, err, out)
		}
	}
}

const golden = "testdata/runs.zst"

// TestGolden: what libzstd made is read by whichever decoder was built. HOLDFAST_RECORD=1
// with cgo makes it anew.
func TestGolden(t *testing.T) {
	data := mixed(40_000, 2)
	segments := [][]byte{data[:10_000], data[10_000:10_010], data[10_010:]}
	c := open(t, "zstd", "")
	if os.Getenv("HOLDFAST_RECORD") != "" {
		stream, runs := stitch(t, c, segments, rand.New(rand.NewPCG(1, 1)))
		var lengths []string
		for _, run := range runs {
			lengths = append(lengths, fmt.Sprint(len(run)))
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, stream, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden+".lengths", []byte(strings.Join(lengths, " ")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	var lengths [3]int
	text, err := os.ReadFile(golden + ".lengths")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(text), &lengths[0], &lengths[1], &lengths[2]); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, c, stream, data)
	rest, d := bytes.TrimPrefix(stream, c.Head()), decoder(t, c)
	for i, n := range lengths {
		if got, err := d.Append(nil, rest[:n], len(segments[i])); err != nil || !bytes.Equal(got, segments[i]) {
			t.Errorf("run %d: %d bytes, %v", i, len(got), err)
		}
		rest = rest[n:]
	}
	if !bytes.Equal(rest, c.Tail(frame.Sum{})) {
		t.Errorf("it ends with % x", rest)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range [][2]string{{"", ""}, {"xz", ""}, {"custom", ""}, {"ZSTD", ""}, {"zstd", "0"}, {"zstd", "23"}, {"zstd", "fast"}, {"lz4", "10"}, {"gzip", "0"}, {"snappy", "1"}, {"none", "1"}} {
		if _, err := frame.Open(o[0], o[1]); !fault.Is(err, fault.Config) || fault.HintOf(err) == "" || !strings.Contains(err.Error(), "holdfast_cloud_compression") {
			t.Errorf("%v: %v", o, err)
		}
	}
	for _, algorithm := range algorithms {
		c := open(t, algorithm, "")
		if again, err := frame.Parse(c.String()); err != nil || again != c {
			t.Errorf("%s: %v, %v", c, again, err)
		}
	}
	for _, text := range []string{"", "zstd", "zstd:99", "zstd:", "zstd:01", "zstd:+1", "none:0", "zstd:1:1", "rot13"} {
		if c, err := frame.Parse(text); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%q is read as %s, %v", text, c, err)
		}
	}
	for _, c := range []frame.Codec{open(t, "bzip2", ""), {}} {
		if _, err := c.NewEncoder(); (err == nil) != c.Independent() {
			t.Errorf("%s: encoder: %v", c, err)
		}
		if _, err := c.NewWriter(io.Discard); (err == nil) == c.Independent() {
			t.Errorf("%s: writer: %v", c, err)
		}
	}
}

// TestDamagedRuns: another size, a missing end, something after the end.
func TestDamagedRuns(t *testing.T) {
	segment := pages(50_000, 3)
	for _, algorithm := range algorithms {
		c := open(t, algorithm, "")
		if !c.Independent() {
			continue
		}
		run, _, err := encoder(t, c).Append(nil, segment)
		if err != nil {
			t.Fatal(err)
		}
		d := decoder(t, c)
		for what, damaged := range map[string]struct {
			run  []byte
			size int
		}{
			"shorter content": {run, len(segment) + 1}, "longer content": {run, len(segment) - 1}, "no content": {run, 0}, "negative": {run, -1},
			"far too long": {run, frame.MaxSegment + 1}, "cut": {run[:len(run)-1], len(segment)}, "nothing": {nil, len(segment)},
			"twice": {append(slices.Clone(run), run...), len(segment)}, "endless": {make([]byte, frame.MaxRun+1), len(segment)},
		} {
			if got, err := d.Append(nil, damaged.run, damaged.size); !fault.Is(err, fault.Corrupt) || len(got) > 0 {
				t.Errorf("%s, %s: %d bytes, %v", c, what, len(got), err)
			}
		}
		if got, err := d.Append(nil, run, len(segment)); err != nil || !bytes.Equal(got, segment) {
			t.Errorf("%s: after damaged ones: %v", c, err)
		}
		d.Close()
		d.Close()
	}
}

func FuzzDecoder(f *testing.F) {
	segment := pages(3000, 4)
	for i, algorithm := range algorithms {
		c := open(f, algorithm, "")
		if !c.Independent() {
			continue
		}
		run, _, err := encoder(f, c).Append(nil, segment)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(i, run, len(segment))
		f.Add(i, run[:len(run)/2], 10)
	}
	decoders := make([]*frame.Decoder, len(algorithms))
	for i, algorithm := range algorithms {
		if algorithm != "bzip2" {
			decoders[i] = decoder(f, open(f, algorithm, ""))
		}
	}
	f.Fuzz(func(t *testing.T, which int, run []byte, size int) {
		d := decoders[uint(which)%uint(len(decoders))]
		if d == nil {
			return
		}
		got, err := d.Append([]byte("x"), run, size)
		if err != nil && (!fault.Is(err, fault.Corrupt) || string(got) != "x") || err == nil && len(got) != size+1 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// TestSums: the end of a gzip stream is joined from segments whose sums are zero, too.
func TestSums(t *testing.T) {
	c := open(t, "gzip", "")
	zero, err := hex.DecodeString("9d0ad96d") // its CRC-32 is 0xFFFFFFFF's complement: none of it
	if err != nil {
		t.Fatal(err)
	}
	for _, segments := range [][][]byte{{zero}, {zero, zero}, {nil, zero, nil}, {[]byte("a"), zero, []byte("b")}, {}} {
		stream, _ := stitch(t, c, segments, rand.New(rand.NewPCG(1, 1)))
		checkWhole(t, c, stream, slices.Concat(segments...))
	}
}

// TestSteadyState: neither compressing nor expanding allocates what is as large as a segment;
// there are Huffman tables, and the race detector has the pools of libraries lose theirs.
func TestSteadyState(t *testing.T) {
	const runs = 10
	segment := pages(200_000, 5)
	for _, algorithm := range algorithms {
		c := open(t, algorithm, "")
		if !c.Independent() {
			continue
		}
		e, d := encoder(t, c), decoder(t, c)
		run, back := make([]byte, 0, frame.MaxRun), make([]byte, 0, frame.MaxSegment)
		var before, after runtime.MemStats
		for i := range runs + 1 {
			if i == 1 {
				runtime.ReadMemStats(&before)
			}
			var err error
			if run, _, err = e.Append(run[:0], segment); err != nil {
				t.Fatal(err)
			}
			if back, err = d.Append(back[:0], run, len(segment)); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) / runs; n > uint64(len(segment)) {
			t.Errorf("%s: %d bytes each time", c, n)
		}
		if !bytes.Equal(back, segment) {
			t.Errorf("%s: other content", c)
		}
	}
}

// BenchmarkEncoder compresses pages of a table; zstd in Go is what a build without cgo has.
func BenchmarkEncoder(b *testing.B) {
	segment := pages(frame.MaxSegment, 6)
	for _, name := range []string{"none", "gzip:1", "gzip:6", "lz4:0", "zstd:1", "zstd:3", "zstd:9", "snappy"} {
		c, err := frame.Parse(name)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			if !c.Independent() {
				b.Skip("this build writes it as a stream")
			}
			e, run := encoder(b, c), []byte(nil)
			b.SetBytes(int64(len(segment)))
			b.ReportAllocs()
			for b.Loop() {
				if run, _, err = e.Append(run[:0], segment); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(segment))/float64(len(run)), "ratio")
		})
	}
	for _, level := range []string{"1", "3"} {
		b.Run("zstd in Go:"+level, func(b *testing.B) {
			z, err := codec.New("zstd", level)
			if err != nil {
				b.Fatal(err)
			}
			var out counter
			w, err := z.NewWriter(&out)
			if err != nil {
				b.Fatal(err)
			}
			var segments [8][]byte // more than a window, so that none is found again
			for i := range segments {
				segments[i] = pages(frame.MaxSegment, uint64(i))
			}
			b.SetBytes(int64(len(segment)))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if _, err := w.Write(segments[n%len(segments)]); err != nil {
					b.Fatal(err)
				}
				n++
			}
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(n*len(segment))/float64(out), "ratio")
		})
	}
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

func BenchmarkDecoder(b *testing.B) {
	segment := pages(frame.MaxSegment, 6)
	for _, name := range []string{"none", "gzip:6", "lz4:0", "zstd:1", "snappy"} {
		c, err := frame.Parse(name)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			if !c.Independent() {
				b.Skip("this build writes it as a stream")
			}
			run, _, err := encoder(b, c).Append(nil, segment)
			if err != nil {
				b.Fatal(err)
			}
			d, back := decoder(b, c), []byte(nil)
			b.SetBytes(int64(len(segment)))
			b.ReportAllocs()
			for b.Loop() {
				if back, err = d.Append(back[:0], run, len(segment)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
