//go:build integration

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// counting leads to a store, and counts the requests.
func counting(b *testing.B, store *storetest.Gateway) (at string, requests *atomic.Int64) {
	b.Helper()
	to, err := url.Parse(store.URL)
	if err != nil {
		b.Fatal(err)
	}
	requests = new(atomic.Int64)
	forward := &httputil.ReverseProxy{Transport: store.Client().Transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to); r.Out.Host = r.In.Host }}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		forward.ServeHTTP(w, r)
	}))
	b.Cleanup(proxy.Close)
	return proxy.URL, requests
}

// gigabytes fills a table, so that it and its index have so many.
func (g *giant) gigabytes(b *testing.B, n int) {
	g.Cluster.Fill(b, "big", "", n*large/3)
	g.Cluster.Exec(b, "VACUUM (FREEZE) big") // or the first reader changes every page
	g.rest(b)
}

// rest waits until what was changed is written and its WAL archived, neither of which a backup is to wait for.
func (g *giant) rest(b *testing.B) {
	g.Cluster.Exec(b, "checkpoint")
	g.Must(b, "switch-wal", stacktest.Server, "--force", "--archive")
}

// files puts small files into the data directory, as many tables have.
func (g *giant) files(b *testing.B, n int) {
	database := g.Cluster.Value(b, "(select min(oid) from pg_database)")
	cred := pgtest.Credential(b)
	page := make([]byte, 8192)
	for i := range n {
		path := filepath.Join(g.Cluster.DataDir, "base", database, fmt.Sprint(3_000_000_000+i))
		err := os.WriteFile(path, page, 0o600)
		if err == nil && cred != nil {
			err = os.Chown(path, int(cred.Uid), int(cred.Gid))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCloudSizes takes backups of clusters of several sizes, over TLS: a first one, one of what has not
// changed, and one after 2 % of the rows, in ranges all over the table, have, with two jobs. Metrics: seconds, requests
// (counted in a first backup of their own), bytes sent, and the peak memory of the process that copies.
func BenchmarkCloudSizes(b *testing.B) {
	for _, c := range []struct {
		name string
		fill func(g *giant, b *testing.B)
		rows bool
	}{
		{"1GB", func(g *giant, b *testing.B) { g.gigabytes(b, 1) }, true},
		{"3GB", func(g *giant, b *testing.B) { g.gigabytes(b, 3) }, true},
		{"6GB", func(g *giant, b *testing.B) { g.gigabytes(b, 6) }, true},
		{"10000-files", func(g *giant, b *testing.B) { g.files(b, 10_000) }, false},
		{"100000-files", func(g *giant, b *testing.B) { g.files(b, 100_000) }, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			store := storetest.StartBenchGateway(b, cloudBucket)
			g := newGiantWith(b, stacktest.Options{Version: pgtest.Versions()[0], Env: store.Environment()})
			configure := func(endpoint, reuse string) {
				g.Configure(b, config.MethodLocalToCloud, "basebackups_directory = "+cloudURL, "holdfast_endpoint_url = "+endpoint, "holdfast_cloud_reuse = "+reuse, "parallel_jobs = 2")
			}
			c.fill(g, b)
			at, requests := counting(b, store)
			configure(at, "off")
			before := requests.Load()
			g.take(b)
			asked := requests.Load() - before
			g.Must(b, "delete", stacktest.Server, "latest")
			rounds := 0
			for b.Loop() {
				if rounds++; rounds > 1 {
					b.Skip("it is one round")
				}
				sent := map[string]int64{}
				times := map[string]time.Duration{}
				take := func(name, reuse string) {
					settle(b)
					configure(store.URL, reuse)
					whole, _, info := g.take(b)
					extra, err := g.cat.Extra(info.ID)
					if err != nil {
						b.Fatal(err)
					}
					times[name], sent[name] = whole, extra.Sent
				}
				take("first", "off")
				take("checksum", "checksum")
				take("mtime", "mtime")
				if c.rows {
					// Twenty ranges of a thousandth each.
					g.Cluster.Exec(b, "UPDATE big SET payload = repeat(md5(id::text), 8) WHERE id % ((SELECT max(id) FROM big) / 20) < (SELECT max(id) FROM big) / 1000")
					g.rest(b)
					take("changed", "checksum")
				}
				for name := range times {
					b.ReportMetric(times[name].Seconds(), name+"-s")
					b.ReportMetric(float64(sent[name])/1e6, name+"-sent-MB")
				}
			}
			b.ReportMetric(float64(asked), "requests")
			b.ReportMetric(float64(g.PeakRSS(b, "copy"))/1e6, "copy-MB")
		})
	}
}
