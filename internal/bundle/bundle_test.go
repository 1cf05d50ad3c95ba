package bundle_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/highwayhash"

	"github.com/holdfast-pg/holdfast/internal/bundle"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/frame"
	"github.com/holdfast-pg/holdfast/internal/lanes"
	"github.com/holdfast-pg/holdfast/internal/nh"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/file"
)

var algorithms = []string{"none", "gzip", "bzip2", "lz4", "zstd", "snappy"}

// onlyZstd leaves the other codecs to the run that takes its time.
func onlyZstd(algorithm string) bool { return testing.Short() && algorithm != "zstd" }

func codecOf(t testing.TB, algorithm string) frame.Codec {
	t.Helper()
	c, err := frame.Open(algorithm, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// spy counts what is asked of a store, and can lack or fail something.
type spy struct {
	objstore.RangeCopier
	objstore.Store
	whole                      objstore.Copier
	puts, copied, gets, wholes atomic.Int64
	sent, fetched              atomic.Int64
	failPart                   int
	failFrom                   string       // copies of objects whose keys have it fail
	late                       atomic.Int64 // so many uploads are still there when they were given up, as something came late
}

var errPart = errors.New("this part fails")

func (s *spy) Get(ctx context.Context, key string, r objstore.Range) (io.ReadCloser, objstore.Object, error) {
	s.gets.Add(1)
	if r.Length > 0 {
		s.fetched.Add(r.Length)
	}
	return s.Store.Get(ctx, key, r)
}

func (s *spy) PutPart(ctx context.Context, u objstore.Upload, number int, data []byte) (objstore.Part, error) {
	if s.puts.Add(1); number == s.failPart {
		return objstore.Part{}, errPart
	}
	s.sent.Add(int64(len(data)))
	return s.RangeCopier.PutPart(ctx, u, number, data)
}

func (s *spy) CopyPart(ctx context.Context, u objstore.Upload, number int, from string, r objstore.Range) (objstore.Part, error) {
	if s.failFrom != "" && strings.Contains(from, s.failFrom) {
		return objstore.Part{}, errPart
	}
	s.copied.Add(r.Length)
	return s.RangeCopier.CopyPart(ctx, u, number, from, r)
}

func (s *spy) Copy(ctx context.Context, from, to string) (objstore.Object, error) {
	s.wholes.Add(1)
	return s.whole.Copy(ctx, from, to)
}

func (s *spy) Abort(ctx context.Context, u objstore.Upload) error {
	if s.late.Add(-1) >= 0 {
		return nil
	}
	return s.RangeCopier.Abort(ctx, u)
}

// Complete refuses what stores with a least size of parts refuse.
func (s *spy) Complete(ctx context.Context, u objstore.Upload, parts []objstore.Part, o objstore.PutOptions) (objstore.Object, error) {
	slices.SortFunc(parts, func(a, b objstore.Part) int { return a.Number - b.Number })
	for i, p := range parts {
		if p.Number != i+1 || p.Size < objstore.MinPart && i < len(parts)-1 {
			return objstore.Object{}, fmt.Errorf("part %d of %d has the number %d and %d bytes", i+1, len(parts), p.Number, p.Size)
		}
	}
	return s.RangeCopier.Complete(ctx, u, parts, o)
}

func watch(s *file.Store) *spy { return &spy{RangeCopier: s, Store: s, whole: s} }

// joining is a store that joins what is too short for a part.
type joining struct{ *spy }

func (joining) Joins() bool { return true }

func directory(t testing.TB) *file.Store {
	t.Helper()
	s, err := file.Open(objstore.Location{Provider: objstore.File, Bucket: t.TempDir()}, &objstore.Policy{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The abilities of stores that have not all of them.
type (
	onlyStore struct{ objstore.Store }
	onlyParts struct {
		objstore.Store
		objstore.Multipart
	}
	partsAndCopies struct {
		objstore.Store
		objstore.Multipart
		objstore.Copier
	}
)

// source gives segments; those of nil are known to be the old object's of the same number.
type source struct {
	segments [][]byte
	next     int
	err      error // instead of the end
}

func (s *source) Next(context.Context) (bundle.Piece, error) {
	if s.next == len(s.segments) {
		if s.err != nil {
			return bundle.Piece{}, s.err
		}
		return bundle.Piece{}, io.EOF
	}
	seg := s.segments[s.next]
	s.next++
	if seg == nil {
		return bundle.Piece{Known: true, Segment: s.next - 1}, nil
	}
	return bundle.Piece{Data: seg}, nil
}

// noise does not compress, so that sizes are known.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func segmentsOf(sizes []int, seed uint64) [][]byte {
	var all [][]byte
	for i, n := range sizes {
		all = append(all, noise(n, seed+uint64(i)))
	}
	return all
}

func write(t testing.TB, store objstore.Store, key string, segments [][]byte, o bundle.Options) *bundle.Record {
	t.Helper()
	r, err := bundle.Write(t.Context(), store, key, &source{segments: segments}, o)
	if err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	if err := bundle.WriteSegments(&lines, r.Segments); err != nil {
		t.Fatal(err)
	}
	if r.Segments, err = bundle.ReadSegments(&lines); err != nil {
		t.Fatal(err)
	}
	return r
}

func get(t testing.TB, store objstore.Store, key string) []byte {
	t.Helper()
	in, _, err := store.Get(t.Context(), key, objstore.Whole())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	data, err := io.ReadAll(in)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// expecting takes nothing but what is wanted.
type expecting struct{ want []byte }

func (e *expecting) Write(b []byte) (int, error) {
	if !bytes.HasPrefix(e.want, b) {
		return 0, errors.New("other content")
	}
	e.want = e.want[len(b):]
	return len(b), nil
}

// check proves that an object is one stream of its content, and that its record says what
// it is.
func check(t testing.TB, store objstore.Store, r *bundle.Record, c frame.Codec, segments [][]byte) {
	t.Helper()
	content := slices.Concat(segments...)
	object, _, err := store.Get(t.Context(), r.Key, objstore.Whole())
	if err != nil {
		t.Fatal(err)
	}
	defer object.Close()
	sum, size := crc32.New(objstore.Castagnoli), &counter{}
	in, algorithm, err := codec.NewReader(io.TeeReader(object, io.MultiWriter(sum, size)))
	if err != nil || algorithm != c.Algorithm() && r.Size > 0 {
		t.Fatalf("%s: recognised as %q, %v", c, algorithm, err)
	}
	defer in.Close()
	out := &expecting{content}
	if _, err := io.Copy(out, in); err != nil || len(out.want) > 0 {
		t.Errorf("%s: the object expands to something else, %d bytes are missing, %v", c, len(out.want), err)
	}
	if size.n != r.Size || sum.Sum32() != r.CRC32C {
		t.Errorf("%s: %d bytes, the record says %d, or another checksum", c, size.n, r.Size)
	}
	if r.Content() != int64(len(content)) || len(r.Segments) != len(segments) {
		t.Errorf("%s: the record has %d bytes in %d segments, not %d in %d", c, r.Content(), len(r.Segments), len(content), len(segments))
	}
	for i, s := range r.Segments {
		if s.SHA256 != lanes.Sum(segments[i]) || s.Sum.Size != int64(len(segments[i])) {
			t.Errorf("%s: segment %d has another content in the record", c, i)
		}
		if !r.Stream && s.Tag != tagOf(r, segments[i]) {
			t.Errorf("%s: segment %d has another content's tag", c, i)
		}
	}
	read := &expecting{content}
	if err := bundle.Read(t.Context(), store, r, 2, func(b []byte) error { _, err := read.Write(b); return err }); err != nil || len(read.want) > 0 {
		t.Errorf("%s: %d bytes are missing, %v", c, len(read.want), err)
	}
}

// tagOf is a segment's tag, as a record has it.
func tagOf(r *bundle.Record, segment []byte) bundle.Tag {
	if r.Tags == bundle.NH {
		return nh.NewKey((*[nh.SecretSize]byte)(r.TagKey)).Sum(segment)
	}
	return highwayhash.Sum128(segment, r.TagKey[:])
}

// verified reads an object for its verification alone.
func verified(t testing.TB, store objstore.Store, r *bundle.Record, workers int) error {
	t.Helper()
	return bundle.Read(t.Context(), store, r, workers, func([]byte) error { return nil })
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// TestObjects of every codec and of every length, in stores of all abilities.
func TestObjects(t *testing.T) {
	disk := directory(t)
	stores := map[string]objstore.Store{"all": disk, "put": onlyStore{disk}, "parts": onlyParts{disk, disk}}
	for _, algorithm := range algorithms {
		if onlyZstd(algorithm) {
			continue
		}
		for name, store := range stores {
			t.Run(algorithm+" "+name, func(t *testing.T) {
				t.Parallel()
				c := codecOf(t, algorithm)
				long := []int{frame.MaxSegment, 3, 2 << 20, 100}
				if !c.Independent() {
					long = []int{200_000, 3, 100_000} // each range is read from the start
				}
				for i, sizes := range [][]int{nil, {1}, {300, 4096, 1, 70_000}, long} {
					segments := segmentsOf(sizes, uint64(i))
					if i == 2 {
						segments = append(segments, make([]byte, 1<<18))
					}
					r := write(t, store, fmt.Sprintf("%s/%s/%d", algorithm, name, i), segments, bundle.Options{Codec: c, Workers: 3, Senders: 2})
					check(t, store, r, c, segments)
				}
			})
		}
	}
	for u, err := range disk.Uploads(t.Context(), "") {
		t.Errorf("an upload is left: %+v, %v", u, err)
	}
}

const mib = 1 << 20

// TestReuse: what of a changed object is sent, copied and fetched. Each segment has a
// mebibyte that does not compress, and four bytes more in lz4.
func TestReuse(t *testing.T) {
	twenty := slices.Repeat([]int{mib}, 20)
	old := segmentsOf(twenty, 100)
	change := func(numbers ...int) [][]byte {
		changed := slices.Clone(old)
		for _, n := range numbers {
			changed[n] = noise(mib, 1000+uint64(n))
		}
		return changed
	}
	insert := func(at int, s ...[]byte) [][]byte { return slices.Insert(slices.Clone(old), at, s...) }
	for _, c := range []struct {
		name                  string
		segments              [][]byte
		sent, copied, fetched int // MiB, rounded
		whole                 int64
		joined                *[3]int // the same of a store that joins; nil when that is not tried
	}{
		{"nothing", old, 0, 0, 0, 1, nil},
		{"the first", change(0), 5, 15, 4, 0, &[3]int{1, 34, 0}},
		{"the last", change(19), 1, 19, 0, 0, nil},
		{"one in the middle", change(10), 5, 15, 4, 0, &[3]int{1, 25, 0}},
		{"every fifth", change(0, 5, 10, 15), 20, 0, 16, 0, &[3]int{4, 50, 0}},
		{"two apart", change(3, 12), 10, 10, 8, 0, &[3]int{3, 40, 1}},
		{"several close together", change(5, 8, 10, 11, 14), 10, 10, 5, 0, &[3]int{8, 35, 3}},
		{"all", segmentsOf(twenty, 200), 20, 0, 0, 0, nil},
		{"one more at the front", insert(0, noise(1000, 1)), 5, 15, 5, 0, nil},
		{"one more in the middle", insert(10, noise(1000, 1)), 5, 15, 5, 0, &[3]int{0, 25, 0}},
		{"one more at the end", insert(20, noise(1000, 1)), 0, 20, 0, 0, nil},
		{"ten more in the middle", insert(10, segmentsOf(slices.Repeat([]int{mib}, 10), 300)...), 10, 20, 0, 0, nil},
		{"the first half", old[:10], 0, 10, 0, 0, nil},
		{"the second half", old[10:], 5, 5, 5, 0, &[3]int{0, 25, 0}},
		{"two halves the other way", slices.Concat(old[10:], old[:10]), 5, 15, 5, 0, nil},
		{"twice", slices.Concat(old, old), 0, 40, 0, 0, nil},
		{"little of it", old[4:6], 0, 0, 2, 0, &[3]int{0, 0, 2}},
		{"turned round", func() [][]byte { s := slices.Clone(old); slices.Reverse(s); return s }(), 20, 0, 20, 0, &[3]int{5, 118, 5}},
		{"none", nil, 0, 0, 0, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			codec := codecOf(t, "lz4")
			disk := directory(t)
			before := write(t, disk, "old", old, bundle.Options{Codec: codec})
			store := watch(disk)
			r := write(t, store, "new", c.segments, bundle.Options{Codec: codec, Workers: 2, Senders: 2, Old: before})
			rounded := func(n *atomic.Int64) int { return int(n.Load()+mib/2) / mib }
			if sent, copied, fetched := rounded(&store.sent), rounded(&store.copied), rounded(&store.fetched); sent != c.sent || copied != c.copied || fetched != c.fetched {
				t.Errorf("%d MiB were sent, %d copied, %d fetched, not %d, %d, %d", sent, copied, fetched, c.sent, c.copied, c.fetched)
			}
			if c.joined != nil {
				joins := watch(disk)
				write(t, joining{joins}, "joined", c.segments, bundle.Options{Codec: codec, Workers: 2, Senders: 2, Old: before})
				if got := [3]int{rounded(&joins.sent), rounded(&joins.copied), rounded(&joins.fetched)}; got != *c.joined {
					t.Errorf("of a store that joins %v MiB were sent, copied and fetched, not %v", got, *c.joined)
				}
			}
			for o, err := range disk.List(t.Context(), "") {
				if err != nil || strings.Contains(o.Key, ".part-") {
					t.Errorf("%s is left, %v", o.Key, err)
				}
			}
			if store.wholes.Load() != c.whole {
				t.Errorf("%d objects were copied whole", store.wholes.Load())
			}
			if err := disk.Delete(t.Context(), "old"); err != nil {
				t.Fatal(err)
			}
			check(t, disk, r, codec, c.segments)
		})
	}
}

// TestAllowance: objects that share one have no more sent again than a quarter of what is new in all of them,
// and 6 MiB; 8 MiB where a join would save little.
func TestAllowance(t *testing.T) {
	for _, c := range []struct {
		size, segments int
		changed        []int
		least, most    int64 // MiB beside a quarter of what is new
	}{
		{mib, 20, []int{5, 8, 10, 11, 14}, 3, 6},
		{mib / 4, 80, []int{20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42}, 7, 8},
	} {
		old := segmentsOf(slices.Repeat([]int{c.size}, c.segments), 100)
		codec := codecOf(t, "lz4")
		store := watch(directory(t))
		before := write(t, store, "old", old, bundle.Options{Codec: codec})
		var allowance bundle.Allowance
		fresh := 0
		for i := range 6 {
			changed := slices.Clone(old)
			for _, n := range c.changed {
				changed[n] = noise(c.size, uint64(1000*i+n))
				fresh += c.size
			}
			r := write(t, joining{store}, fmt.Sprint(i), changed, bundle.Options{Codec: codec, Old: before, Allowance: &allowance})
			check(t, store, r, codec, changed)
		}
		if beyond := store.sent.Load() - before.Size - int64(fresh+fresh/4); beyond < c.least*mib || beyond > c.most*mib+mib/8 {
			t.Errorf("segments of %d bytes: %d bytes were sent again beside a quarter of %d", c.size, beyond, fresh)
		}
	}
}

// TestFewRequests: what is sent again because changes are everywhere is fetched part by part, not piece by piece.
func TestFewRequests(t *testing.T) {
	old := segmentsOf(slices.Repeat([]int{100 << 10}, 300), 100)
	codec := codecOf(t, "lz4")
	store := watch(directory(t))
	before := write(t, store, "old", old, bundle.Options{Codec: codec})
	changed := slices.Clone(old)
	for n := 0; n < len(changed); n += 2 {
		changed[n] = noise(100<<10, uint64(1000+n))
	}
	store.puts.Store(0)
	check(t, store.Store, write(t, joining{store}, "new", changed, bundle.Options{Codec: codec, Old: before, Allowance: bundle.SpentAllowance()}), codec, changed)
	if gets, puts := store.gets.Load(), store.puts.Load(); gets == 0 || gets > puts {
		t.Errorf("%d requests for what was sent again in %d parts", gets, puts)
	}
}

// TestReuseIsRight for random changes, sizes, and known segments.
func TestReuseIsRight(t *testing.T) {
	for seed, algorithm := range []string{"zstd", "gzip", "lz4", "none", "snappy", "zstd"} {
		if onlyZstd(algorithm) || !codecOf(t, algorithm).Independent() { // a build without cgo has no runs of zstd
			continue
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(uint64(seed), 5))
			disk := directory(t)
			c := codecOf(t, algorithm)
			var segments [][]byte
			for range rnd.IntN(16) {
				if rnd.IntN(4) == 0 {
					segments = append(segments, make([]byte, 1+rnd.IntN(frame.MaxSegment))) // the same, over and over
				} else {
					segments = append(segments, noise(1+rnd.IntN(3*mib/2), rnd.Uint64()))
				}
			}
			var old *bundle.Record
			for round := range 3 {
				o := bundle.Options{Codec: c, Workers: 1 + rnd.IntN(3), Senders: 1 + rnd.IntN(3), PartSize: int64(rnd.IntN(9 * mib)), Old: old}
				given := slices.Clone(segments)
				if old != nil {
					for i := range given {
						switch {
						case i < len(old.Segments) && lanes.Sum(given[i]) == old.Segments[i].SHA256 && rnd.IntN(2) == 0:
							given[i] = nil // known
						}
					}
				}
				var store objstore.Store = watch(disk)
				switch {
				case seed >= 3:
					store = joining{watch(disk)}
				case seed%3 == 1:
					store = partsAndCopies{disk, disk, disk}
				case seed%3 == 2 && old == nil:
					store = onlyParts{disk, disk}
				}
				r := write(t, store, fmt.Sprint("object", round), given, o)
				check(t, store, r, c, segments)
				old = r
				if len(segments) > 0 && round == 0 {
					segments[rnd.IntN(len(segments))] = noise(1+rnd.IntN(mib), rnd.Uint64())
				}
			}
		})
	}
}

// TestWeavingIsRight for random changes that lie close together, and sends no more than is sent without it;
// also of short segments, when nothing more is allowed to be sent again.
func TestWeavingIsRight(t *testing.T) {
	c := codecOf(t, "lz4")
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 6))
			disk := directory(t)
			longest, often, allowance := 5*mib/2, 1, (*bundle.Allowance)(nil)
			if seed%2 == 1 {
				longest, often, allowance = mib/2, 6, bundle.SpentAllowance()
			}
			size := func() int { return 1 + rnd.IntN(longest) }
			var segments [][]byte
			for range often * (10 + rnd.IntN(20)) {
				segments = append(segments, noise(size(), rnd.Uint64()))
			}
			old := write(t, disk, "old", segments, bundle.Options{Codec: c})
			for range often * (1 + rnd.IntN(12)) {
				at, other := rnd.IntN(len(segments)), rnd.IntN(len(segments))
				switch rnd.IntN(6) {
				case 0:
					segments = slices.Delete(segments, at, at+1)
				case 1:
					segments = slices.Insert(segments, at, noise(size(), rnd.Uint64()))
				case 2:
					segments[at], segments[other] = segments[other], segments[at]
				default:
					segments[at] = noise(size(), rnd.Uint64())
				}
			}
			o := bundle.Options{Codec: c, Workers: 1 + rnd.IntN(3), Senders: 1 + rnd.IntN(3), PartSize: int64(rnd.IntN(9 * mib)), Old: old, Allowance: allowance}
			plain, weaving := watch(disk), watch(disk)
			write(t, plain, "plain", segments, o)
			r := write(t, joining{weaving}, "woven", segments, o)
			if plain.sent.Load() < weaving.sent.Load() {
				t.Errorf("%d bytes were sent, %d without weaving", weaving.sent.Load(), plain.sent.Load())
			}
			if err := disk.Delete(t.Context(), "old"); err != nil {
				t.Fatal(err)
			}
			check(t, disk, r, c, segments)
			for o, err := range disk.List(t.Context(), "") {
				if err != nil || strings.Contains(o.Key, ".part-") {
					t.Errorf("%s is left, %v", o.Key, err)
				}
			}
		})
	}
}

