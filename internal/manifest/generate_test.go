package manifest_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
)

func TestGenerate(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"PG_VERSION": "18\n", "base/1/2": "rows", "base/1/empty": "", "odd\nname\xff": "x", "backup_manifest": "old", ".holdfast-tmp-backup_manifest-1": "half"} {
		write(t, filepath.Join(dir, name), content)
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var read int64
	sum, err := manifest.Generate(t.Context(), dir, 7, &out, func(n int64) { read += n })
	if err != nil || sum.Files != 4 || sum.Bytes != 8 || read != 8 || sum.Version != 2 {
		t.Fatalf("%+v, %d, %v", sum, read, err)
	}
	for _, name := range []string{"link", ".holdfast-tmp-backup_manifest-1"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "backup_manifest"), out.String())
	verify := func() manifest.Report {
		t.Helper()
		r, err := manifest.Verify(t.Context(), filepath.Join(dir, "backup_manifest"), manifest.Dirs{Data: dir}, manifest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := verify(); r.Err("") != nil || r.Summary.SHA256 != sum.SHA256 {
		t.Errorf("%+v", r)
	}
	write(t, filepath.Join(dir, "base/1/2"), "Rows")
	if r := verify(); r.Bad != 1 {
		t.Errorf("%+v", r)
	}
	ended, end := context.WithCancelCause(t.Context())
	end(errors.New("enough"))
	if _, err := manifest.Generate(ended, dir, 0, &out, nil); !fault.Is(err, fault.Cancelled) {
		t.Errorf("%v", err)
	}
}
