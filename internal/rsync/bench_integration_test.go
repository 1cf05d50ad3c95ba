//go:build integration

package rsync

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/sshtest"
)

// BenchmarkCopyOverSSH copies the 40,000 files of 20,000 small tables, and the same
// by one rsync whose copy is made durable at the end like ours, in turn. The
// metric ratio is that of the sums of their times.
func BenchmarkCopyOverSSH(b *testing.B) {
	s := sshtest.Start(b, sshtest.Options{})
	root := cluster(b)
	var size int64
	for i := range 40_000 {
		put(b, filepath.Join(clusterDir(root), "base/1", fmt.Sprint(30000+i)), strings.Repeat("s", 8192*(1+i%4)), old)
		size += int64(8192 * (1 + i%4))
	}
	dest := filepath.Join(root, "by-rsync")
	var ours, theirs time.Duration
	b.SetBytes(size)
	for b.Loop() {
		began := time.Now()
		_, err := copyNow(b, task{Root: root, Attempt: 1}, over(b, s))
		require.NoError(b, err)
		ours += time.Since(began)
		forget(b, backupDir(root))
		began = time.Now()
		require.NoError(b, exec.CommandContext(b.Context(), "rsync", "-a", "-e", s.Command(), ":"+clusterDir(root)+"/", dest+"/").Run())
		require.NoError(b, exec.CommandContext(b.Context(), "sync", "-f", dest).Run())
		theirs += time.Since(began)
		forget(b, dest)
	}
	b.ReportMetric(ours.Seconds()/theirs.Seconds(), "ratio")
	b.ReportMetric(theirs.Seconds()/float64(b.N), "rsync-s/op")
	b.ReportMetric(peak(b), "peak-MB")
}

// forget removes a copy, and lets the disk finish that.
func forget(b *testing.B, dir string) {
	b.Helper()
	require.NoError(b, os.RemoveAll(dir))
	require.NoError(b, exec.CommandContext(b.Context(), "sync").Run())
}

// peak is the most memory that this process has had, in MB.
func peak(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(b, err)
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kb float64
	_, err = fmt.Sscan(rest, &kb)
	require.NoError(b, err)
	return kb / 1024
}