// TestOtherRecords are not used, or refused.
func TestOtherRecords(t *testing.T) {
	disk := directory(t)
	segments := segmentsOf([]int{3 * mib, 3 * mib, 3 * mib}, 1)
	lz4 := write(t, disk, "lz4", segments, bundle.Options{Codec: codecOf(t, "lz4")})
	stream := write(t, disk, "bzip2", segments[:1], bundle.Options{Codec: codecOf(t, "bzip2")})
	for _, old := range []*bundle.Record{lz4, stream} {
		store := watch(disk)
		r := write(t, store, "new", segments, bundle.Options{Codec: codecOf(t, "gzip"), Old: old})
		if store.copied.Load() > 0 || store.gets.Load() > 0 {
			t.Errorf("%s was used for gzip", old.Codec)
		}
		check(t, disk, r, codecOf(t, "gzip"), segments)
	}
	small := write(t, disk, "small", segments[:1], bundle.Options{Codec: codecOf(t, "lz4")})
	store := watch(disk)
	r := write(t, store, "new", segmentsOf([]int{3 * mib, mib}, 1), bundle.Options{Codec: codecOf(t, "lz4"), Old: small})
	if store.copied.Load() > 0 {
		t.Error("a range of an object was copied that is too small for Amazon")
	}
	check(t, disk, r, codecOf(t, "lz4"), segmentsOf([]int{3 * mib, mib}, 1))
	for what, earlier := range map[string]*bundle.Record{"hashed as a whole": hashedWhole(lz4, segments), "without tags": withoutTags(lz4)} {
		if err := verified(t, disk, earlier, 1); err != nil {
			t.Errorf("segments %s: %v", what, err)
		}
		store = watch(disk)
		r = write(t, store, "later", segments, bundle.Options{Codec: codecOf(t, "lz4"), Old: earlier})
		if store.copied.Load() > 0 {
			t.Errorf("segments %s were used again", what)
		}
		check(t, disk, r, codecOf(t, "lz4"), segments)
	}
	newer := *lz4
	newer.Hash = "thirds"
	if err := verified(t, disk, &newer, 1); !fault.Is(err, fault.Tool) || !strings.Contains(err.Error(), `"thirds"`) || fault.HintOf(err) == "" {
		t.Errorf("a hash of a later version: %v", err)
	}
	damage := map[string]func(*bundle.Record){
		"hash":            func(r *bundle.Record) { r.Hash = bundle.Whole },
		"size":            func(r *bundle.Record) { r.Size++ },
		"checksum":        func(r *bundle.Record) { r.CRC32C++ },
		"codec":           func(r *bundle.Record) { r.Codec = "rot13" },
		"lengths":         func(r *bundle.Record) { r.Segments[0].Length++; r.Segments[1].Length-- },
		"order":           func(r *bundle.Record) { slices.Reverse(r.Segments) },
		"one less":        func(r *bundle.Record) { r.Segments = r.Segments[1:] },
		"endless content": func(r *bundle.Record) { r.Segments[0].Sum.Size = 1 << 40 },
		"no content":      func(r *bundle.Record) { r.Segments[0].Sum.Size = 0 },
		"negative":        func(r *bundle.Record) { r.Segments[0].Length = -1 },
		"a stream":        func(r *bundle.Record) { r.Stream = true },
	}
	for name, harm := range damage {
		bad := *lz4
		bad.Segments = slices.Clone(lz4.Segments)
		harm(&bad)
		_, err := bundle.Write(t.Context(), disk, "x", &source{}, bundle.Options{Codec: codecOf(t, "lz4"), Old: &bad})
		if name == "codec" || name == "a stream" || name == "hash" { // another one's is left alone
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		} else if !fault.Is(err, fault.Corrupt) || fault.HintOf(err) == "" {
			t.Errorf("%s: write: %v", name, err)
		}
		if err := verified(t, disk, &bad, 1); !fault.Is(err, fault.Corrupt) || fault.HintOf(err) == "" {
			t.Errorf("%s: verify: %v", name, err)
		}
	}
}

