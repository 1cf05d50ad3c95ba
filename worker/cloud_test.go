//go:build integration

package main

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// cloud is the object store that has a bed's backups.
type cloud struct {
	*storetest.Gateway
	proxy *httptest.Server

	mu    sync.Mutex
	came  map[string]int                                           // by the object's path
	cuts  atomic.Int64                                             // how many volumes are not read to their end
	fault func(w http.ResponseWriter, r *http.Request) (done bool) // answers instead of the store; nil for never
}

const (
	cloudBucket = "backups"
	cloudURL    = "s3://" + cloudBucket + "/some/where"
)

// newCloudBed takes backups straight into an object store; the settings are the server's.
func newCloudBed(t *testing.T, version string, settings ...string) *bed {
	c := newCloud(t)
	b := newBedWith(t, stacktest.Options{Version: version, Method: config.MethodLocalToCloud, Env: c.Environment(), Settings: append(c.settings(), settings...)})
	b.cloud = c
	return b
}

func newCloud(t *testing.T, more ...string) *cloud {
	c := &cloud{Gateway: storetest.StartGateway(t, append(more, cloudBucket)...), came: map[string]int{}}
	c.watch(t)
	return c
}

func (c *cloud) settings() []string {
	return []string{"basebackups_directory = " + cloudURL, "holdfast_endpoint_url = " + c.proxy.URL, "holdfast_cloud_volume_size = 8Mi"}
}

// watch counts, between the bed and the store, the objects of backups that came.
func (c *cloud) watch(t *testing.T) {
	to, err := url.Parse(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host },
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Method == http.MethodGet && strings.Contains(r.Request.URL.Path, "_0") && c.cuts.Add(-1) >= 0 {
				r.Body = cutOff{r.Body, io.MultiReader(io.LimitReader(r.Body, 1000), iotest.ErrReader(io.ErrUnexpectedEOF))}
			}
			q := r.Request.URL.Query()
			whole := r.Request.Method == http.MethodPut && !q.Has("partNumber") || r.Request.Method == http.MethodPost && q.Has("uploadId")
			if whole && r.StatusCode == http.StatusOK && strings.Contains(r.Request.URL.Path, ".tar.zst") {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.came[r.Request.URL.Path]++
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }} // a client that was killed
	c.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		fault := c.fault
		c.mu.Unlock()
		if fault == nil || !fault(w, r) {
			forward.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(c.proxy.Close)
}

// cutOff ends in the middle.
type cutOff struct {
	io.Closer
	io.Reader
}

// twice are the volumes that came more than once.
func (c *cloud) twice() (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, n := range c.came {
		// The archives of directories and the records are made again, which costs little; so are the
		// objects that the parts of a volume are woven of.
		if name := filepath.Base(path); n > 1 && strings.Contains(name, "_") && !strings.Contains(name, ".part-") {
			out = append(out, path)
		}
	}
	return out
}

// slowStore is slow for what is compressed.
var slowStore = []string{"--bwlimit", "500"}

// begun reports whether some volumes of a backup are stored.
func (c *cloud) begun(b *bed, id backup.ID) bool {
	records, err := filepath.Glob(filepath.Join(b.cat.WorkDir(id), "run-volumes", "*.record"))
	return err == nil && len(records) > 1
}

