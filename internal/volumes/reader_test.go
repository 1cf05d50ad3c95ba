package volumes

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pagesum"
)

// archived is what a reader made.
type archived struct {
	Result
	segments [][]byte
	stride   int // the reader's
}

func (a archived) stream() []byte { return slices.Concat(a.segments...) }

// collect keeps segments; at is called before one is taken.
func collect(t testing.TB, a *archived, at func(index int)) func(Segment) error {
	return func(s Segment) error {
		require.Equal(t, len(a.segments), s.Index)
		require.Positive(t, s.Size)
		require.LessOrEqual(t, s.Size, SegmentSize)
		require.Len(t, s.Data, s.Size)
		a.segments = append(a.segments, bytes.Clone(s.Data))
		s.Release()
		if at != nil {
			at(s.Index)
		}
		return nil
	}
}

func read(t testing.TB, r *Reader, root string, files []File, at func(index int)) archived {
	t.Helper()
	var a archived
	if r.Buffers == nil {
		r.Buffers = NewBuffers(2)
	}
	var err error
	a.stride = r.Stride
	a.Result, err = r.Volume(t.Context(), root, Volume{Tree: DataTree, Number: 1, Files: files}, collect(t, &a, at))
	require.NoError(t, err)
	require.Equal(t, len(a.segments), a.Segments)
	var size int64
	for _, s := range a.segments {
		size += int64(len(s))
	}
	require.Equal(t, size, a.Bytes)
	return a
}

// contents are what archive/tar finds in a stream, and what the members say of it.
func contents(t testing.TB, a archived) map[string]string {
	t.Helper()
	out := map[string]string{}
	stream := a.stream()
	require.Zero(t, len(stream)%block)
	in := tar.NewReader(bytes.NewReader(stream))
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		content, err := io.ReadAll(in)
		require.NoError(t, err)
		_, twice := out[h.Name]
		require.False(t, twice, h.Name)
		out[h.Name] = string(content)
	}
	starts := make([]int, 0, len(a.segments))
	at := 0
	for _, s := range a.segments {
		starts = append(starts, at)
		at += len(s)
	}
	for _, m := range a.Members {
		content, there := out[m.Path]
		require.True(t, there, m.Path)
		m.SumUp(func(i int) ([32]byte, int64) { return sha256.Sum256(a.segments[i]), int64(len(a.segments[i])) })
		require.Equal(t, sumOf(content, a.stride), m.Sum, m.Path)
		require.Equal(t, int64(len(content)), m.Size, m.Path)
		from := starts[m.Segment] + m.Offset
		require.True(t, string(stream[from:from+len(content)]) == content, m.Path)
	}
	return out
}

// sumOf is the checksum of a member with this content.
func sumOf(content string, stride int) [32]byte {
	if len(content) < largeFrom {
		return sha256.Sum256([]byte(content))
	}
	padded := append([]byte(content), make([]byte, -len(content)&(block-1))...)
	var sums []byte
	for segment := range slices.Chunk(padded, cmp.Or(stride, SegmentSize)) {
		one := sha256.Sum256(segment)
		sums = append(sums, one[:]...)
	}
	return sha256.Sum256(sums)
}

// noise is of a seed alone: 32 random bytes, again and again.
func noise(seed uint64, n int) string {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b[:min(n, 32)])
	for k := 32; k < n; k *= 2 {
		copy(b[k:], b[:k])
	}
	return string(b)
}

func listed(t testing.TB, root string) []File {
	t.Helper()
	trees, err := List(t.Context(), Cluster{DataDir: root})
	require.NoError(t, err)
	plan := Cut(trees, 1<<40, nil)
	if len(plan.Volumes) == 0 {
		return nil
	}
	require.Len(t, plan.Volumes, 1)
	return plan.Volumes[0].Files
}