// hashedWhole is what a record of segments was before they were hashed in lanes.
func hashedWhole(r *bundle.Record, segments [][]byte) *bundle.Record {
	whole := *r
	whole.Hash, whole.Segments = bundle.Whole, slices.Clone(r.Segments)
	for i := range segments {
		whole.Segments[i].SHA256 = sha256.Sum256(segments[i])
	}
	return &whole
}

// withoutTags is what a record was before there were tags.
func withoutTags(r *bundle.Record) *bundle.Record {
	earlier := *r
	earlier.TagKey, earlier.Tags, earlier.Segments = nil, "", slices.Clone(r.Segments)
	for i := range earlier.Segments {
		earlier.Segments[i].Tag = bundle.Tag{}
	}
	return &earlier
}

// withOtherTags is what a record of another processor, or of before, is.
func withOtherTags(r *bundle.Record, segments [][]byte) *bundle.Record {
	other := *r
	other.Tags = map[bundle.Tags]bundle.Tags{bundle.NH: bundle.Highway, bundle.Highway: bundle.NH}[r.Tags]
	other.Segments = slices.Clone(r.Segments)
	for i := range segments {
		other.Segments[i].Tag = tagOf(&other, segments[i])
	}
	return &other
}

// TestOtherTags are handed on, too; tags that are unknown are left alone.
func TestOtherTags(t *testing.T) {
	disk, c := directory(t), codecOf(t, "lz4")
	segments := segmentsOf(slices.Repeat([]int{mib}, 8), 1)
	first := withOtherTags(write(t, disk, "first", segments, bundle.Options{Codec: c}), segments)
	changed := slices.Clone(segments)
	changed[7] = noise(mib, 7)
	store := watch(disk)
	second := write(t, store, "second", changed, bundle.Options{Codec: c, Old: first})
	if second.Tags != first.Tags || second.Segments[3] != first.Segments[3] || store.sent.Load() > 2*mib {
		t.Errorf("%q after %q: %d bytes were sent", second.Tags, first.Tags, store.sent.Load())
	}
	check(t, disk, second, c, changed)
	unknown := *first
	unknown.Tags = "of a later version"
	third := write(t, store, "third", segments, bundle.Options{Codec: c, Old: &unknown})
	if third.Tags == unknown.Tags || *third.TagKey == *first.TagKey {
		t.Error("unknown tags are handed on")
	}
	check(t, disk, third, c, segments)
}

