//go:build integration

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/waltest"
)

// walBucket is a server whose WAL lies in a bucket, and a pg_wal.
type walBucket struct {
	*storetest.Gateway
	t    testing.TB
	conf string
	home string
	env  map[string]string
}

func newBucket(t testing.TB, options string) *walBucket {
	t.Helper()
	return newBucketOf(t, storetest.StartGateway(t, "bucket"), options)
}

func newBucketOf(t testing.TB, g *storetest.Gateway, options string) *walBucket {
	t.Helper()
	b := &walBucket{Gateway: g, t: t, home: pgtest.Dir(t)}
	b.conf, b.env = filepath.Join(b.home, "holdfast.conf"), b.Environment()
	b.must(os.MkdirAll(filepath.Join(b.pgWAL(), "archive_status"), 0o755))
	b.configure(b.URL, options)
	return b
}

func (b *walBucket) configure(endpoint, options string) {
	b.t.Helper()
	b.must(os.WriteFile(b.conf, fmt.Appendf(nil, "[barman]\nbarman_home = %[1]s\nbarman_user = root\nlog_file = %[1]s/log\n[main]\nbackup_method = postgres\narchiver = on\nconninfo = host=/nowhere\n"+
		"wals_directory = s3://bucket/some/where\nholdfast_endpoint_url = %[2]s\n%[3]s\n", b.home, endpoint, options), 0o644))
}

func (b *walBucket) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *walBucket) pgWAL() string { return filepath.Join(b.home, "pg_wal") }

// write makes a file of pg_wal; of a segment, size bytes with a header and fill.
func (b *walBucket) write(name, fill string, size int) string {
	b.t.Helper()
	path := filepath.Join(b.pgWAL(), name)
	data := []byte(fill)
	if len(name) >= 24 && !strings.HasSuffix(name, ".backup") {
		data = walSegment(b.t, name[:24], size, fill)
	}
	b.must(os.WriteFile(path, data, 0o600))
	return path
}

func (b *walBucket) command(args ...string) (*exec.Cmd, *bytes.Buffer) {
	var out bytes.Buffer
	cmd := exec.Command(holdfast(b.t), append([]string{"-c", b.conf}, args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "TZ=UTC", "TEMPORAL_ADDRESS=127.0.0.1:1"}
	for name, value := range b.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, &out
}

func (b *walBucket) run(args ...string) (string, int) {
	b.t.Helper()
	cmd, out := b.command(args...)
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		b.t.Fatal(err)
	}
	if strings.Contains(out.String(), storetest.SecretKey) {
		b.t.Error("the secret key is printed")
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// want expects an exit code and a text.
func (b *walBucket) want(code int, says string, args ...string) string {
	b.t.Helper()
	out, got := b.run(args...)
	if got != code || !strings.Contains(out, says) {
		b.t.Errorf("holdfast %v: exit %d, want %d and %q\n%s", args, got, code, says, out)
	}
	return out
}

// stored are the names of the objects below the server's wals.
func (b *walBucket) stored() []string {
	b.t.Helper()
	var out []string
	for _, path := range files(b.t, filepath.Join(b.Data("bucket"), "some/where/main/wals")) {
		out = append(out, filepath.Base(path))
	}
	slices.Sort(out)
	return out
}

// listed are the names in xlog.db.
func (b *walBucket) listed() []string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.home, "main/meta/main-xlog.db"))
	if !errors.Is(err, os.ErrNotExist) {
		b.must(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		name, _, _ := strings.Cut(line, "\t")
		out = append(out, name)
	}
	return out
}

func (b *walBucket) barman(args ...string) barmantest.Result {
	b.t.Helper()
	env := []string{"env"}
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_EC2_METADATA_DISABLED"} {
		env = append(env, name+"="+b.env[name])
	}
	return barmantest.Run(b.t, []string{b.home}, 0, append(env, args...)...)
}

