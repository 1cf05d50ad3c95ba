//go:build integration

package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
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
	holdfast(b) // is built
	for _, compression := range []string{"none", "lz4", "zstd"} {
		s := newBucket(b, "compression = "+compression)
		for i := range 64 {
			s.must(os.WriteFile(filepath.Join(s.pgWAL(), segmentName(i+1)), halfRandom(b, segmentName(i+1), 16<<20), 0o600))
		}
		unix.Sync() // the disk is not to be busy with the segments any more
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

// roundTrip is how long a distant store takes to answer at least.
const roundTrip = 20 * time.Millisecond

// afar leads to an address over a long link: a connection takes a round trip, and what
// is sent arrives half of one later. It limits no bandwidth.
func afar(b *testing.B, address string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer near.Close()
				time.Sleep(roundTrip)
				far, err := net.Dial("tcp", address)
				if err != nil {
					return
				}
				defer far.Close()
				go late(far, near)
				late(near, far)
			}()
		}
	}()
	return l.Addr().String()
}

// late copies until one end closes.
func late(to, from net.Conn) {
	type piece struct {
		data []byte
		due  time.Time
	}
	line := make(chan piece, 1000)
	go func() {
		defer close(line)
		for {
			data := make([]byte, 64<<10)
			n, err := from.Read(data)
			if n > 0 {
				line <- piece{data[:n], time.Now().Add(roundTrip / 2)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range line {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.data); err != nil {
			from.Close() // ends the reader
		}
	}
	to.Close()
}

// BenchmarkHundredSegmentsFromAfar archives and fetches a hundred segments over TLS and a
// link of 20 ms, each with a process of its own.
func BenchmarkHundredSegmentsFromAfar(b *testing.B) {
	for _, parallel := range []int{0, 4, 8, 16} {
		b.Run(fmt.Sprintf("parallel=%d", parallel), func(b *testing.B) {
			s := newBucketOf(b, storetest.StartBenchGateway(b, "bucket"), "")
			s.configure("https://"+afar(b, strings.TrimPrefix(s.URL, "https://")), fmt.Sprintf("compression = lz4\ncloud_wal_archive_parallel = %[1]d\ncloud_wal_restore_parallel = %[1]d", parallel))
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
