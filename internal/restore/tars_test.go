package restore_test

import (
	"archive/tar"
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/restore"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// packed is the same backup as pg_basebackup stores it with --format=tar.
func packed(t *testing.T, src restore.Source) restore.Source {
	t.Helper()
	dir := filepath.Join(filepath.Dir(filepath.Dir(src.Data)), "packed", filepath.Base(filepath.Dir(src.Data)), "data")
	var list bytes.Buffer
	w := manifest.NewWriter(&list, 7)
	pack(t, filepath.Join(dir, "base.tar.gz"), src.Data, "", w)
	pack(t, filepath.Join(dir, "16384.tar.gz"), src.TableDirs[16384], "pg_tblspc/16384/", w)
	_, err := w.Close(nil)
	check(t, err)
	write(t, filepath.Join(dir, manifest.Name), list.String())
	src.Data, src.TableDirs = dir, map[uint32]string{}
	return src
}

func pack(t *testing.T, path, dir, below string, list *manifest.Writer) {
	t.Helper()
	c, err := codec.New("gzip", "low")
	check(t, err)
	var out bytes.Buffer
	z, err := c.NewWriter(&out)
	check(t, err)
	w := tar.NewWriter(z)
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		link, _ := os.Readlink(path)
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		if h.Name, err = filepath.Rel(dir, path); err != nil {
			return err
		}
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
		f := manifest.File{Path: below + h.Name, Size: info.Size(), Modified: time.Now(), Algorithm: manifest.SHA256}
		sum := f.Algorithm.New()
		sum.Write(content)
		f.Checksum = sum.Sum(nil)
		return list.Add(f)
	}))
	check(t, w.Close())
	check(t, z.Close())
	write(t, path, out.String())
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestDamagedTarsLeaveNothing: what cannot be unpacked to its end is not restored.
func TestDamagedTarsLeaveNothing(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(dir string) error
		says   string
	}{
		"cut":           {func(dir string) error { return os.Truncate(filepath.Join(dir, "base.tar.gz"), 100) }, "base.tar.gz"},
		"end cut":       {func(dir string) error { return cutEnd(filepath.Join(dir, "16384.tar.gz")) }, "16384.tar.gz"},
		"no tablespace": {func(dir string) error { return os.Remove(filepath.Join(dir, "16384.tar.gz")) }, "16384"},
		"no manifest":   {func(dir string) error { return os.Remove(filepath.Join(dir, manifest.Name)) }, manifest.Name},
		"no control file": {func(dir string) error {
			return os.Rename(filepath.Join(dir, "16384.tar.gz"), filepath.Join(dir, "base.tar.gz"))
		}, "16384"},
	} {
		t.Run(name, func(t *testing.T) {
			src, arch, root := sample(t)
			src = packed(t, src)
			check(t, c.damage(src.Data))
			dest := filepath.Join(root, "restored")
			plan, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: dest}, arch)
			check(t, err)
			_, err = restore.Run(context.Background(), src, plan, restore.Options{Jobs: 2})
			if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			left, _ := filepath.Glob(filepath.Join(root, "*restore*"))
			hidden, _ := filepath.Glob(filepath.Join(root, ".*restore*"))
			if len(left)+len(hidden) > 0 {
				t.Errorf("left behind: %v %v", left, hidden)
			}
		})
	}
}

// TestInterruptedUnpacking: nothing is left, and what a killed restore leaves is
// no obstacle to the next one.
func TestInterruptedUnpacking(t *testing.T) {
	src, arch, root := sample(t)
	src = packed(t, src)
	dest := filepath.Join(root, "restored")
	plan, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: dest}, arch)
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	built := filepath.Join(root, ".restored.holdfast-restore")
	kept := filepath.Join(root, "kept")
	if _, err := restore.Run(ctx, src, plan, restore.Options{Progress: func(done, _ int64) {
		if ctx.Err() == nil {
			check(t, os.CopyFS(kept, os.DirFS(built)))
			cancel()
		}
	}}); err == nil {
		t.Fatal("an interrupted restore ended well")
	}
	for _, path := range []string{dest, built, src.Info.Tablespaces[0].Location} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s was left behind", path)
		}
	}
	check(t, os.Rename(kept, built))
	if _, err := restore.Run(context.Background(), src, plan, restore.Options{}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dest, "global/pg_control")); err != nil || string(got) != "control" {
		t.Errorf("%q, %v", got, err)
	}
}

func cutEnd(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, info.Size()-4)
}