// TestWALInABucketIsBarmans: of the same bucket, Barman's tools read what we wrote, and
// we what they wrote, in every compression that both have. Snappy is not among them: the
// library for it that Barman has in the testbed ends with a signal.
func TestWALInABucketIsBarmans(t *testing.T) {
	t.Parallel()
	b := newBucket(t, "")
	const size = 1 << 20
	number := 0
	for compression, flags := range map[string][]string{"none": nil, "gzip": {"--gzip"}, "bzip2": {"--bzip2"}, "xz": {"--xz"}, "zstd": {"--zstd"}, "lz4": {"--lz4"}} {
		number += 2
		ours, theirs := segmentName(number), segmentName(number+1)
		b.configure(b.URL, "compression = "+compression)
		for _, name := range []string{ours, theirs} {
			b.write(name, "content of "+name, size)
		}
		b.want(0, "", "wal-archive", "main", filepath.Join(b.pgWAL(), ours))
		dest := filepath.Join(b.home, "theirs")
		r := b.barman("barman-cloud-wal-restore", "--endpoint-url", b.URL, "s3://bucket/some/where", "main", ours, dest)
		if got, err := os.ReadFile(dest); err != nil || r.Exit != 0 || !bytes.Equal(got, walSegment(t, ours, size, "content of "+ours)) {
			t.Errorf("%s: Barman does not read what we wrote: exit %d, %v\n%s%s", compression, r.Exit, err, r.Stdout, r.Stderr)
		}
		r = b.barman(append(append([]string{"barman-cloud-wal-archive", "--endpoint-url", b.URL}, flags...), "s3://bucket/some/where", "main", filepath.Join(b.pgWAL(), theirs))...)
		if r.Exit != 0 {
			t.Errorf("%s: Barman does not archive: exit %d\n%s%s", compression, r.Exit, r.Stdout, r.Stderr)
		}
		dest = filepath.Join(b.home, "ours")
		b.want(0, "", "cloud-wal-restore", "main", theirs, dest)
		if got, err := os.ReadFile(dest); err != nil || !bytes.Equal(got, walSegment(t, theirs, size, "content of "+theirs)) {
			t.Errorf("%s: we do not read what Barman wrote: %v", compression, err)
		}
		b.must(errors.Join(os.Remove(filepath.Join(b.home, "ours")), os.Remove(filepath.Join(b.home, "theirs"))))
		// To us it is archived, whatever we would write.
		b.configure(b.URL, "compression = gzip")
		b.want(0, "", "wal-archive", "main", filepath.Join(b.pgWAL(), theirs))
	}
	if got := b.stored(); len(got) != number {
		t.Errorf("stored: %v", got)
	}
	before := slices.Sorted(slices.Values(b.listed()))
	b.want(0, fmt.Sprintf("wal_file: %d", number), "rebuild-xlogdb", "main")
	if after := b.listed(); len(after) != number || !slices.Equal(before, after) {
		t.Errorf("listed: %v, then %v", before, after)
	}
	b.want(0, "", "check-archived-wal-range", "main", segmentName(2), segmentName(number+1))
	b.want(1, segmentName(number+2), "check-archived-wal-range", "main", segmentName(2), segmentName(number+2))
	b.want(1, "the archive is not empty", "check-wal-archive", "main")
	b.want(0, segmentName(4), "get-wal", "main", segmentName(2), "--peek", "5")
	b.server()
	b.write("00000002.history", "1\t0/5000000\tno recovery target specified\n", 0)
	partial := b.write(segmentName(40)+".partial", "half", size)
	for _, path := range []string{"00000002.history", segmentName(40) + ".partial"} {
		b.want(0, "", "cloud-wal-archive", "main", filepath.Join(b.pgWAL(), path))
	}
	dest := filepath.Join(b.home, "dest")
	b.want(0, "", "wal-restore", "main", "00000002.history", dest)
	b.want(1, "", "wal-restore", "main", "00000003.history", dest)
	b.want(1, "", "wal-restore", "main", segmentName(40), dest)
	for _, args := range [][]string{{"wal-restore", "--partial"}, {"cloud-wal-restore"}} {
		b.want(0, "", append(args, "main", segmentName(40), dest)...)
		got, err := os.ReadFile(dest)
		want, err2 := os.ReadFile(partial)
		if err := errors.Join(err, err2); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: %v", args, err)
		}
	}
	b.want(1, "", "cloud-wal-restore", "--partial=false", "main", segmentName(40), dest)
}