func TestVolumeIsAnArchive(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	want := map[string]string{}
	add := func(rel, content string) {
		put(t, filepath.Join(root, rel), content)
		want[rel] = content
	}
	for i, size := range []int{0, 1, 511, 512, 513, 8192, largeFrom - 1, largeFrom, largeFrom + 1, SegmentSize - 1, SegmentSize, SegmentSize + 1, 3*SegmentSize + 5, wholeUpTo, wholeUpTo + 1} {
		if size < wholeUpTo {
			add(fmt.Sprintf("base/5/%d", 100+i), noise(uint64(i), size))
		}
		if size != 3*SegmentSize+5 {
			add(fmt.Sprintf("other/%d", size), noise(uint64(i)+100, size))
		}
	}
	for _, name := range odd {
		add(name, name)
		add(strings.Repeat("deep/", 30)+name, name)
	}
	add("long/"+strings.Repeat("n", 255), "x")
	require.NoError(t, os.Chmod(filepath.Join(root, "other/513"), 0o4755))
	require.NoError(t, os.Chtimes(filepath.Join(root, "other/513"), time.Time{}, time.Unix(1234567890, 999999999)))
	require.NoError(t, os.Chtimes(filepath.Join(root, "other/512"), time.Time{}, time.Unix(1, 0)))
	if os.Getuid() == 0 {
		require.NoError(t, os.Chown(filepath.Join(root, "other/511"), 3_000_000_000, 12345))
	}

	small := read(t, &Reader{Stride: smallestStride}, root, listed(t, root), nil)
	require.True(t, maps.Equal(want, contents(t, small)))
	a := read(t, &Reader{}, root, listed(t, root), nil)
	require.True(t, bytes.Equal(a.stream(), small.stream()))
	assert.Greater(t, small.Segments, a.Segments+3*5)
	assert.Empty(t, a.Vanished)
	require.True(t, maps.Equal(want, contents(t, a)))
	for _, m := range a.Members {
		assert.False(t, m.Resized)
		var st unix.Stat_t
		require.NoError(t, unix.Stat(filepath.Join(root, m.Path), &st))
		assert.Equal(t, datadir.Identify(&st), m.Source)
		assert.WithinDuration(t, time.Now(), m.Read, time.Minute)
	}

	// tar(1) makes the same tree.
	dest := t.TempDir()
	unpack(t, dest, a)
	n := 0
	require.NoError(t, filepath.WalkDir(dest, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		rel, _ := filepath.Rel(dest, path)
		got, err := os.ReadFile(path)
		require.True(t, want[rel] == string(got), rel)
		var was, is unix.Stat_t
		require.NoError(t, errors.Join(unix.Stat(filepath.Join(root, rel), &was), unix.Stat(path, &is)))
		assert.Equal(t, was.Mode, is.Mode, rel)
		assert.Equal(t, was.Mtim.Sec, is.Mtim.Sec, rel)
		assert.Equal(t, [2]uint32{was.Uid, was.Gid}, [2]uint32{is.Uid, is.Gid}, rel)
		return err
	}))
	assert.Len(t, want, n)
}

func unpack(t testing.TB, dest string, a archived) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "tar", "-x", "-p", "-f", "-", "-C", dest)
	cmd.Stdin = bytes.NewReader(a.stream())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Empty(t, string(out))
}

// TestFilesThatChangeWhileTheyAreRead: the hook runs when the first of the files has
// been read in part.
func TestFilesThatChangeWhileTheyAreRead(t *testing.T) {
	const size = 2*SegmentSize + 512
	for _, tc := range []struct {
		name, rel string
		size      int
		change    func(path string) error
		want      func(before string) string
		resized   bool
	}{
		{"a relation grows", "base/5/1", size, func(p string) error { return os.Truncate(p, size+8192) }, func(s string) string { return s }, false},
		{"a relation shrinks", "base/5/1", size, func(p string) error { return os.Truncate(p, SegmentSize+100) },
			func(s string) string { return s[:SegmentSize+100] + strings.Repeat("\x00", size-SegmentSize-100) }, false},
		{"a relation is emptied", "base/5/1", size, func(p string) error { return os.Truncate(p, 0) },
			func(s string) string { return s[:SegmentSize] + strings.Repeat("\x00", size-SegmentSize) }, false},
		{"a relation vanishes", "base/5/1", size, os.Remove, func(s string) string { return s }, false},
		{"a relation is replaced", "base/5/1", size, replace, func(s string) string { return s }, false},
		{"a huge file grows", "huge", wholeUpTo + 1, func(p string) error { return os.Truncate(p, wholeUpTo+2) }, func(s string) string { return s }, true},
		{"a huge file shrinks", "huge", wholeUpTo + 1, func(p string) error { return os.Truncate(p, SegmentSize) },
			func(s string) string { return s[:SegmentSize] + strings.Repeat("\x00", wholeUpTo+1-SegmentSize) }, true},
		{"a large file, read whole before, shrinks", "large", size, func(p string) error { return os.Truncate(p, 1) }, func(s string) string { return s }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, tc.rel)
			before := noise(1, tc.size)
			put(t, path, before)
			a := read(t, &Reader{}, root, listed(t, root), func(index int) {
				if index == 1 { // the header is 0
					require.NoError(t, tc.change(path))
				}
			})
			require.True(t, contents(t, a)[tc.rel] == tc.want(before))
			require.Len(t, a.Members, 1)
			assert.Equal(t, tc.resized, a.Members[0].Resized)
			changed, err := Changed(t.Context(), root, a.Members)
			require.NoError(t, err)
			assert.Equal(t, []string{tc.rel}, changed)
		})
	}
}