// keys are those of the objects of a backup, and of what is left of uploads.
func (c *cloud) keys(t *testing.T, id backup.ID) []string {
	t.Helper()
	var out []string
	root := c.Data(cloudBucket)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.Contains(path, string(id)) || strings.Contains(path, ".sgwtmp")) {
			out = append(out, strings.TrimPrefix(path, root))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// removed deletes a backup, and looks whether anything of it is left.
func (c *cloud) removed(t *testing.T, b *bed, id backup.ID) {
	t.Helper()
	b.Must(t, "delete", stacktest.Server, string(id))
	if left := c.keys(t, id); len(left) > 0 {
		t.Errorf("left in the store: %q", left)
	}
	if again := c.twice(); len(again) > 0 {
		t.Errorf("sent twice: %q", again)
	}
}

// env is the beginning of a shell command that has the credentials of the store.
func (c *cloud) env() string { return shellEnv(c.Environment()) }

func shellEnv(environment map[string]string) string {
	out := []string{"env"}
	for name, value := range environment {
		if strings.HasSuffix(name, "_FILE") {
			value = "/nonexistent/aws" // PostgreSQL's user may not look into the test's directory
		}
		out = append(out, fmt.Sprintf(`"%s=%s"`, name, value))
	}
	return strings.Join(out, " ")
}

// barmanCloud is Barman's cloud tools, in the judge's tree.
type barmanCloud struct {
	env     map[string]string // of the store
	options []string
}

func (c *cloud) judge() barmanCloud {
	env := c.Environment()
	env["AWS_ENDPOINT_URL"] = c.URL
	return barmanCloud{env: env}
}

// barman runs a command of the judge's tree with the credentials of the store.
func (c *cloud) barman(t *testing.T, visible []string, command ...string) string {
	t.Helper()
	return c.judge().run(t, visible, command...)
}

func (j barmanCloud) run(t *testing.T, visible []string, command ...string) string {
	t.Helper()
	args := []string{"env"}
	for name, value := range j.env {
		if value != "" && !strings.HasSuffix(name, "_FILE") {
			args = append(args, name+"="+value)
		}
	}
	cred := pgtest.Credential(t)
	if cred == nil {
		t.Fatal("Barman's tree needs root: run this test as root")
	}
	r := barmantest.RunAs(t, visible, int(cred.Uid), int(cred.Gid), slices.Concat(args, command, j.options)...)
	if r.Exit != 0 {
		t.Fatalf("%v: exit %d\n%s%s", command, r.Exit, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// judged has Barman list, show and restore a backup.
func (c *cloud) judged(t *testing.T, b *bed, id backup.ID) {
	t.Helper()
	for _, command := range [][]string{{"barman", "-c", b.Config, "list-backups", stacktest.Server}, {"barman", "-c", b.Config, "show-backup", stacktest.Server, string(id)},
		{"barman-cloud-backup-list", cloudURL, stacktest.Server}, {"barman-cloud-backup-show", cloudURL, stacktest.Server, string(id)}} {
		if out := c.barman(t, b.visible(), command...); !strings.Contains(out, string(id)) {
			t.Errorf("%v says %s", command, out)
		}
	}
	c.restoredByBarman(t, b, id)
}

// restoredByBarman restores a backup with Barman's own tool, while the source runs, and compares its rows.
func (c *cloud) restoredByBarman(t *testing.T, b *bed, id backup.ID) {
	t.Helper()
	c.judge().restored(t, b, id, cloudURL)
}

func (j barmanCloud) restored(t *testing.T, b *bed, id backup.ID, url string) {
	t.Helper()
	home := pgtest.Dir(t)
	dest := filepath.Join(home, "restored")
	j.run(t, []string{home}, "barman-cloud-restore", "--tablespace", "odd name's:"+dest+"-ts", url, stacktest.Server, string(id), dest)
	conf, err := os.OpenFile(filepath.Join(dest, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conf, "restore_command = '%s %s/holdfast -c %s wal-restore main %%f %%p'\nrecovery_target = 'immediate'\nrecovery_target_action = 'promote'\narchive_command = 'false'\n", shellEnv(j.env), b.Bin, b.Config)
	if err := conf.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dest, "recovery.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s := pgtest.NewFromDataDir(t, b.Cluster.Version, dest)
	if rows := s.Fingerprint(t); rows != b.rows {
		t.Error("what Barman restored has other rows than the source")
	}
	s.AmCheck(t)
	s.Stop(t, pgtest.Immediate)
}

// TestLocalToCloud: backups, each made out of the one before, are restored by us and
// by Barman's own tool after the earlier ones were deleted.
func TestLocalToCloud(t *testing.T) {
	t.Parallel()
	for i, version := range pgtest.AllVersions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			b := newCloudBed(t, version, []string{"holdfast_cloud_reuse = checksum", "holdfast_cloud_reuse = mtime"}[i%2])
			b.Cluster.Exec(t, "CREATE TABLE large AS SELECT i, sha512(i::text::bytea) FROM generate_series(1, 100000) i")
			b.Cluster.Exec(t, "VACUUM (FREEZE) large")
			b.rows = b.Cluster.Fingerprint(t)
			first := b.backup(t)
			b.cloud.judged(t, b, first.ID)
			b.Cluster.Exec(t, "UPDATE plain SET payload = 'changed' WHERE id < 500; CREATE TABLE born AS SELECT * FROM elsewhere")
			b.rows = b.Cluster.Fingerprint(t)
			second := b.backup(t)
			info, err := b.cat.Get(second.ID)
			extra, extraErr := b.cat.Extra(second.ID)
			if err != nil || extraErr != nil || extra.Sent == 0 || extra.Sent > *info.Size/2 {
				t.Errorf("of %d bytes %d were sent, %v, %v", *info.Size, extra.Sent, err, extraErr)
			}
			b.cloud.removed(t, b, first.ID)
			b.Must(t, "verify-backup", stacktest.Server, string(second.ID))
			b.cloud.judged(t, b, second.ID)
			b.verify(t, second, 0)
		})
	}
}

// TestACloudCopyIsResumed: whoever is killed in the middle, the same backup is DONE, and no
// volume was sent twice.
func TestACloudCopyIsResumed(t *testing.T) {
	t.Parallel()
	b := newCloudBed(t, pgtest.Versions()[1])
	for _, victim := range []string{"copy", "session"} {
		t.Run(victim, func(t *testing.T) {
			b.try(t, scenario{config.MethodLocalToCloud, b.Cluster.Version, victim, duringCopy}, slowStore...)
		})
	}
}

// TestAWeavingIsKilled: whoever copies is killed while the store puts parts together of what it has
// and what is sent; nothing of them is left, and the backup is whole.
func TestAWeavingIsKilled(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	b := newBedWith(t, stacktest.Options{Version: pgtest.Versions()[1], Method: config.MethodLocalToCloud, Env: c.Environment(), Settings: []string{
		"basebackups_directory = " + cloudURL, "holdfast_endpoint_url = " + c.proxy.URL, "autovacuum = off"}})
	b.cloud = c
	b.Cluster.Exec(t, "CREATE TABLE large AS SELECT i, sha512(i::text::bytea) FROM generate_series(1, 300000) i")
	b.Cluster.Exec(t, "VACUUM (FREEZE) large")
	b.backup(t)
	b.Cluster.Exec(t, "UPDATE large SET i = -i WHERE i % 30000 < 100")
	b.rows = b.Cluster.Fingerprint(t)
	var asked, kills atomic.Int64
	c.mu.Lock()
	c.fault = func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, ".part-") {
			if n := asked.Add(1); n == 2 || n == 12 {
				kills.Add(int64(b.Kill(t, "copy")))
			}
		}
		return false
	}
	c.mu.Unlock()
	got := b.backup(t)
	if kills.Load() != 2 {
		t.Errorf("%d processes were killed, in %d requests", kills.Load(), asked.Load())
	}
	for _, key := range c.keys(t, got.ID) {
		if strings.Contains(key, ".part-") {
			t.Errorf("%s is left", key)
		}
	}
	b.Must(t, "verify-backup", stacktest.Server, string(got.ID))
	b.verify(t, got, 1)
}