// server lets Barman's server read a segment of ours, and write one for us.
func (b *walBucket) server() {
	b.t.Helper()
	conf, ours, theirs := filepath.Join(b.home, "barman.conf"), segmentName(2), segmentName(60)
	b.must(os.WriteFile(conf, fmt.Appendf(nil, "[barman]\nbarman_home = %[1]s\nbarman_user = root\nlog_file = %[1]s/barman.log\n[main]\nbackup_method = local-to-cloud\narchiver = on\nconninfo = host=/nowhere\n"+
		"wals_directory = s3://bucket/some/where\nbasebackups_directory = s3://bucket/some/where\ncompression = zstd\n", b.home), 0o644))
	dest := filepath.Join(b.home, "served")
	for _, args := range [][]string{{"cloud-wal-restore", "main", ours, dest}, {"cloud-wal-archive", "main", b.write(theirs, "content of "+theirs, 1<<20)}} {
		if r := b.barman(append([]string{"AWS_ENDPOINT_URL=" + b.URL, "barman", "-c", conf}, args...)...); r.Exit != 0 {
			b.t.Errorf("barman %v: exit %d\n%s%s", args, r.Exit, r.Stdout, r.Stderr)
		}
	}
	if got, err := os.ReadFile(dest); err != nil || !bytes.Equal(got, walSegment(b.t, ours, 1<<20, "content of "+ours)) {
		b.t.Errorf("Barman's server does not read what we wrote: %v", err)
	}
	b.want(0, "", "wal-restore", "main", theirs, dest)
	if got, err := os.ReadFile(dest); err != nil || !bytes.Equal(got, walSegment(b.t, theirs, 1<<20, "content of "+theirs)) {
		b.t.Errorf("we do not read what Barman's server wrote: %v", err)
	}
}

// bent is a way to the store where answers can be bent.
func (b *walBucket) bent(bend func(w http.ResponseWriter, r *http.Request, forward http.Handler)) string {
	b.t.Helper()
	return bent(b.t, b.URL, bend)
}

// bent is a way to a server of a store where answers can be bent, until the test ends.
func bent(t testing.TB, server string, bend func(w http.ResponseWriter, r *http.Request, forward http.Handler)) string {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { bend(w, r, forward) }))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

