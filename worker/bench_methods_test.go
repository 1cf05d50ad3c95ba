//go:build integration

package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/sshtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

func (g *giant) reportMemory(b *testing.B) {
	for _, role := range []string{"keeper", "copy", "workflow"} {
		b.ReportMetric(float64(g.PeakRSS(b, role))/1e6, role+"-MB")
	}
}

// take takes a backup, as the user whose the configuration is, and returns how long the whole and
// its copy took.
func (g *giant) take(b *testing.B, args ...string) (whole, copied time.Duration, info *backupinfo.Info) {
	b.Helper()
	var r stacktest.Result
	whole = timed(func() {
		r = g.HoldfastAs(b, pgtest.Credential(b), append([]string{"backup", stacktest.Server, "--wait"}, args...)...)
	})
	if r.Code != 0 {
		b.Fatalf("holdfast backup: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	info, err := g.cat.Resolve("latest")
	if err != nil {
		b.Fatal(err)
	}
	took, _ := info.Stats().Get("copy_time")
	return whole, time.Duration(took.Float * float64(time.Second)), info
}

// tar compares backups as tar archives with the same pg_basebackup, and their
// restore with zstd and tar.
func (g *giant) tar(b *testing.B) {
	g.Configure(b, config.MethodPostgres, compressing(" = zstd", "_format = tar")...)
	g.take(b) // a server's first backup purges WAL, too
	var hand, copied, unpacked, restored time.Duration
	for b.Loop() {
		dest := filepath.Join(g.Dir, "by-hand")
		hand += timed(func() {
			shell(b, fmt.Sprintf("'%s/pg_basebackup' -d '%s' -D %s --format=tar --compress=client-zstd -c fast --wal-method=none --no-slot --manifest-checksums=SHA256",
				g.Cluster.BinDir, g.Cluster.DSN(), dest))
		})
		clean(b, dest)
		_, took, info := g.take(b)
		copied += took
		data := g.cat.DataDir(info.ID)
		unpacked += timed(func() {
			shell(b, fmt.Sprintf("mkdir -p %[1]s/data %[1]s/other && zstd -dcq %[2]s/base.tar.zst | tar x -C %[1]s/data && zstd -dcq %[2]s/%[3]d.tar.zst | tar x -C %[1]s/other && sync -f %[1]s",
				dest, data, info.Tablespaces[0].OID))
		})
		clean(b, dest)
		restored += timed(func() {
			g.Must(b, "restore", stacktest.Server, "latest", dest, "--tablespace", "other:"+dest+"-other")
		})
		clean(b, dest, dest+"-other")
		remove(b, g.cat)
	}
	b.ReportMetric(copied.Seconds()/hand.Seconds(), "copy-ratio")
	b.ReportMetric(restored.Seconds()/unpacked.Seconds(), "restore-ratio")
	b.ReportMetric(hand.Seconds()/float64(b.N), "by-hand-s/op")
	b.ReportMetric(unpacked.Seconds()/float64(b.N), "unpacked-by-hand-s/op")
	g.reportMemory(b)
}

// overSSH compares backups by rsync over ssh with one rsync of the same trees.
func (g *giant) overSSH(b *testing.B) {
	server := sshtest.Start(b, sshtest.Options{As: pgtest.Credential(b)})
	g.Configure(b, config.MethodRsync, "parallel_jobs = 2", "ssh_command = "+server.Command())
	g.take(b)
	var hand, copied, whole time.Duration
	for b.Loop() {
		dest := filepath.Join(g.Dir, "by-hand")
		hand += timed(func() {
			g.Cluster.Exec(b, "checkpoint")
			shell(b, fmt.Sprintf("mkdir %[1]s && rsync -a --fsync -e '%[2]s' --exclude='/pg_wal/*' --exclude=postmaster.pid ':%[3]s/' %[1]s/data && rsync -a --fsync -e '%[2]s' ':%[4]s/' %[1]s/other",
				dest, server.Command(), g.Cluster.DataDir, g.Cluster.Tablespaces["other"]))
		})
		clean(b, dest)
		all, took, _ := g.take(b)
		whole, copied = whole+all, copied+took
		remove(b, g.cat)
	}
	b.ReportMetric(copied.Seconds()/hand.Seconds(), "copy-ratio")
	b.ReportMetric(whole.Seconds()/hand.Seconds(), "whole-ratio")
	b.ReportMetric(hand.Seconds()/float64(b.N), "by-hand-s/op")
	g.reportMemory(b)
}

// BenchmarkUnchangedCluster compares the second backup of 3 GB in few files, of
// which none has changed, with the first. BenchmarkLargeCluster does the same with
// 20,000 small tables, where names and links are most of the work.
func BenchmarkUnchangedCluster(b *testing.B) {
	g := newGiant(b, pgtest.Versions()[0])
	g.rows(b)
	b.Run("local-rsync", g.unchanged)
}

// unchanged compares the second backup of what has not changed with the first.
func (g *giant) unchanged(b *testing.B) {
	g.Configure(b, config.MethodLocalRsync, "parallel_jobs = 2", "reuse_backup = link")
	var first, second time.Duration
	var disk int64
	for b.Loop() {
		took, _, _ := g.take(b, "--reuse-backup=off")
		first += took
		settle(b)
		before := g.stored(b)
		took, _, _ = g.take(b)
		second += took
		settle(b)
		disk += g.stored(b) - before
		remove(b, g.cat)
		remove(b, g.cat)
	}
	b.ReportMetric(second.Seconds()/first.Seconds(), "second-ratio")
	b.ReportMetric(first.Seconds()/float64(b.N), "first-s/op")
	b.ReportMetric(float64(disk)/1e6/float64(b.N), "new-disk-MB/op")
}

// stored is how many bytes of disk the backups and their records take; what is
// linked counts once.
func (g *giant) stored(b *testing.B) int64 {
	b.Helper()
	out, err := exec.Command("du", "-scB1", g.cat.BaseDir, g.cat.MetaDir).Output()
	if err != nil {
		b.Fatal(err)
	}
	var bytes int64
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if _, err := fmt.Sscan(lines[len(lines)-1], &bytes); err != nil {
		b.Fatal(err)
	}
	return bytes
}
