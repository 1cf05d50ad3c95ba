//go:build integration

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// manifestsOfRsync: an rsync backup has a manifest when it is asked for, at once or
// later, which is as good to Barman as its own.
func manifestsOfRsync(t *testing.T, b *bed) {
	id := b.backup(t, "--manifest").ID
	path := filepath.Join(b.cat.DataDir(id), manifest.Name)
	ours := entries(t, path)
	b.verifiable(t, id)
	b.Must(t, "verify-backup", stacktest.Server, string(id))
	if r := b.Holdfast(t, "generate-manifest", stacktest.Server, string(id)); r.Code != 4 || !strings.Contains(r.Stderr, path+" exists") {
		t.Errorf("exit code %d: %s", r.Code, r.Stderr)
	}

	unlink(t, path)
	if out := b.Must(t, "verify-backup", stacktest.Server, string(id)).Stdout; !strings.Contains(out, "the list of its copy") {
		t.Error(out)
	}
	b.Must(t, "generate-manifest", stacktest.Server, string(id))
	generated := entries(t, path)
	b.verifiable(t, id)

	unlink(t, path)
	b.barman(t, path, "generate-manifest", stacktest.Server, string(id))
	theirs := entries(t, path)
	if !slices.Equal(ours, theirs) || !slices.Equal(generated, theirs) {
		t.Errorf("the copy lists %d files, generate-manifest %d, Barman %d:\n%v\n%v\n%v", len(ours), len(generated), len(theirs), ours, generated, theirs)
	}
	if err := b.cat.Remove(b.recordsAsBarman(t, id)); err != nil {
		t.Error(err)
	}
	b.damaged(t, id, "PG_VERSION")
	if err := b.cat.Remove(id); err != nil {
		t.Error(err)
	}
}

// manifestsOfPostgres: verify-backup reads plain files and archives by
// PostgreSQL's own program.
func manifestsOfPostgres(t *testing.T, b *bed) {
	id := b.backup(t).ID
	b.verifiable(t, id)
	if out := b.Must(t, "verify-backup", stacktest.Server, string(id)).Stdout; !strings.Contains(out, "pg_verifybackup") {
		t.Error(out)
	}
	b.hasRestorePoint(t, id)
	if err := b.cat.Remove(b.recordsAsBarman(t, id)); err != nil {
		t.Error(err)
	}
	b.damaged(t, id, "PG_VERSION")
	if err := b.cat.Remove(id); err != nil {
		t.Error(err)
	}
}

// entries are what a manifest says of files, sorted.
func entries(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	if _, err := manifest.Read(f, path, func(f manifest.File) error {
		out = append(out, strings.Join([]string{f.Path, string(f.Algorithm), string(f.Checksum)}, " "))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// verifiable lets Barman verify a backup.
func (b *bed) verifiable(t *testing.T, id backup.ID) {
	t.Helper()
	b.barman(t, b.cat.DataDir(id), "verify-backup", stacktest.Server, string(id))
}

// damaged changes a file: Barman and we say so with the same exit code.
func (b *bed) damaged(t *testing.T, id backup.ID, name string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(b.cat.DataDir(id), name), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("X"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r := b.Holdfast(t, "verify-backup", stacktest.Server, string(id))
	cred := pgtest.Credential(t)
	theirs := barmantest.RunAs(t, b.visible(), int(cred.Uid), int(cred.Gid), "barman", "-c", b.Config, "verify-backup", stacktest.Server, string(id))
	if r.Code != 1 || theirs.Exit != 1 || !strings.Contains(r.Stderr, name) {
		t.Errorf("we end with %d, Barman with %d: %s", r.Code, theirs.Exit, r.Stderr)
	}
}

// hasRestorePoint looks for the restore point of a backup in the server's WAL.
func (b *bed) hasRestorePoint(t *testing.T, id backup.ID) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(b.Cluster.DataDir, "pg_wal", "0*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range segments {
		if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte("barman_"+string(id))) {
			return
		}
	}
	t.Errorf("no restore point barman_%s is in %v", id, segments)
}

func unlink(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestWritesIntoACopy: what a killed write has left beside the copied files is not
// taken for damage.
func TestWritesIntoACopy(t *testing.T) {
	t.Parallel()
	b := newBed(t, config.MethodLocalRsync, pgtest.Versions()[1])
	b.Configure(t, config.MethodLocalRsync, "autogenerate_manifest = true")
	for _, name := range []string{"backup_label", manifest.Name} {
		t.Run(name, func(t *testing.T) {
			before := b.count(t)
			var recording atomic.Bool
			var once sync.Once
			b.on(t, func(t testing.TB, _ int, point string) {
				if point == "before:RecordCopied" {
					recording.Store(true)
				}
				if recording.Load() && point == "file:rename:"+name {
					once.Do(func() { b.Kill(t, "copy") })
				}
			})
			got := b.backup(t)
			once.Do(func() { t.Error("nothing was killed") })
			b.verify(t, got, before)
		})
	}
}