// TestTagKeys are handed on with what is used again, and are those of one object otherwise.
func TestTagKeys(t *testing.T) {
	disk, c := directory(t), codecOf(t, "lz4")
	segments := segmentsOf([]int{100, 200}, 1)
	first := write(t, disk, "first", segments, bundle.Options{Codec: c})
	if again := write(t, disk, "again", segments, bundle.Options{Codec: c, Old: first}); *again.TagKey != *first.TagKey || !slices.Equal(again.Segments, first.Segments) {
		t.Error("the tags of what is used again are others")
	}
	other := write(t, disk, "other", segments, bundle.Options{Codec: c})
	if *other.TagKey == *first.TagKey || other.Segments[0].Tag == first.Segments[0].Tag {
		t.Error("two objects that share nothing have the same tags")
	}
	text, err := json.Marshal(bundle.Record{TagKey: first.TagKey})
	if err != nil {
		t.Fatal(err)
	}
	var read bundle.Record
	if err := json.Unmarshal(text, &read); err != nil || *read.TagKey != *first.TagKey {
		t.Errorf("%s: %v", text, err)
	}
	for _, bad := range []string{`""`, `"AAAA"`, `"!"`, `7`} {
		if err := json.Unmarshal([]byte(`{"tag_key":`+bad+`}`), &read); err == nil || strings.Contains(err.Error(), "AAAA") {
			t.Errorf("%s as a key: %v", bad, err)
		}
	}
	stream := write(t, disk, "stream", segments, bundle.Options{Codec: codecOf(t, "bzip2")})
	if stream.TagKey != nil || stream.Segments[0].Tag != (bundle.Tag{}) {
		t.Error("what cannot be used again has tags")
	}
}