// TestBarmanReadsEveryCompression: what is not compressed with zstd is restored by Barman's own
// tool, too, while the source runs; zstd is in TestLocalToCloud. Barman cannot read snappy.
func TestBarmanReadsEveryCompression(t *testing.T) {
	t.Parallel()
	b := newCloudBed(t, pgtest.Versions()[1])
	for compression, suffix := range map[string]string{"none": ".tar", "gzip": ".tar.gz", "bzip2": ".tar.bz2", "lz4": ".tar.lz4"} {
		b.Configure(t, config.MethodLocalToCloud, append(b.cloud.settings(), "holdfast_cloud_compression = "+compression)...)
		taken := b.backup(t)
		for _, key := range b.cloud.keys(t, taken.ID) {
			if name := filepath.Base(key); strings.Contains(name, ".tar") && !strings.HasSuffix(name, suffix) && !strings.Contains(key, "/holdfast/") {
				t.Errorf("%s: %s", compression, key)
			}
		}
		b.cloud.restoredByBarman(t, b, taken.ID)
	}
}

// TestOtherStores: backups, the second made out of the first, and WAL beside them, in the stores of
// Google and Azure, as far as their emulators go.
func TestOtherStores(t *testing.T) {
	t.Parallel()
	google, azure := storetest.StartGoogle(t, cloudBucket), storetest.StartAzure(t, cloudBucket)
	for name, c := range map[string]struct {
		url    string
		env    map[string]string
		barman string // its name of the provider; the judge's tree has no client for Google, which Debian lacks
	}{
		"google": {url: "gs://" + cloudBucket + "/some/where", env: google.Environment()},
		"azure":  {"https://" + storetest.AzureAccount + ".blob.core.windows.net/" + cloudBucket + "/some/where", azure.Environment(), "azure-blob-storage"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBedWith(t, stacktest.Options{Version: pgtest.Versions()[1], Method: config.MethodLocalToCloud, Env: c.env,
				SegmentMB: 1, Settings: []string{"basebackups_directory = " + c.url, "wals_directory = " + c.url, "compression = zstd", "holdfast_cloud_volume_size = 8Mi"}})
			first := b.backup(t)
			b.Cluster.Exec(t, "UPDATE plain SET payload = 'changed' WHERE id < 500")
			b.rows = b.Cluster.Fingerprint(t)
			second := b.backup(t)

			name := b.begin(t, first)
			path := filepath.Join(pgtest.Dir(t), name)
			b.Must(t, "wal-restore", stacktest.Server, name, path)
			b.Must(t, "wal-archive", stacktest.Server, path) // what is there with this content
			segment, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			segment[len(segment)-1] ^= 1
			if err := os.WriteFile(path, segment, 0o644); err != nil {
				t.Fatal(err)
			}
			if r := b.Holdfast(t, "wal-archive", stacktest.Server, path); r.Code == 0 || !strings.Contains(r.Stderr, "holds another file of this name") {
				t.Errorf("another segment of a name that is taken: exit %d, %s", r.Code, r.Stderr)
			}
			b.Must(t, "delete", stacktest.Server, string(first.ID))
			if r := b.Holdfast(t, "wal-restore", stacktest.Server, name, path); r.Code != 1 {
				t.Errorf("WAL of the deleted backup: exit %d, %s", r.Code, r.Stderr)
			}
			b.Must(t, "wal-restore", stacktest.Server, b.begin(t, second), path)
			b.Must(t, "verify-backup", stacktest.Server, string(second.ID))
			b.verify(t, second, 0)
			if c.barman == "" {
				return
			}
			judge := barmanCloud{c.env, []string{"--cloud-provider", c.barman}}
			if list := judge.run(t, nil, "barman-cloud-backup-list", c.url, stacktest.Server); !strings.Contains(list, string(second.ID)) || strings.Contains(list, string(first.ID)) {
				t.Errorf("Barman lists %s", list)
			}
			judge.restored(t, b, second.ID, c.url)
		})
	}
}
