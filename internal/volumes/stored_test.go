package volumes

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/datadir"
)

// store is what a store has of a tree's previous volumes.
type store struct {
	segments map[string][][]byte // by archive
	members  map[string]Stored
}

func newStore() store { return store{map[string][][]byte{}, map[string]Stored{}} }

func (s store) add(archive string, a archived) {
	s.segments[archive] = a.segments
	for _, m := range a.Members {
		s.members[m.Path] = Stored{m, archive, len(a.segments[m.Segment])}
	}
}

func storeOf(a archived) store {
	s := newStore()
	s.add("the archive", a)
	return s
}

func (s store) known(path string, now datadir.Attributes) (Stored, bool) {
	m, there := s.members[path]
	return m, there && m.Unchanged(now)
}

// readUpon reads with what is stored, puts that in, and returns how many bytes were read.
func readUpon(t *testing.T, r *Reader, s store, root string, files []File) (archived, int64) {
	t.Helper()
	r.Known = s.known
	var a archived
	var taken int64
	var err error
	a.Result, err = r.Volume(t.Context(), root, Volume{Files: files}, func(seg Segment) error {
		require.Equal(t, len(a.segments), seg.Index)
		if seg.Data == nil {
			data := s.segments[seg.Archive][seg.Stored]
			require.Len(t, data, seg.Size)
			a.segments = append(a.segments, data)
		} else {
			taken += int64(seg.Size)
			a.segments = append(a.segments, bytes.Clone(seg.Data))
		}
		seg.Release()
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, len(a.segments), a.Segments)
	return a, taken
}

// TestWhatIsStoredIsNotReadAgain: with what is stored put in, the stream is the one
// that is read anew.
func TestWhatIsStoredIsNotReadAgain(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	r := rand.New(rand.NewPCG(3, 3))
	old := time.Now().Add(-time.Hour)
	write := func(path string, size int) {
		put(t, path, noise(r.Uint64(), size))
		require.NoError(t, os.Chtimes(path, old, old))
	}
	sizes := []int{0, 100, 8192, 40960, 200_000}
	at := func(i int) string { return filepath.Join(root, "base/5", fmt.Sprint(1000+i)) }
	for i := range 150 {
		write(at(i), sizes[r.IntN(len(sizes))])
	}
	write(at(500), largeFrom)
	write(at(501), 2*SegmentSize+8192)
	write(filepath.Join(root, "other"), largeFrom+1)
	whole := read(t, &Reader{}, root, listed(t, root), nil)
	was := storeOf(whole)

	same, taken := readUpon(t, &Reader{Buffers: NewBuffers(2)}, was, root, listed(t, root))
	require.True(t, bytes.Equal(whole.stream(), same.stream()))
	assert.Equal(t, int64(3*block+len(trailer)), taken, "nothing but the headers of large files and the end")
	contents(t, same)
	assert.Equal(t, whole.Members, same.Members)

	for round := range 6 {
		for range 1 + r.IntN(3) {
			path := at(r.IntN(150))
			switch r.IntN(5) {
			case 0:
				write(path, sizes[r.IntN(len(sizes))])
			case 1:
				if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
					require.NoError(t, err)
				}
			case 2:
				write(at(600+round), 8192)
			case 3:
				write(at(501), 2*SegmentSize+8192)
			case 4:
				write(path, largeFrom)
			}
		}
		files := listed(t, root)
		fresh := read(t, &Reader{}, root, files, nil)
		upon, taken := readUpon(t, &Reader{Buffers: NewBuffers(2)}, was, root, files)
		require.True(t, bytes.Equal(fresh.stream(), upon.stream()), "round %d", round)
		contents(t, upon)
		require.Equal(t, fresh.Bytes, upon.Bytes)
		assert.Less(t, taken, fresh.Bytes)
		was = storeOf(upon)
	}
}

// TestAnotherStride: a file whose stored segments are of another size is read again.
func TestAnotherStride(t *testing.T) {
	t.Parallel()
	const size = 2*SegmentSize + 8192
	root := t.TempDir()
	path := filepath.Join(root, "base/5/1")
	put(t, path, noise(1, size))
	old := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(path, old, old))
	files := listed(t, root)
	for _, was := range []int{smallestStride, 1 << 20, SegmentSize} {
		stored := storeOf(read(t, &Reader{Stride: was}, root, files, nil))
		for _, is := range []int{smallestStride, 1 << 20, SegmentSize} {
			whole := read(t, &Reader{Stride: is}, root, files, nil)
			upon, taken := readUpon(t, &Reader{Buffers: NewBuffers(2), Stride: is}, stored, root, files)
			require.Equal(t, whole.segments, upon.segments)
			assert.Equal(t, was == is, taken < smallestStride)
		}
	}
}

// TestStoredFilesThatVanish while others of their segment make that they are read.
func TestStoredFilesThatVanish(t *testing.T) {
	root := t.TempDir()
	old := time.Now().Add(-time.Hour)
	at := func(name string) string { return filepath.Join(root, name) }
	var names []string
	// Names after none of which a segment ends.
	for i := 0; len(names) < 3; i++ {
		if name := fmt.Sprintf("n%03d", i); !endsAfter(name, 7) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		put(t, at(name), "content")
		require.NoError(t, os.Chtimes(at(name), old, old))
	}
	files := listed(t, root)
	was := storeOf(read(t, &Reader{}, root, files, nil))
	put(t, at(names[2]), "changed")
	known := was.known
	r := &Reader{Buffers: NewBuffers(2), Known: func(path string, now datadir.Attributes) (Stored, bool) {
		if path == names[2] {
			require.NoError(t, os.Remove(at(names[0])))
		}
		return known(path, now)
	}}
	a := read(t, r, root, files, nil)
	assert.Equal(t, map[string]string{names[1]: "content", names[2]: "changed"}, contents(t, a))
	assert.Equal(t, names[:1], a.Vanished)
}

// TestBuffersAreShared by readers whose receivers release later.
func TestBuffersAreShared(t *testing.T) {
	root := t.TempDir()
	put(t, filepath.Join(root, "base/5/1"), noise(1, 5*SegmentSize))
	files := listed(t, root)
	want := read(t, &Reader{}, root, files, nil)
	shared := NewBuffers(4)
	type result struct {
		archived
		err error
	}
	results := make(chan result)
	for range 3 {
		go func() {
			var got result
			late := make(chan Segment, 1)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for s := range late {
					got.segments = append(got.segments, bytes.Clone(s.Data))
					s.Release()
				}
			}()
			got.Result, got.err = (&Reader{Buffers: shared}).Volume(t.Context(), root, Volume{Files: files}, func(s Segment) error {
				late <- s
				return nil
			})
			close(late)
			<-done
			results <- got
		}()
	}
	for range 3 {
		got := <-results
		require.NoError(t, got.err)
		assert.True(t, slices.EqualFunc(want.segments, got.segments, bytes.Equal))
	}
	assert.Len(t, shared.free, 4)
}
