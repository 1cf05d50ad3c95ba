//go:build integration

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// BenchmarkEmptyCluster is a backup of an empty cluster from command to prompt.
func BenchmarkEmptyCluster(b *testing.B) {
	for _, method := range []string{config.MethodPostgres, config.MethodLocalRsync} {
		b.Run(method, func(b *testing.B) {
			s := stacktest.Start(b, stacktest.Options{Version: pgtest.Versions()[0], Method: method})
			s.Must(b, "backup", stacktest.Server, "--wait")
			b.ResetTimer()
			for b.Loop() {
				s.Must(b, "backup", stacktest.Server, "--wait")
			}
		})
	}
}

// The cluster of BenchmarkLargeCluster: 3 GB in rows of about 300 bytes.
const (
	large       = 9_000_000
	smallTables = 20_000
)

// giant is a large installation.
type giant struct {
	*stacktest.Stack
	cat *catalog.Catalog
}

// BenchmarkLargeCluster compares backups of 3 GB with a tablespace and 20,000
// small tables with the same copy by hand, and those of local-rsync with Barman's,
// in turn, on the same disk. Metrics: copy-ratio (the copy phase against the copy
// by hand), whole-ratio (the whole backup, read back, against it), barman-copy-ratio
// and barman-whole-ratio (against Barman's backup command, which reads nothing
// back), restore-ratio (a restore against the same by hand), and the peak memory of
// each role in MB.
func BenchmarkLargeCluster(b *testing.B) {
	g := newGiant(b, pgtest.Versions()[0])
	g.manyTables(b)
	g.rows(b)
	s, cat := g.Stack, g.cat
	b.Run("postgres-tar-zstd", g.tar)
	b.Run("rsync-over-ssh", g.overSSH)
	b.Run("local-rsync-unchanged", g.unchanged)
	for _, c := range []struct {
		method string
		byHand func(b *testing.B, s *stacktest.Stack, dest string)
		barman bool
	}{
		{config.MethodPostgres, byPgBaseBackup, false},
		{config.MethodLocalRsync, byRsync, true},
	} {
		b.Run(c.method, func(b *testing.B) {
			s.Configure(b, c.method, "parallel_jobs = 2")
			// One that stays, because a server's first backup purges WAL, too.
			s.Must(b, "backup", stacktest.Server, "--wait")
			var hand, copied, whole, barman time.Duration
			for b.Loop() {
				dest := filepath.Join(s.Dir, "by-hand")
				hand += timed(func() { c.byHand(b, s, dest) })
				clean(b, dest)
				if c.barman {
					barman += timed(func() { byBarman(b, s) })
					remove(b, cat)
				}
				whole += timed(func() {
					s.Must(b, "backup", stacktest.Server, "--wait")
				})
				took, _ := remove(b, cat).Stats().Get("copy_time")
				copied += time.Duration(took.Float * float64(time.Second))
			}
			b.ReportMetric(copied.Seconds()/hand.Seconds(), "copy-ratio")
			b.ReportMetric(whole.Seconds()/hand.Seconds(), "whole-ratio")
			b.ReportMetric(hand.Seconds()/float64(b.N), "by-hand-s/op")
			if c.barman {
				b.ReportMetric(copied.Seconds()/barman.Seconds(), "barman-copy-ratio")
				b.ReportMetric(whole.Seconds()/barman.Seconds(), "barman-whole-ratio")
				b.ReportMetric(barman.Seconds()/float64(b.N), "barman-s/op")
			}
			g.reportMemory(b)
		})
	}
}

// remove takes the newest backup out of the catalogue.
func remove(b *testing.B, cat *catalog.Catalog) *backupinfo.Info {
	b.Helper()
	info, err := cat.Resolve("latest")
	if err != nil {
		b.Fatal(err)
	}
	if err := cat.Remove(info.ID); err != nil {
		b.Fatal(err)
	}
	settle(b)
	return info
}

func newGiant(b *testing.B, version string) *giant {
	return newGiantWith(b, stacktest.Options{Version: version})
}

func newGiantWith(b *testing.B, o stacktest.Options) *giant {
	o.Method, o.Tablespaces, o.Config = config.MethodPostgres, []string{"other"}, []string{"max_wal_size = 4GB", "autovacuum = off"}
	s := stacktest.Start(b, o)
	dir := filepath.Join(s.Home, stacktest.Server)
	return &giant{s, catalog.Open(catalog.Layout{Server: stacktest.Server, BackupDir: dir, BaseDir: filepath.Join(dir, "base"), MetaDir: filepath.Join(dir, "meta"), LockDir: s.Home})}
}

func (g *giant) manyTables(b *testing.B) {
	g.Cluster.Exec(b, fmt.Sprintf(`do $$ begin for i in 1..%d loop
		execute format('create table small_%%s (id int primary key, t text)', i);
		execute format('insert into small_%%s select g, md5(g::text) from generate_series(1, 20) g', i);
		if i %% 500 = 0 then commit; end if;
		end loop; end $$`, smallTables))
}

// rows fills two large tables.
func (g *giant) rows(b *testing.B) {
	g.Cluster.Fill(b, "big", "", large/2)
	g.Cluster.Fill(b, "big_other", "other", large/2)
	g.rest(b)
	settle(b)
}

// settle lets the disk finish what came before, and lets memory for files be ready: the host
// of a virtual machine takes back what was not used for a while, and whoever writes waits for
// it to be given again, for longer than the writing takes.
func settle(b *testing.B) {
	if out, err := exec.Command("sync").CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	f, err := os.CreateTemp(b.TempDir(), "")
	if err != nil {
		b.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	piece := make([]byte, 1<<20)
	for range ready {
		if _, err := f.Write(piece); err != nil {
			b.Fatal(err)
		}
	}
}

// ready is how many MiB a backup of the large tables may write, at least.
const ready = 1024

func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

func clean(b *testing.B, dirs ...string) {
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			b.Fatal(err)
		}
	}
	settle(b)
}

func byPgBaseBackup(b *testing.B, s *stacktest.Stack, dest string) {
	shell(b, fmt.Sprintf("mkdir %[1]s && '%[2]s/pg_basebackup' -d '%[3]s' -D %[1]s/data -T '%[4]s=%[1]s/other' -c fast --wal-method=none --no-slot --manifest-checksums=SHA256",
		dest, s.Cluster.BinDir, s.Cluster.DSN(), s.Cluster.Tablespaces["other"]))
}

func byRsync(b *testing.B, s *stacktest.Stack, dest string) {
	s.Cluster.Exec(b, "checkpoint")
	shell(b, fmt.Sprintf("mkdir %[1]s && rsync -a --fsync --exclude='/pg_wal/*' --exclude=postmaster.pid '%[2]s/' %[1]s/data && rsync -a --fsync '%[3]s/' %[1]s/other",
		dest, s.Cluster.DataDir, s.Cluster.Tablespaces["other"]))
}

// byBarman takes a backup with the same configuration into the same catalogue.
func byBarman(b *testing.B, s *stacktest.Stack) {
	cred := pgtest.Credential(b)
	if cred == nil {
		b.Fatal("Barman's tree needs root: run this benchmark as root")
	}
	binds := []string{s.Dir, s.Cluster.DataDir, s.Cluster.Tablespaces["other"]}
	r := barmantest.RunAs(b, binds, int(cred.Uid), int(cred.Gid), "barman", "-c", s.Config, "backup", stacktest.Server)
	if r.Exit != 0 {
		b.Fatalf("barman backup: exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
}

func shell(b *testing.B, script string) {
	b.Helper()
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, strings.TrimSpace(string(out)))
	}
}
