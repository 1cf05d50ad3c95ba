//go:build integration

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

const (
	listedFiles  = 100_000
	listedMemory = 150_000_000 // bytes, at most, of the process that copies
	mostLinks    = 60_000      // of one file; ext4 allows 65,000
)

// fileList puts small files into the data directory, as many tables have: links, which are made faster.
func fileList(t *testing.T, c *pgtest.Cluster, n int) {
	t.Helper()
	dir := filepath.Join(c.DataDir, "base", c.Value(t, "(select min(oid) from pg_database)"))
	page := make([]byte, 8192)
	var first string
	for i := range n {
		path := filepath.Join(dir, fmt.Sprint(3_000_000_000+i))
		var err error
		if i%mostLinks != 0 {
			err = os.Link(first, path)
		} else {
			first, err = path, os.WriteFile(path, page, 0o600)
			if cred := pgtest.Credential(t); cred != nil {
				err = errors.Join(err, os.Chown(path, int(cred.Uid), int(cred.Gid)))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestAHundredThousandFiles: the process that copies needs no more memory for many files than for a few large
// ones, be they read for the first time, compared with the backup before, or not read at all.
func TestAHundredThousandFiles(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	settings := func(reuse string) []string {
		return []string{"basebackups_directory = " + cloudURL, "holdfast_endpoint_url = " + c.URL, "parallel_jobs = 2", "holdfast_cloud_reuse = " + reuse}
	}
	b := newBedWith(t, stacktest.Options{Version: pgtest.Versions()[0], Method: config.MethodLocalToCloud, Env: c.Environment(), Settings: settings("checksum")})
	b.cloud = c
	fileList(t, b.Cluster, listedFiles)
	for _, reuse := range []string{"checksum", "checksum", "mtime"} {
		b.Configure(t, config.MethodLocalToCloud, settings(reuse)...)
		b.backup(t)
		rss := b.PeakRSS(t, "copy")
		t.Logf("%s: %d MB", reuse, rss/1e6)
		if rss > listedMemory {
			t.Errorf("the copying process needed %d MB", rss/1e6)
		}
	}
}