// TestDamagedObjects are told by name, whatever byte is another one.
func TestDamagedObjects(t *testing.T) {
	disk := directory(t)
	segments := segmentsOf([]int{100, 5000, 300}, 1)
	for _, algorithm := range algorithms {
		c := codecOf(t, algorithm)
		r := write(t, disk, "object", segments, bundle.Options{Codec: c})
		object := get(t, disk, "object")
		put := func(data []byte) {
			if _, err := disk.Put(t.Context(), "object", bytes.NewReader(data), objstore.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		verify := func(what string) {
			t.Helper()
			if err := verified(t, disk, r, 2); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "object") || fault.HintOf(err) == "" {
				t.Errorf("%s: %s: %v", c, what, err)
			}
		}
		for at := 0; at < len(object); at += 401 {
			object[at] ^= 0x10
			put(object)
			verify(fmt.Sprintf("byte %d", at))
			object[at] ^= 0x10
		}
		put(object[:len(object)-1])
		verify("cut")
		put(append(bytes.Clone(object), 0))
		verify("longer")
		put(nil)
		verify("empty")
		if err := disk.Delete(t.Context(), "object"); err != nil {
			t.Fatal(err)
		}
		if err := verified(t, disk, r, 2); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: absent: %v", c, err)
		}
	}
}

