package rsync

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkCopy copies 10,000 small files and some large ones, beside the same
// by one rsync that makes its copy durable.
func BenchmarkCopy(b *testing.B) {
	root := cluster(b)
	var size int64
	for i := range 10_000 {
		put(b, filepath.Join(clusterDir(root), "base/1", fmt.Sprint(30000+i)), strings.Repeat("s", 8192*(1+i%4)), old)
		size += int64(8192 * (1 + i%4))
	}
	large := strings.Repeat("0123456789abcdef", 16<<20)
	for i := range 4 {
		put(b, filepath.Join(clusterDir(root), "base/1", fmt.Sprint(90000+i)), large, old)
		size += int64(len(large))
	}
	b.Run("holdfast", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			_, err := copyNow(b, task{Root: root, Attempt: 1})
			require.NoError(b, err)
			b.StopTimer()
			require.NoError(b, os.RemoveAll(backupDir(root)))
			b.StartTimer()
		}
	})
	b.Run("rsync", func(b *testing.B) {
		b.SetBytes(size)
		dest := filepath.Join(root, "by-rsync")
		for b.Loop() {
			require.NoError(b, exec.CommandContext(b.Context(), "rsync", "-a", "--fsync", clusterDir(root)+"/", dest+"/").Run())
			b.StopTimer()
			require.NoError(b, os.RemoveAll(dest))
			b.StartTimer()
		}
	})
}
