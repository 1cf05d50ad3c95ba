//go:build integration

package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// backRest is pgBackRest with a repository in the bucket that our backups go to.
type backRest struct {
	b     *testing.B
	store *storetest.Gateway
	conf  string
	peak  int64 // bytes, of its largest process
}

func newBackRest(b *testing.B, g *giant, store *storetest.Gateway) *backRest {
	b.Helper()
	dir := pgtest.Dir(b)
	r := &backRest{b: b, store: store, conf: filepath.Join(dir, "pgbackrest.conf")}
	text := fmt.Sprintf(`[global]
repo1-type=s3
repo1-path=/pgbackrest
repo1-s3-bucket=%s
repo1-s3-endpoint=127.0.0.1
repo1-s3-region=us-east-1
repo1-s3-uri-style=path
repo1-s3-key=%s
repo1-s3-key-secret=%s
repo1-storage-port=%s
repo1-storage-ca-file=%s
repo1-bundle=y
compress-type=zst
compress-level=3
process-max=2
start-fast=y
archive-check=n
expire-auto=n
repo1-retention-full=9
log-level-console=warn
log-level-file=off
lock-path=%[6]s
spool-path=%[6]s
[main]
pg1-path=%[7]s
pg1-port=%[8]d
pg1-socket-path=%[9]s
pg1-user=postgres
pg1-database=postgres
`, cloudBucket, storetest.AccessKey, storetest.SecretKey, store.URL[strings.LastIndexByte(store.URL, ':')+1:], store.Environment()["AWS_CA_BUNDLE"],
		dir, g.Cluster.DataDir, g.Cluster.Port, g.Cluster.SocketDir)
	if err := os.WriteFile(r.conf, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	r.run("stanza-create")
	return r
}

// run runs a command, and says how long it took.
func (r *backRest) run(args ...string) time.Duration {
	r.b.Helper()
	dir := filepath.Join(pgtest.Testbed(), "pgbackrest")
	if _, err := os.Stat(dir + ".complete"); err != nil {
		r.b.Fatalf("pgBackRest is not in the testbed: run `.ci/testbed.sh rivals`, as make bench does")
	}
	cmd := exec.Command(filepath.Join(dir, "usr/bin/pgbackrest"), append([]string{"--config=" + r.conf, "--stanza=main"}, args...)...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pgtest.Credential(r.b), Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil {
		r.b.Fatalf("pgbackrest %v: %v\n%s", args, err, out)
	}
	if usage, is := cmd.ProcessState.SysUsage().(*syscall.Rusage); is {
		r.peak = max(r.peak, usage.Maxrss<<10) // that of the children that it has waited for, too
	}
	return took
}

// forget empties its repository.
func (r *backRest) forget() {
	clean(r.b, filepath.Join(r.store.Data(cloudBucket), "pgbackrest"))
	r.run("stanza-create")
}

// weight is the size of what the bucket has below a key.
func weight(b *testing.B, store *storetest.Gateway, key string) (bytes int64) {
	b.Helper()
	err := filepath.WalkDir(filepath.Join(store.Data(cloudBucket), key), func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if err == nil {
			bytes += st.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return bytes
}

// BenchmarkPgBackRest compares backups and their restore, from command to prompt, into and out of the
// same S3 server, over TLS, with those of pgBackRest (zst 3, bundles), with two processes or jobs each. Metrics: ratios of
// ours to theirs, the times of theirs, and the peak memory of each.
func BenchmarkPgBackRest(b *testing.B) {
	for _, c := range []struct {
		name string
		fill func(g *giant, b *testing.B)
	}{{"3GB", (*giant).rows}, {"20000-tables", (*giant).manyTables}} {
		b.Run(c.name, func(b *testing.B) {
			store := storetest.StartBenchGateway(b, cloudBucket)
			g := newGiantWith(b, stacktest.Options{Version: pgtest.Versions()[0], Env: store.Environment()})
			c.fill(g, b)
			g.Configure(b, config.MethodLocalToCloud, "basebackups_directory = "+cloudURL, "holdfast_endpoint_url = "+store.URL, "holdfast_cloud_reuse = off", "parallel_jobs = 2")
			r := newBackRest(b, g, store)
			forget := func() {
				g.Must(b, "delete", stacktest.Server, "latest")
				r.forget()
			}
			g.take(b) // the first ones of a server do more
			r.run("--type=full", "backup")
			forget()
			var ours, theirs, back, backTheirs time.Duration
			var size, sizeTheirs int64
			for b.Loop() {
				settle(b)
				whole, _, _ := g.take(b)
				ours += whole
				settle(b)
				theirs += r.run("--type=full", "backup")
				settle(b)
				size += weight(b, store, "some/where/main/base")
				sizeTheirs += weight(b, store, "pgbackrest/backup")
				dest := filepath.Join(g.Dir, "restored")
				back += timed(func() { g.Must(b, "restore", stacktest.Server, "latest", dest, "--tablespace", "other:"+dest+"-other") })
				clean(b, dest, dest+"-other")
				for _, dir := range []string{dest, dest + "-other"} {
					if err := os.Mkdir(dir, 0o700); err != nil {
						b.Fatal(err)
					}
					if cred := pgtest.Credential(b); cred != nil {
						if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
							b.Fatal(err)
						}
					}
				}
				backTheirs += r.run("restore", "--pg1-path="+dest, "--tablespace-map=other="+dest+"-other", "--type=immediate")
				clean(b, dest, dest+"-other")
				forget()
			}
			n := float64(b.N)
			b.ReportMetric(ours.Seconds()/theirs.Seconds(), "backup-ratio")
			b.ReportMetric(float64(size)/float64(sizeTheirs), "size-ratio")
			b.ReportMetric(back.Seconds()/backTheirs.Seconds(), "restore-ratio")
			b.ReportMetric(theirs.Seconds()/n, "their-backup-s/op")
			b.ReportMetric(backTheirs.Seconds()/n, "their-restore-s/op")
			b.ReportMetric(float64(r.peak)/1e6, "their-MB")
			g.reportMemory(b)
		})
	}
}

// BenchmarkPgBackRestWAL compares WAL segments, each with a process of its own, into and out of the same
// S3 server, with pgBackRest's archive-push and archive-get.
func BenchmarkPgBackRestWAL(b *testing.B) {
	store := storetest.StartBenchGateway(b, cloudBucket)
	g := newGiantWith(b, stacktest.Options{Version: pgtest.Versions()[0], Env: store.Environment()})
	r := newBackRest(b, g, store)
	g.Configure(b, config.MethodLocalToCloud, "basebackups_directory = "+cloudURL, "wals_directory = "+cloudURL, "holdfast_endpoint_url = "+store.URL, "compression = zstd")
	// PostgreSQL archives nothing meanwhile: its segments are pushed by hand, once by each.
	g.Cluster.Exec(b, "alter system set archive_command = 'false'")
	g.Cluster.Exec(b, "select pg_reload_conf()")
	var segments []string
	for len(segments) < 12 {
		g.Cluster.Fill(b, "wal", "", 35000)
		segments = append(segments, g.Cluster.Value(b, "pg_walfile_name(pg_switch_wal())"))
	}
	var push, pushTheirs, fetch, fetchTheirs time.Duration
	dest := filepath.Join(pgtest.Dir(b), "segment")
	// As PostgreSQL calls it: with nobody to become.
	ours := func(args ...string) {
		if r := g.HoldfastAs(b, pgtest.Credential(b), args...); r.Code != 0 {
			b.Fatalf("holdfast %v: exit code %d\n%s", args, r.Code, r.Stderr)
		}
	}
	n := 0
	for b.Loop() {
		if n++; n > 1 {
			b.Skip("each segment is pushed once")
		}
		for _, name := range segments {
			path := filepath.Join(g.Cluster.DataDir, "pg_wal", name)
			push += timed(func() { ours("wal-archive", stacktest.Server, path) })
			pushTheirs += r.run("archive-push", path)
		}
		for _, name := range segments {
			fetch += timed(func() { ours("wal-restore", stacktest.Server, name, dest) })
			clean(b, dest)
			fetchTheirs += r.run("archive-get", name, dest)
			clean(b, dest)
		}
	}
	each := float64(len(segments))
	b.ReportMetric(push.Seconds()/pushTheirs.Seconds(), "push-ratio")
	b.ReportMetric(fetch.Seconds()/fetchTheirs.Seconds(), "fetch-ratio")
	b.ReportMetric(pushTheirs.Seconds()*1e3/each, "their-push-ms")
	b.ReportMetric(fetchTheirs.Seconds()*1e3/each, "their-fetch-ms")
	b.ReportMetric(float64(r.peak)/1e6, "their-MB")
}
