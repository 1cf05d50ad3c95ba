package volumes

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/pagesum"
)

// manyFiles is a cluster of small tables.
func manyFiles(b *testing.B, n int) (root string, bytes int64) {
	b.Helper()
	root = b.TempDir()
	content := noise(1, 8192)
	for i := range n {
		path := filepath.Join(root, "base", fmt.Sprint(1+i%10))
		if i < 10 {
			require.NoError(b, os.MkdirAll(path, 0o700))
		}
		require.NoError(b, os.WriteFile(filepath.Join(path, fmt.Sprint(16384+i)), []byte(content), 0o600))
	}
	return root, int64(n) * 8192
}

func drop(s Segment) error {
	s.Release()
	return nil
}

func BenchmarkList100000Files(b *testing.B) {
	root, _ := manyFiles(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		_, err := List(b.Context(), Cluster{DataDir: root})
		require.NoError(b, err)
	}
}

func BenchmarkRead100000Files(b *testing.B) {
	root, size := manyFiles(b, 100_000)
	files := listed(b, root)
	r := &Reader{Buffers: NewBuffers(3), Judge: &pagesum.Judge{BlockSize: 8192, RelationBlocks: 131072, Start: 0}}
	b.SetBytes(size)
	b.ReportAllocs()
	var peak uint64
	for b.Loop() {
		_, err := r.Volume(b.Context(), root, Volume{Files: files}, drop)
		require.NoError(b, err)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapSys)
	}
	b.ReportMetric(float64(peak)/(1<<20), "MB-heap")
}

// BenchmarkStored100000Files reads none of them.
func BenchmarkStored100000Files(b *testing.B) {
	root, size := manyFiles(b, 100_000)
	files := listed(b, root)
	sizes := map[int]int{}
	r := &Reader{Buffers: NewBuffers(3)}
	res, err := r.Volume(b.Context(), root, Volume{Files: files}, func(s Segment) error {
		sizes[s.Index] = s.Size
		s.Release()
		return nil
	})
	require.NoError(b, err)
	members := map[string]Member{}
	for _, m := range res.Members {
		members[m.Path] = m
	}
	r.Known = func(path string, _ datadir.Attributes) (Stored, bool) {
		m := members[path]
		return Stored{m, "the archive", sizes[m.Segment]}, true
	}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		_, err := r.Volume(b.Context(), root, Volume{Files: files}, drop)
		require.NoError(b, err)
	}
}

func BenchmarkReadLargeFile(b *testing.B) {
	root := b.TempDir()
	const size = 256 << 20
	var content bytes.Buffer
	for i := range uint32(size / 8192) {
		content.Write(page(i, 1, "row"))
	}
	require.NoError(b, os.MkdirAll(filepath.Join(root, "base/5"), 0o700))
	require.NoError(b, os.WriteFile(filepath.Join(root, "base/5/1"), content.Bytes(), 0o600))
	content.Reset()
	for name, judge := range map[string]*pagesum.Judge{"checked": {BlockSize: 8192, RelationBlocks: 131072, Start: 1 << 40}, "unchecked": nil} {
		b.Run(name, func(b *testing.B) {
			r := &Reader{Buffers: NewBuffers(3), Judge: judge}
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				res, err := r.Volume(b.Context(), root, Volume{Files: []File{{"base/5/1", size}}}, drop)
				require.NoError(b, err)
				require.Zero(b, res.Members[0].Pages.Bad)
			}
		})
	}
}
