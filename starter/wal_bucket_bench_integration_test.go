//go:build integration

package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// halfRandom is a segment that compresses to a half.
func halfRandom(b *testing.B, name string, size int) []byte {
	data := walSegment(b, name, size, "some of what compresses well; ")
	r := rand.New(rand.NewPCG(1, 2))
	for i := size / 2; i < size; i++ {
		data[i] = byte(r.Uint32())
	}
	return data
}

// timed runs a command that must succeed.
func (b *walBucket) timed(args ...string) {
	b.t.Helper()
	cmd, out := b.command(args...)
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// BenchmarkSegmentInABucket archives and fetches a segment of 16 MiB, each with a
// process of its own, as PostgreSQL does.
func BenchmarkSegmentInABucket(b *testing.B) {
	for _, compression := range []string{"none", "lz4", "zstd"} {
		s := newBucket(b, "compression = "+compression)
		for i := range 64 {
			s.must(os.WriteFile(filepath.Join(s.pgWAL(), segmentName(i+1)), halfRandom(b, segmentName(i+1), 16<<20), 0o600))
		}
		n := 0
		b.Run("push/"+compression, func(b *testing.B) {
			for b.Loop() {
				n++
				if n > 64 {
					b.Skip("more than 64 are not there")
				}
				s.timed("wal-archive", "main", filepath.Join(s.pgWAL(), segmentName(n)))
			}
		})
		b.Run("fetch/"+compression, func(b *testing.B) {
			for b.Loop() {
				s.timed("wal-restore", "main", segmentName(1), filepath.Join(s.home, "dest"))
			}
		})
	}
}

// BenchmarkHundredSegmentsFromAfar: over a link on which each answer takes 20 ms more.
func BenchmarkHundredSegmentsFromAfar(b *testing.B) {
	for _, parallel := range []int{0, 4, 8} {
		b.Run(fmt.Sprintf("parallel=%d", parallel), func(b *testing.B) {
			s := newBucket(b, "")
			proxy := s.bent(func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
				time.Sleep(20 * time.Millisecond)
				forward.ServeHTTP(w, r)
			})
			s.configure(proxy, fmt.Sprintf("compression = lz4\ncloud_wal_archive_parallel = %[1]d\ncloud_wal_restore_parallel = %[1]d", parallel))
			var push, fetch time.Duration
			const n = 100
			for i := 1; i <= n; i++ {
				s.write(segmentName(i), segmentName(i), 1<<20)
				s.must(os.WriteFile(filepath.Join(s.pgWAL(), "archive_status", segmentName(i)+".ready"), nil, 0o600))
			}
			rounds := 0
			for b.Loop() {
				if rounds++; rounds > 1 {
					b.Skip("it is one round")
				}
				begin := time.Now()
				for i := 1; i <= n; i++ {
					s.timed("wal-archive", "main", filepath.Join(s.pgWAL(), segmentName(i)))
					s.must(os.Remove(filepath.Join(s.pgWAL(), "archive_status", segmentName(i)+".ready")))
				}
				push, begin = time.Since(begin), time.Now()
				for i := 1; i <= n; i++ {
					s.timed("wal-restore", "main", segmentName(i), filepath.Join(s.home, "dest"))
				}
				fetch = time.Since(begin)
			}
			b.ReportMetric(push.Seconds(), "s-push")
			b.ReportMetric(fetch.Seconds(), "s-fetch")
		})
	}
}
