//go:build integration

package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// TestDamageInAStore: in a store that keeps no checksums the verification and the restore name the archive in which a
// bit was flipped, that is missing, or that is another one's, and nothing is restored.
func TestDamageInAStore(t *testing.T) {
	t.Parallel()
	store := pgtest.Dir(t)
	b := newBedWith(t, stacktest.Options{Version: pgtest.Versions()[1], Method: config.MethodLocalToCloud, SegmentMB: 1,
		Settings: []string{"basebackups_directory = file://" + store, "parallel_jobs = 2", "holdfast_cloud_volume_size = 8Mi"}})
	b.Cluster.Exec(t, "CREATE TABLE large AS SELECT i, sha512(i::text::bytea) FROM generate_series(1, 150000) i")
	b.Cluster.Exec(t, "VACUUM (FREEZE) large")
	first := b.backup(t)
	b.Cluster.Exec(t, "UPDATE large SET i = -i WHERE i % 10000 = 0")
	b.rows = b.Cluster.Fingerprint(t)
	second := b.backup(t)
	root := filepath.Join(store, stacktest.Server, "base")
	old, dir := filepath.Join(root, string(first.ID)), filepath.Join(root, string(second.ID))
	archives, err := filepath.Glob(filepath.Join(dir, "*.tar.zst"))
	if err != nil || len(archives) < 5 {
		t.Fatalf("%q %v", archives, err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	damaged := func(what, name string) {
		t.Helper()
		dest := filepath.Join(pgtest.Dir(t), "restored")
		for _, args := range [][]string{
			{"verify-backup", stacktest.Server, string(second.ID)},
			{"restore", stacktest.Server, string(second.ID), dest, "--tablespace", "odd name's:" + dest + "-ts"},
		} {
			if r := b.Holdfast(t, args...); r.Code != 1 || !strings.Contains(r.Stderr, name) {
				t.Errorf("%s: %s: exit code %d does not name %s: %s%s", what, args[0], r.Code, name, r.Stdout, r.Stderr)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(dest), "*")); len(left) > 0 {
			t.Errorf("%s: %q is left", what, left)
		}
	}
	whole := map[string][]byte{}
	for _, path := range archives {
		name := filepath.Base(path)
		whole[name], err = os.ReadFile(path)
		must(err)
		bad := slices.Clone(whole[name])
		at := rand.IntN(len(bad))
		bad[at] ^= 1 << rand.IntN(8)
		must(os.WriteFile(path, bad, 0o644))
		damaged("a flipped bit of "+name, "base/"+string(second.ID)+"/"+name)
		must(os.Remove(path))
		damaged("no "+name, "base/"+string(second.ID)+"/"+name+" is missing")
		must(os.WriteFile(path, whole[name], 0o644))
	}
	replaced := 0
	for _, path := range archives {
		name := filepath.Base(path)
		another, err := os.ReadFile(filepath.Join(old, name))
		if err != nil || bytes.Equal(another, whole[name]) {
			continue
		}
		replaced++
		must(os.WriteFile(path, another, 0o644))
		damaged(name+" of the backup before", "base/"+string(second.ID)+"/"+name)
		must(os.WriteFile(path, whole[name], 0o644))
	}
	if replaced < 2 {
		t.Errorf("%d archives were replaced", replaced)
	}
	one, two := filepath.Join(dir, "data_0001.tar.zst"), filepath.Join(dir, "data_0002.tar.zst")
	swap := func() error {
		return errors.Join(os.Rename(one, one+".x"), os.Rename(two, one), os.Rename(one+".x", two))
	}
	must(swap())
	damaged("swapped", "base/"+string(second.ID)+"/data_000")
	must(swap())
	b.Must(t, "verify-backup", stacktest.Server, string(second.ID))
	b.verify(t, second, 1)
}