// TestTroubleWithABucket: whatever happens, 0 means that the segment is there, and its
// line; and the next try cures what can be cured.
func TestTroubleWithABucket(t *testing.T) {
	t.Parallel()
	b := newBucket(t, "compression = zstd")
	seg := func(n int) string { return b.write(segmentName(n), "content", 1<<20) }

	var lose atomic.Int32
	proxy := b.bent(func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if r.Method == http.MethodPut && lose.Add(-1) >= 0 {
			forward.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		forward.ServeHTTP(w, r)
	})
	b.configure(proxy, "compression = zstd")
	lose.Store(1)
	b.want(0, "", "wal-archive", "main", seg(1))
	if lose.Load() >= 0 || !slices.Equal(b.listed(), []string{segmentName(1)}) || !slices.Equal(b.stored(), []string{segmentName(1) + ".zst"}) {
		t.Errorf("a lost answer: %v, %v", b.listed(), b.stored())
	}

	b.configure(b.URL, "compression = zstd")
	other := b.write(segmentName(1), "other", 1<<20)
	b.want(1, segmentName(1)+".zst has 1048576 bytes", "wal-archive", "main", other)

	key := b.env["AWS_SECRET_ACCESS_KEY"]
	b.env["AWS_SECRET_ACCESS_KEY"] = "wrong"
	b.want(1, "HINT", "wal-archive", "main", seg(2))
	b.want(126, "HINT", "wal-restore", "main", segmentName(1), filepath.Join(b.home, "dest"))
	b.env["AWS_SECRET_ACCESS_KEY"] = key
	b.want(0, "", "wal-archive", "main", seg(2))

	t.Run("two at once", func(t *testing.T) {
		for n := 10; n < 14; n++ {
			paths := []string{seg(n), filepath.Join(b.home, segmentName(n))}
			same := n%2 == 0
			b.must(os.WriteFile(paths[1], walSegment(t, segmentName(n), 1<<20, map[bool]string{true: "content", false: "other"}[same]), 0o600))
			var codes [2]int
			var both sync.WaitGroup
			for i, path := range paths {
				both.Go(func() { _, codes[i] = b.run("wal-archive", "main", path) })
			}
			both.Wait()
			if want := map[bool]int{true: 0, false: 1}[same]; codes[0]+codes[1] != want {
				t.Errorf("%d: exit codes %v", n, codes)
			}
		}
	})

	t.Run("killed", func(t *testing.T) {
		// Held at each request in turn, before and after it reaches the store.
		for n := range 4 {
			reached := make(chan bool, 1)
			var requests atomic.Int32
			proxy := b.bent(func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
				if int(requests.Add(1))-1 == n/2 {
					if n%2 == 1 {
						forward.ServeHTTP(httptest.NewRecorder(), r)
					}
					_, _ = io.Copy(io.Discard, r.Body) // only then the end of the connection is noticed
					reached <- true
					<-r.Context().Done()
					return
				}
				forward.ServeHTTP(w, r)
			})
			b.configure(proxy, "compression = zstd")
			path := seg(20 + n)
			cmd, out := b.command("wal-archive", "main", path)
			b.must(cmd.Start())
			select {
			case <-reached:
			case <-time.After(time.Minute):
				t.Fatal("it asks for nothing")
			}
			b.must(cmd.Process.Kill())
			if err := cmd.Wait(); cmd.ProcessState.ExitCode() != -1 {
				t.Errorf("%v: %s", err, out)
			}
			if slices.Contains(b.listed(), segmentName(20+n)) {
				t.Errorf("%d: listed before it was known to be durable", n)
			}
			b.configure(b.URL, "compression = gzip")
			b.want(0, "", "wal-archive", "main", path)
			b.want(0, "", "wal-archive", "main", path)
			if got := slices.DeleteFunc(b.listed(), func(name string) bool { return name != segmentName(20+n) }); len(got) != 1 {
				t.Errorf("%d: listed %v", n, got)
			}
		}
	})

	t.Run("away", func(t *testing.T) {
		path := seg(30)
		b.Kill(t)
		began := time.Now()
		b.want(1, "give up after 20s", "wal-archive", "main", path)
		if took := time.Since(began); took > 40*time.Second {
			t.Errorf("it gave up after %s", took)
		}
		b.Start(t)
		b.want(0, "", "wal-archive", "main", path)
	})
	for _, name := range b.listed() {
		if !slices.ContainsFunc(b.stored(), func(object string) bool { return strings.HasPrefix(object, name) }) {
			t.Errorf("%s is listed and not there", name)
		}
	}
}

