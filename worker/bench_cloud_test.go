//go:build integration

package main

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// BenchmarkBucket compares local-to-cloud backups of 3 GB, into a store on the same
// machine, over TLS, with tar and zstd by hand into a file. Metrics: copy-ratio (the copy phase of a
// first backup against that), checksum-ratio and mtime-ratio (a second backup of what has not
// changed, from command to prompt, against the first), restore-ratio (against zstd and tar by hand), sent-MB
// (of the second backup by checksums), and the peak memory of each role.
func BenchmarkBucket(b *testing.B) {
	store := storetest.StartBenchGateway(b, cloudBucket)
	g := newGiantWith(b, stacktest.Options{Version: pgtest.Versions()[0], Env: store.Environment()})
	g.rows(b)
	configure := func(reuse string) {
		g.Configure(b, config.MethodLocalToCloud, "basebackups_directory = "+cloudURL, "holdfast_endpoint_url = "+store.URL, "holdfast_cloud_reuse = "+reuse)
	}
	forget := func() {
		g.Must(b, "delete", stacktest.Server, "latest")
		settle(b)
	}
	configure("off")
	g.take(b) // a server's first backup purges WAL, too
	forget()
	var hand, copied, first, checksum, mtime, unpacked, restored time.Duration
	var sent int64
	for b.Loop() {
		dest := filepath.Join(g.Dir, "by-hand")
		hand += timed(func() {
			shell(b, fmt.Sprintf("mkdir %[1]s && tar -c -C '%[2]s' --exclude=./pg_wal . | zstd -1 -T2 -q -o %[1]s/data.tar.zst && tar -c -C '%[3]s' . | zstd -1 -T2 -q -o %[1]s/other.tar.zst && sync -f %[1]s",
				dest, g.Cluster.DataDir, g.Cluster.Tablespaces["other"]))
		})
		unpacked += timed(func() {
			shell(b, fmt.Sprintf("cd %s && mkdir data other && zstd -dcq data.tar.zst | tar x -C data && zstd -dcq other.tar.zst | tar x -C other && sync -f .", dest))
		})
		clean(b, dest)
		configure("off")
		settle(b)
		whole, took, _ := g.take(b)
		first, copied = first+whole, copied+took
		settle(b)
		restored += timed(func() {
			g.Must(b, "restore", stacktest.Server, "latest", dest, "--tablespace", "other:"+dest+"-other")
		})
		clean(b, dest, dest+"-other")
		configure("checksum")
		settle(b)
		whole, _, info := g.take(b)
		checksum += whole
		if extra, err := g.cat.Extra(info.ID); err == nil {
			sent += extra.Sent
		}
		configure("mtime")
		settle(b)
		whole, _, _ = g.take(b)
		mtime += whole
		for range 3 {
			forget()
		}
	}
	b.ReportMetric(copied.Seconds()/hand.Seconds(), "copy-ratio")
	b.ReportMetric(checksum.Seconds()/first.Seconds(), "checksum-ratio")
	b.ReportMetric(mtime.Seconds()/first.Seconds(), "mtime-ratio")
	b.ReportMetric(restored.Seconds()/unpacked.Seconds(), "restore-ratio")
	b.ReportMetric(float64(sent)/1e6/float64(b.N), "sent-MB/op")
	b.ReportMetric(hand.Seconds()/float64(b.N), "by-hand-s/op")
	g.reportMemory(b)
}