func replace(path string) error {
	return errors.Join(os.WriteFile(path+".new", []byte("new"), 0o600), os.Rename(path+".new", path))
}

// TestFilesThatChangeBetweenListingAndReading: what the list says is only a plan.
func TestFilesThatChangeBetweenListingAndReading(t *testing.T) {
	root := t.TempDir()
	for i := range 6 {
		put(t, filepath.Join(root, "base/5", fmt.Sprint(i+1)), noise(uint64(i), 100))
	}
	files := listed(t, root)
	at := func(i int) string { return filepath.Join(root, "base/5", fmt.Sprint(i)) }
	require.NoError(t, os.Remove(at(1)))
	put(t, at(2), noise(9, SegmentSize+1))
	put(t, at(3), "")
	require.NoError(t, replace(at(4)))
	require.NoError(t, os.Remove(at(5)))
	require.NoError(t, os.Mkdir(at(5), 0o700))
	require.NoError(t, os.Remove(at(6)))
	require.NoError(t, unix.Mkfifo(at(6), 0o600))
	a := read(t, &Reader{}, root, files, nil)
	got := contents(t, a)
	assert.Equal(t, []string{"base/5/1", "base/5/5", "base/5/6"}, a.Vanished)
	assert.Equal(t, noise(9, SegmentSize+1), got["base/5/2"])
	assert.Empty(t, got["base/5/3"])
	assert.Equal(t, "new", got["base/5/4"])
	assert.Len(t, got, 3)

	require.NoError(t, os.RemoveAll(filepath.Join(root, "base")))
	a = read(t, &Reader{}, root, files, nil)
	assert.Len(t, a.Vanished, 6, "their directory is gone")
	assert.Equal(t, [][]byte{trailer[:]}, a.segments)
}

func TestEmptyVolume(t *testing.T) {
	a := read(t, &Reader{}, t.TempDir(), nil, nil)
	assert.Equal(t, [][]byte{make([]byte, 1024)}, a.segments)
	assert.Empty(t, contents(t, a))
}

// TestUnchangedFilesMakeTheSameSegments whatever becomes of their neighbours.
func TestUnchangedFilesMakeTheSameSegments(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r := rand.New(rand.NewPCG(7, 7))
	sizes := []int{100, 8192, 8192, 16384, 40960, 300_000, 900_000}
	for i := range 250 {
		put(t, filepath.Join(root, "base/5", fmt.Sprint(10000+i)), noise(uint64(i), sizes[r.IntN(len(sizes))]))
	}
	big := []string{"base/5/10050", "base/5/10150", "base/5/10200"}
	for i, rel := range big {
		put(t, filepath.Join(root, rel), noise(uint64(i), 2*SegmentSize+8192*i))
	}
	seen := func(a archived) map[[32]byte]bool {
		out := map[[32]byte]bool{}
		for _, s := range a.segments {
			out[sha256.Sum256(s)] = true
		}
		return out
	}
	now := read(t, &Reader{}, root, listed(t, root), nil)
	contents(t, now)
	require.Greater(t, len(now.segments), 30)
	for name, change := range map[string]func(at string) error{
		"new":      func(at string) error { return os.WriteFile(at+"5", []byte(noise(1, 8192)), 0o600) },
		"gone":     os.Remove,
		"grown":    func(at string) error { return os.Truncate(at, 1<<19) },
		"touched":  func(at string) error { return os.Chtimes(at, time.Time{}, time.Unix(1, 0)) },
		"to large": func(at string) error { return os.Truncate(at, largeFrom) },
	} {
		t.Run(name, func(t *testing.T) {
			const changes = 2
			before := seen(now)
			for range changes {
				files := listed(t, root)
				f := files[r.IntN(len(files)-10)]
				for f.large() {
					f = files[r.IntN(len(files)-10)]
				}
				require.NoError(t, change(filepath.Join(root, f.Path)))
			}
			next := read(t, &Reader{}, root, listed(t, root), nil)
			fresh := 0
			for sum := range seen(next) {
				if !before[sum] {
					fresh++
				}
			}
			// The segment, and now and then some after it.
			assert.LessOrEqual(t, fresh, 4*changes)
			now = next
		})
	}
	t.Run("touched large files", func(t *testing.T) {
		before := seen(now)
		for _, rel := range big {
			require.NoError(t, os.Chtimes(filepath.Join(root, rel), time.Time{}, time.Unix(2, 0)))
		}
		next := read(t, &Reader{}, root, listed(t, root), nil)
		var fresh []int
		for _, s := range next.segments {
			if !before[sha256.Sum256(s)] {
				fresh = append(fresh, len(s))
			}
		}
		assert.Equal(t, []int{block, block, block}, fresh, "their headers only")
	})
}

