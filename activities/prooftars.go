package activities

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/pgcontrol"
)

// passing is called with each archive and with what reads it, when content is
// wanted for something else meanwhile.
type passing func(ctx context.Context, a basetar.Archive, read func(basetar.Archive) error) error

// readTars reads a backup that is kept as tar archives, to the last byte of
// each, without unpacking it. Unlike plain files, nobody may touch any of it.
func readTars(ctx context.Context, tars *basetar.Set, info *backupinfo.Info, progress func(int64), pass passing) (c content, err error) {
	check, err := manifest.NewChecker(filepath.Join(filepath.Dir(tars.Base.Path), manifest.Name))
	if err != nil {
		return c, err
	}
	for _, name := range tars.Others {
		if name != manifest.Name {
			check.Extra(name)
		}
	}
	known := map[uint32]bool{0: true}
	for _, t := range info.Tablespaces {
		known[t.OID] = true
	}
	var control []byte
	keep := map[string]func([]byte){
		"global/pg_control": func(b []byte) { control = b },
		"backup_label":      func(b []byte) { c.label = string(b) },
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for _, a := range tars.All() {
		if !known[a.OID] {
			check.Extra(filepath.Base(a.Path))
			continue
		}
		read := func(a basetar.Archive) error { return readTar(gctx, a, check, keep, progress) }
		g.Go(func() error {
			if pass != nil {
				return pass(gctx, a, read)
			}
			return read(a)
		})
	}
	if err := g.Wait(); err != nil {
		return c, err
	}
	if c.files, err = check.Report(); err == nil {
		err = c.files.Err(string(info.ID))
	}
	if err == nil {
		c.control, err = pgcontrol.Parse(control)
	}
	return c, err
}

// readTar compares the members of an archive with the manifest. Those of the
// data directory that are named in keep are handed over.
func readTar(ctx context.Context, a basetar.Archive, check *manifest.Checker, keep map[string]func([]byte), progress func(int64)) error {
	below := ""
	if a.OID != 0 {
		below, keep = fmt.Sprintf("pg_tblspc/%d/", a.OID), nil
	}
	buf := make([]byte, 256<<10)
	return a.Each(ctx, progress, func(m basetar.Member) error {
		info := m.FileInfo()
		switch take := keep[m.Name]; {
		case info.IsDir():
			return nil
		case !info.Mode().IsRegular():
			check.Extra(below + m.Name)
			return nil
		case take != nil:
			b, err := m.Small()
			if err != nil {
				return err
			}
			take(b)
			return check.File(m.Name, bytes.NewReader(b), buf)
		}
		return check.File(below+m.Name, io.Reader(m), buf)
	})
}
