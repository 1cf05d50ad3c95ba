//go:build integration

package rsync

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/sshtest"
)

// BenchmarkCopyOverSSH copies the 40,000 files of 20,000 small tables, beside the
// same by one rsync, whose copy is made durable at the end like ours.
func BenchmarkCopyOverSSH(b *testing.B) {
	s := sshtest.Start(b, sshtest.Options{})
	root := cluster(b)
	var size int64
	for i := range 40_000 {
		put(b, filepath.Join(clusterDir(root), "base/1", fmt.Sprint(30000+i)), strings.Repeat("s", 8192*(1+i%4)), old)
		size += int64(8192 * (1 + i%4))
	}
	b.Run("holdfast", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			_, err := copyNow(b, task{Root: root, Attempt: 1}, over(b, s))
			require.NoError(b, err)
			b.StopTimer()
			status, err := os.ReadFile("/proc/self/status")
			require.NoError(b, err)
			_, rest, _ := strings.Cut(string(status), "VmHWM:")
			var kb float64
			_, err = fmt.Sscan(rest, &kb)
			require.NoError(b, err)
			b.ReportMetric(kb/1024, "peak-MB")
			require.NoError(b, os.RemoveAll(backupDir(root)))
			b.StartTimer()
		}
	})
	b.Run("rsync", func(b *testing.B) {
		b.SetBytes(size)
		dest := filepath.Join(root, "by-rsync")
		for b.Loop() {
			require.NoError(b, exec.CommandContext(b.Context(), "rsync", "-a", "-e", s.Command(), ":"+clusterDir(root)+"/", dest+"/").Run())
			require.NoError(b, exec.CommandContext(b.Context(), "sync", "-f", dest).Run())
			b.StopTimer()
			require.NoError(b, os.RemoveAll(dest))
			b.StartTimer()
		}
	})
}