// TestDamagedSource: a segment that is used again is checked when it passes here.
func TestDamagedSource(t *testing.T) {
	disk := directory(t)
	segments := segmentsOf(slices.Repeat([]int{mib}, 8), 1)
	c := codecOf(t, "lz4")
	old := write(t, disk, "old", segments, bundle.Options{Codec: c})
	object := get(t, disk, "old")
	object[mib+mib/2] ^= 1
	if _, err := disk.Put(t.Context(), "old", bytes.NewReader(object), objstore.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	changed := append([][]byte{noise(10, 9)}, segments...)
	if _, err := bundle.Write(t.Context(), disk, "new", &source{segments: changed}, bundle.Options{Codec: c, Old: old}); !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), "old") {
		t.Errorf("a damaged segment was used again: %v", err)
	}
	if _, err := disk.Stat(t.Context(), "new"); !fault.Is(err, fault.NotFound) {
		t.Errorf("an object was made: %v", err)
	}
	// What is copied in the store is found out by the checksum of the whole.
	if _, err := bundle.Write(t.Context(), disk, "new", &source{segments: segments}, bundle.Options{Codec: c, Old: old}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a damaged object was copied: %v", err)
	}
	if _, err := disk.Stat(t.Context(), "new"); !fault.Is(err, fault.NotFound) {
		t.Errorf("an object was left: %v", err)
	}
}

// hasty copies a byte less than it says, and tells no checksum.
type hasty struct {
	*file.Store
	mu   sync.Mutex
	real map[int]objstore.Part
}

func (h *hasty) CopyPart(ctx context.Context, u objstore.Upload, number int, from string, r objstore.Range) (objstore.Part, error) {
	r.Length--
	p, err := h.Store.CopyPart(ctx, u, number, from, r)
	h.mu.Lock()
	h.real[number] = p
	h.mu.Unlock()
	p.Size++
	return p, err
}