func TestChanged(t *testing.T) {
	root := t.TempDir()
	old := time.Now().Add(-time.Hour)
	names := []string{"same", "written", "restored", "gone", "replaced", "fresh", "mode", "directory"}
	for _, name := range names {
		put(t, filepath.Join(root, name), name)
		require.NoError(t, os.Chtimes(filepath.Join(root, name), old, old))
	}
	require.NoError(t, os.Chtimes(filepath.Join(root, "fresh"), old, time.Now()))
	a := read(t, &Reader{}, root, listed(t, root), nil)
	at := func(name string) string { return filepath.Join(root, name) }
	put(t, at("written"), "written!")
	put(t, at("restored"), "RESTORED")
	require.NoError(t, os.Chtimes(at("restored"), old, old)) // by a writer that hides
	require.NoError(t, errors.Join(os.Remove(at("gone")), replace(at("replaced")), os.Chmod(at("mode"), 0o640), os.Remove(at("directory")), os.Mkdir(at("directory"), 0o700)))
	changed, err := Changed(t.Context(), root, a.Members)
	require.NoError(t, err)
	slices.Sort(changed)
	assert.Equal(t, []string{"directory", "fresh", "gone", "mode", "replaced", "restored", "written"}, changed)

	m := Member{Source: datadir.Identity{Size: 5}, Read: time.Unix(100, 0)}
	assert.True(t, m.Unchanged(datadir.Attributes{Identity: m.Source, Mode: unix.S_IFREG}))
	assert.False(t, m.Unchanged(datadir.Attributes{Identity: m.Source, Mode: unix.S_IFDIR}))
	m.Resized = true
	assert.False(t, m.Unchanged(datadir.Attributes{Identity: m.Source, Mode: unix.S_IFREG}))
}

// page makes a page with a right checksum.
func page(block uint32, lsn uint64, content string) []byte {
	p := make([]byte, 8192)
	copy(p[100:], content)
	binary.LittleEndian.PutUint32(p, uint32(lsn>>32))
	binary.LittleEndian.PutUint32(p[4:], uint32(lsn))
	p[15] = 0x20
	binary.LittleEndian.PutUint16(p[8:], pagesum.Sum(p, block))
	return p
}

func TestBadPages(t *testing.T) {
	t.Parallel()
	judge := &pagesum.Judge{BlockSize: 8192, RelationBlocks: 131072, Start: 1000}
	relation := func(first uint32, pages int, bad ...int) string {
		var b bytes.Buffer
		for i := range pages {
			p := page(first+uint32(i), 500, "x")
			if i%7 == 3 {
				p = page(77, 1000, "recent, whatever its checksum")
			}
			if i%7 == 4 {
				clear(p)
			}
			if slices.Contains(bad, i) {
				p[4000] ^= 1
			}
			b.Write(p)
		}
		return b.String()
	}
	root := t.TempDir()
	put(t, filepath.Join(root, "base/5/1"), relation(0, 1200, 0, 511, 512, 1199)+"half a page")
	put(t, filepath.Join(root, "base/5/1.2"), relation(2*131072, 9, 8))
	put(t, filepath.Join(root, "base/5/1_fsm"), relation(0, 3))
	put(t, filepath.Join(root, "base/5/2"), relation(0, 300, slices.Collect(func(yield func(int) bool) {
		for i := range 250 {
			if i%7 != 3 && i%7 != 4 && !yield(i) {
				return
			}
		}
	})...))
	put(t, filepath.Join(root, "base/5/PG_VERSION"), "15")
	put(t, filepath.Join(root, "pg_xact/0000"), relation(5, 3))
	a := read(t, &Reader{Judge: judge}, root, listed(t, root), nil)
	contents(t, a)
	got := map[string]Pages{}
	for _, m := range a.Members {
		got[m.Path] = m.Pages
	}
	assert.Equal(t, Pages{1200, 4, []uint32{0, 511, 512, 1199}}, got["base/5/1"])
	assert.Equal(t, Pages{9, 1, []uint32{2*131072 + 8}}, got["base/5/1.2"])
	assert.Equal(t, Pages{3, 0, nil}, got["base/5/1_fsm"])
	assert.Equal(t, Pages{}, got["base/5/PG_VERSION"])
	assert.Equal(t, Pages{}, got["pg_xact/0000"])
	assert.Equal(t, int64(178), got["base/5/2"].Bad)
	assert.Len(t, got["base/5/2"].Blocks, mostBad)

	for _, m := range read(t, &Reader{}, root, listed(t, root), nil).Members {
		assert.Equal(t, Pages{}, m.Pages, "a cluster without checksums")
	}
}

