package catalog_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/catalog"
)

// thousands makes a catalogue of n backups, a minute apart.
func thousands(t testing.TB, n int) *catalog.Catalog {
	t.Helper()
	d := t.TempDir()
	c := catalog.Open(catalog.Layout{Server: "main", BaseDir: filepath.Join(d, "base"), MetaDir: filepath.Join(d, "meta")})
	sample, err := os.ReadFile("../backupinfo/testdata/rsync-concurrent.backup.info")
	if err != nil {
		t.Fatal(err)
	}
	sample = bytes.Replace(sample, []byte("server_name=loc"), []byte("server_name=main"), 1)
	if err := os.Mkdir(c.MetaDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		id := backup.NewID(time.Date(2026, 1, 1, 0, i, 0, 0, time.UTC))
		if err := os.WriteFile(c.InfoPath(id), sample, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(c.BackupDirOf(id), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func BenchmarkList(b *testing.B) {
	c := thousands(b, 10000)
	for b.Loop() {
		all, warnings, err := c.List()
		if err != nil || len(all) != 10000 || len(warnings) > 0 {
			b.Fatal(len(all), warnings, err)
		}
	}
}