func (h *hasty) Complete(ctx context.Context, u objstore.Upload, parts []objstore.Part, _ objstore.PutOptions) (objstore.Object, error) {
	stored := slices.Clone(parts)
	for i, p := range stored {
		if short, is := h.real[p.Number]; is {
			stored[i] = short
		}
	}
	o, err := h.Store.Complete(ctx, u, stored, objstore.PutOptions{})
	return objstore.Object{Key: o.Key, Size: objstore.Size(parts)}, err
}

// TestShortCopy: what a store without a checksum says it has stored is looked at.
func TestShortCopy(t *testing.T) {
	store := &hasty{Store: directory(t), real: map[int]objstore.Part{}}
	segments := segmentsOf(slices.Repeat([]int{mib}, 12), 1)
	c := codecOf(t, "lz4")
	old := write(t, store, "old", segments, bundle.Options{Codec: c})
	segments[0] = noise(10, 1)
	if _, err := bundle.Write(t.Context(), store, "new", &source{segments: segments}, bundle.Options{Codec: c, Old: old}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a short copy passed: %v", err)
	}
	if _, err := store.Stat(t.Context(), "new"); !fault.Is(err, fault.NotFound) {
		t.Errorf("an object was left: %v", err)
	}
}

// TestFailures: the first error is told, nothing is stored, no upload and no goroutine is left.
func TestFailures(t *testing.T) {
	segments := segmentsOf(slices.Repeat([]int{3 * mib}, 6), 1)
	for _, algorithm := range []string{"zstd", "bzip2", "lz4"} {
		c := codecOf(t, algorithm)
		for name, makeFail := range map[string]func(*source, *spy, context.CancelCauseFunc) error{
			"source": func(s *source, _ *spy, _ context.CancelCauseFunc) error {
				s.err = fmt.Errorf("the disk is gone: %w", io.EOF) // not the end
				return s.err
			},
			"part": func(_ *source, s *spy, _ context.CancelCauseFunc) error {
				s.failPart = 2
				s.late.Store(1)
				return errPart
			},
			"cancelled": func(s *source, _ *spy, cancel context.CancelCauseFunc) error {
				why := errors.New("somebody's wish")
				cancel(why)
				return why
			},
		} {
			if name == "part" && !c.Independent() {
				continue // one Put, which cuts parts itself
			}
			t.Run(algorithm+" "+name, func(t *testing.T) {
				disk := directory(t)
				store, src := watch(disk), &source{segments: segments}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				before := runtime.NumGoroutine()
				want := makeFail(src, store, cancel)
				if _, err := bundle.Write(ctx, store, "object", src, bundle.Options{Codec: c, Workers: 2, Senders: 2}); !errors.Is(err, want) {
					t.Errorf("got %v, not %v", err, want)
				}
				for o, err := range disk.List(t.Context(), "") {
					t.Errorf("left: %+v, %v", o, err)
				}
				for u, err := range disk.Uploads(t.Context(), "") {
					t.Errorf("an upload is left: %+v, %v", u, err)
				}
				for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
					}
				}
			})
		}
	}
}

// TestAFailedJoin leaves nothing, wherever it fails: of two strands, and of several side by side.
func TestAFailedJoin(t *testing.T) {
	c := codecOf(t, "lz4")
	disk := directory(t)
	segments := segmentsOf(slices.Repeat([]int{mib}, 20), 100)
	old := write(t, disk, "old", segments, bundle.Options{Codec: c})
	for _, changed := range [][]int{{10}, {2, 5, 8, 11, 14}} {
		for name, store := range map[string]*spy{
			"the copy of the neighbours": {failFrom: "old"}, "what is sent": {failPart: 2}, "the copy of both": {failFrom: ".part-"},
		} {
			store.RangeCopier, store.Store, store.whole = disk, disk, disk
			store.late.Store(2)
			segments := slices.Clone(segments)
			for _, n := range changed {
				segments[n] = noise(mib, uint64(1000+n))
			}
			if _, err := bundle.Write(t.Context(), joining{store}, "new", &source{segments: segments}, bundle.Options{Codec: c, Senders: 2, Old: old}); !errors.Is(err, errPart) {
				t.Errorf("%v, %s: %v", changed, name, err)
			}
			for o, err := range disk.List(t.Context(), "") {
				if err != nil || o.Key != "old" {
					t.Errorf("%v, %s: %s is left, %v", changed, name, o.Key, err)
				}
			}
			for u, err := range disk.Uploads(t.Context(), "") {
				t.Errorf("%v, %s: an upload is left: %+v, %v", changed, name, u, err)
			}
		}
	}
}