// TestTornPage: a page that is right when it is read again is not bad.
func TestTornPage(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "base/5/1")
	whole := page(0, 1, "x")
	torn := bytes.Clone(whole)
	torn[5000] ^= 1
	put(t, path, string(torn))
	var src source
	_, err := src.open(path)
	require.NoError(t, err)
	defer src.close()
	r := &Reader{Judge: &pagesum.Judge{BlockSize: 8192, RelationBlocks: 131072, Start: 1000}}
	for name, tc := range map[string]struct {
		after string
		bad   int64
	}{"mended": {string(whole), 0}, "still torn": {string(torn), 1}, "cut off": {"", 0}} {
		c := r.checkPages("base/5/1")
		put(t, path, tc.after)
		require.NoError(t, c.data(t.Context(), &src, torn, 0))
		assert.Equal(t, tc.bad, c.found.Bad, name)
	}
}

// TestGarbage: a small file leaves little more than its member, since a cluster may have a million of them.
func TestGarbage(t *testing.T) {
	const files, each = 500, 900
	root := t.TempDir()
	v := Volume{Tree: DataTree}
	for i := range files {
		name := fmt.Sprintf("base/5/%d", 16384+i)
		put(t, filepath.Join(root, name), string(page(0, 1, "x")))
		v.Files = append(v.Files, File{name, 8192})
	}
	r := &Reader{Buffers: NewBuffers(2), Judge: &pagesum.Judge{BlockSize: 8192, RelationBlocks: 131072, Start: 1000}}
	var before, after runtime.MemStats
	for range 2 { // the first time makes the buffers
		runtime.ReadMemStats(&before)
		_, err := r.Volume(t.Context(), root, v, drop)
		require.NoError(t, err)
		runtime.ReadMemStats(&after)
	}
	assert.Less(t, (after.TotalAlloc-before.TotalAlloc)/files, uint64(each), "bytes for each file")
}

func TestSparseGigabyte(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	put(t, filepath.Join(root, "base/5/1"), "")
	require.NoError(t, os.Truncate(filepath.Join(root, "base/5/1"), 1<<30))
	n := 0
	res, err := (&Reader{Buffers: NewBuffers(2)}).Volume(t.Context(), root, Volume{Files: []File{{"base/5/1", 1 << 30}}}, func(s Segment) error {
		defer s.Release()
		if s.Index > 0 && s.Index <= 256 {
			n += len(s.Data)
		}
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, 1<<30, n)
	assert.Equal(t, 258, res.Segments)
	// head -c4M /dev/zero | openssl dgst -sha256 -binary, 256 times, and sha256sum of that.
	zeros := sha256.Sum256(make([]byte, SegmentSize))
	res.Members[0].SumUp(func(int) ([32]byte, int64) { return zeros, SegmentSize })
	assert.Equal(t, "9e8b33874ad8566cf0b5d1b0089dd4ec7804978933677fd8019aa64fc5640525", hex.EncodeToString(res.Members[0].Sum[:]))
}

func TestEndings(t *testing.T) {
	root := t.TempDir()
	put(t, filepath.Join(root, "base/5/1"), noise(1, 9*SegmentSize))
	files := listed(t, root)
	t.Run("of the receiver", func(t *testing.T) {
		b := NewBuffers(2)
		enough := errors.New("enough")
		_, err := (&Reader{Buffers: b}).Volume(t.Context(), root, Volume{Files: files}, func(s Segment) error {
			s.Release()
			if s.Index == 3 {
				return enough
			}
			return nil
		})
		assert.ErrorIs(t, err, enough)
		assert.Len(t, b.free, 2, "all memory is given back")
	})
	t.Run("of the context", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		b := NewBuffers(2)
		var held []Segment
		_, err := (&Reader{Buffers: b}).Volume(ctx, root, Volume{Files: files}, func(s Segment) error {
			// A receiver that gives nothing back stops the reader.
			if held = append(held, s); len(held) == 2 {
				time.AfterFunc(20*time.Millisecond, func() { cancel(errors.New("enough")) })
			}
			return nil
		})
		assert.True(t, fault.Is(err, fault.Cancelled), "%v", err)
		assert.ErrorContains(t, err, "enough")
		assert.Len(t, held, 2)
	})
}