// TestWALAheadOfPostgreSQL: 100 segments in both directions, ahead, with nothing lost,
// doubled or out of order, and with far fewer waits.
func TestWALAheadOfPostgreSQL(t *testing.T) {
	t.Parallel()
	b := newBucket(t, "")
	var waits atomic.Int32 // processes that asked the store for anything
	proxy := b.bent(func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		waits.Store(1)
		forward.ServeHTTP(w, r)
	})
	b.configure(proxy, "compression = lz4\ncloud_wal_archive_parallel = 8\ncloud_wal_restore_parallel = 8")
	const n, size = 100, 1 << 20
	status := func(name, suffix string) string { return filepath.Join(b.pgWAL(), "archive_status", name+suffix) }
	for i := 1; i <= n; i++ {
		b.write(segmentName(i), "content of "+segmentName(i), size)
		b.must(os.WriteFile(status(segmentName(i), ".ready"), nil, 0o600))
	}
	waited := 0
	for i := 1; i <= n; i++ {
		waits.Store(0)
		b.want(0, "", "wal-archive", "main", filepath.Join(b.pgWAL(), segmentName(i)))
		waited += int(waits.Load())
		if !slices.Contains(b.stored(), segmentName(i)+".lz4") {
			t.Fatalf("%s is not there", segmentName(i))
		}
		b.must(os.Rename(status(segmentName(i), ".ready"), status(segmentName(i), ".done")))
	}
	if listed := slices.Sorted(slices.Values(b.listed())); waited != 13 || len(listed) != n || len(slices.Compact(listed)) != n || len(b.stored()) != n {
		t.Errorf("%d of %d waited; listed %d, stored %d", waited, n, len(b.listed()), len(b.stored()))
	}
	waited = 0
	dest := filepath.Join(b.home, "data/pg_wal/RECOVERYXLOG")
	b.must(os.MkdirAll(filepath.Dir(dest), 0o700))
	for i := 1; i <= n; i++ {
		waits.Store(0)
		b.want(0, "", "wal-restore", "main", segmentName(i), dest)
		waited += int(waits.Load())
		if got, err := os.ReadFile(dest); err != nil || !bytes.Equal(got, walSegment(t, segmentName(i), size, "content of "+segmentName(i))) {
			t.Fatalf("%s: %v", segmentName(i), err)
		}
	}
	b.want(1, "", "wal-restore", "main", segmentName(n+1), dest)
	if left := files(t, filepath.Dir(dest)); waited != 13 || len(left) != 1 {
		t.Errorf("%d of %d waited; left: %v", waited, n, left)
	}
}

// TestKilledAhead: of what was on its way when the process died nothing counts as archived.
func TestKilledAhead(t *testing.T) {
	t.Parallel()
	b := newBucket(t, "")
	var once sync.Once
	reached := make(chan bool)
	proxy := b.bent(func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, segmentName(2)) {
			_, _ = io.Copy(io.Discard, r.Body)
			once.Do(func() { close(reached) })
			<-r.Context().Done()
			return
		}
		forward.ServeHTTP(w, r)
	})
	b.configure(proxy, "compression = zstd\ncloud_wal_archive_parallel = 4")
	var paths []string
	for n := range 3 {
		paths = append(paths, b.write(segmentName(n+1), "content", 1<<20))
		b.must(os.WriteFile(filepath.Join(b.pgWAL(), "archive_status", segmentName(n+1)+".ready"), nil, 0o600))
	}
	cmd, _ := b.command("wal-archive", "main", paths[0])
	b.must(cmd.Start())
	select {
	case <-reached:
	case <-time.After(time.Minute):
		t.Fatal("nothing is archived ahead")
	}
	for deadline := time.Now().Add(time.Minute); len(b.listed()) < 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("one that hangs keeps the others from being archived: %v", b.listed())
		}
	}
	b.must(cmd.Process.Kill())
	_ = cmd.Wait()
	b.configure(b.URL, "compression = zstd\ncloud_wal_archive_parallel = 4")
	for n, path := range paths {
		b.want(0, "", "wal-archive", "main", path)
		if !slices.Contains(b.stored(), segmentName(n+1)+".zst") || !slices.Contains(b.listed(), segmentName(n+1)) {
			t.Errorf("%s is not there: %v, %v", segmentName(n+1), b.stored(), b.listed())
		}
	}
	if got := b.listed(); len(got) != 3 {
		t.Errorf("listed: %v", got)
	}
}

// walSegment is a segment of PostgreSQL 18 whose first page is right.
func walSegment(t testing.TB, name string, size int, fill string) []byte {
	t.Helper()
	seg, err := wal.ParseSegment(name, uint64(size))
	if err != nil {
		t.Fatal(err)
	}
	return waltest.Segment(seg, 0, fill)
}