func TestMistakes(t *testing.T) {
	disk := directory(t)
	c := codecOf(t, "lz4")
	for name, s := range map[string]bundle.Source{
		"empty segment": &source{segments: [][]byte{{}}}, "unknown segment": &source{segments: [][]byte{nil}},
	} {
		if _, err := bundle.Write(t.Context(), disk, "x", s, bundle.Options{Codec: c}); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := bundle.Write(t.Context(), disk, "../x", &source{}, bundle.Options{Codec: c}); !fault.Is(err, fault.Usage) {
		t.Errorf("a bad key: %v", err)
	}
	if _, err := bundle.Write(t.Context(), disk, "y", &source{}, bundle.Options{Codec: c, Old: &bundle.Record{Key: "gone", Codec: c.String(), Hash: bundle.Lanes, TagKey: new(bundle.TagKey), Size: 11, CRC32C: 0}}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("an empty record: %v", err)
	}
}

// TestMemory: it does not grow with the object.
func TestMemory(t *testing.T) {
	disk := directory(t)
	o := bundle.Options{Codec: codecOf(t, "lz4"), Workers: 2, Senders: 1}
	if o.Memory() > 64*mib {
		t.Errorf("two workers and a sender ask for %d MiB", o.Memory()/mib)
	}
	var before, after runtime.MemStats
	run := func(n int) uint64 {
		runtime.ReadMemStats(&before)
		if _, err := bundle.Write(t.Context(), disk, "object", &repeating{data: noise(frame.MaxSegment, 1), left: n}, o); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	run(1)
	if short, long := run(5), run(25); long > short+10*mib {
		t.Errorf("25 segments allocate %d MiB, 5 segments %d MiB", long/mib, short/mib)
	}
}

// repeating gives a segment again and again.
type repeating struct {
	data []byte
	left int
}

func (r *repeating) Next(context.Context) (bundle.Piece, error) {
	if r.left == 0 {
		return bundle.Piece{}, io.EOF
	}
	r.left--
	return bundle.Piece{Data: r.data}, nil
}

func FuzzSegments(f *testing.F) {
	f.Add([]byte("4 9 1f AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE\n5 0 0 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA fe\n6 0 0 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA 0 AAAAAAAAAAAAAAAAAAAAAQ\n"))
	f.Add([]byte("1 2 3 A\n-1 0 ffffffffff x y"))
	f.Fuzz(func(t *testing.T, data []byte) {
		read, err := bundle.ReadSegments(bytes.NewReader(data))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := bundle.WriteSegments(&out, read); err != nil {
			t.Fatal(err)
		}
		text := out.String()
		if again, err := bundle.ReadSegments(&out); err != nil || !slices.Equal(read, again) {
			t.Errorf("%q is written as %q, %v", data, text, err)
		}
	})
}

func TestSegmentsAreLines(t *testing.T) {
	segments := []bundle.Segment{{Length: 9, CRC32C: 0x1f, Sum: frame.Sum{Size: 4}, SHA256: [32]byte{31: 1}}, {Sum: frame.Sum{Size: 5, CRC32: 0xfe}}, {Sum: frame.Sum{Size: 6}, Tag: bundle.Tag{15: 1}}}
	const want = "4 9 1f AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE\n5 0 0 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA fe\n" +
		"6 0 0 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA 0 AAAAAAAAAAAAAAAAAAAAAQ\n"
	var out bytes.Buffer
	if err := bundle.WriteSegments(&out, segments); err != nil || out.String() != want {
		t.Errorf("%q, %v", out.String(), err)
	}
	if read, err := bundle.ReadSegments(strings.NewReader(want)); err != nil || !slices.Equal(read, segments) {
		t.Errorf("%v, %v", read, err)
	}
	for _, bad := range []string{"4 9 1f", "4 9 1f AAAA", "x 9 1f AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "4 9 1f AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA g", "4", "",
		"4 9 1f AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA 0 AAAA", "4 9 1f AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA 0 ", "4 9 1f AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\rAA"} {
		if _, err := bundle.ReadSegments(strings.NewReader(bad + "\n")); err == nil || !strings.Contains(err.Error(), "is no segment") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	var earlier bundle.Record // as written before
	if err := json.Unmarshal([]byte(`{"key":"k","segments":["4 9 1f AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"]}`), &earlier); err != nil || !slices.Equal(earlier.Segments, segments[:1]) {
		t.Errorf("%v, %v", earlier, err)
	}
}

// BenchmarkSegments writes and reads those of a volume of 2 GB.
func BenchmarkSegments(b *testing.B) {
	var segments []bundle.Segment
	for i := range 512 {
		segments = append(segments, bundle.Segment{Length: 1 << 20, CRC32C: uint32(i) << 20, Sum: frame.Sum{Size: 4 << 20}, SHA256: sha256.Sum256([]byte{byte(i)}), Tag: bundle.Tag{byte(i), 1}})
	}
	b.ReportAllocs()
	for b.Loop() {
		var text bytes.Buffer
		if err := bundle.WriteSegments(&text, segments); err != nil {
			b.Fatal(err)
		}
		if _, err := bundle.ReadSegments(&text); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWrite stores 256 MiB in a directory: new content, and the same again, hashed only.
func BenchmarkWrite(b *testing.B) {
	const n = 64
	for _, name := range []string{"none", "lz4:0", "zstd:1"} {
		for _, again := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s again=%v", name, again), func(b *testing.B) {
				c, err := frame.Parse(name)
				if err != nil {
					b.Fatal(err)
				}
				disk := directory(b)
				// Two kinds of bytes in a row compress somewhat.
				data := noise(frame.MaxSegment, 1)
				for i := range data {
					data[i] &= 0x1F << (i & 1)
				}
				o := bundle.Options{Codec: c, Workers: 2, Senders: 2}
				if again {
					if o.Old, err = bundle.Write(b.Context(), disk, "old", &repeating{data, n}, o); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(n * frame.MaxSegment)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := bundle.Write(b.Context(), disk, "new", &repeating{data, n}, o); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
