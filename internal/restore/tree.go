package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// tree is one directory of the backup, or its archive, and where it goes.
type tree struct {
	id        string // of the backup
	src, dest string
	tars      []basetar.Archive // of the directory; nil for plain files
	stored    bool              // they are objects: what they expand to is not known
	what      string            // for people
	remedy    string            // when dest is taken
	build     string
	isData    bool
	staged    bool // it is combined with others before it is restored
	files     int64
	bytes     int64
	filter    *datadir.Filter // of a snapshot; nil when only what belongs to a backup is there
}

// inventory finds what a backup consists of, and how large it is; a combiner
// measures what it combines by itself.
func inventory(src Source, plan *restoreplan.Plan) ([]*tree, error) {
	archives, err := src.archives()
	if err != nil {
		return nil, err
	}
	id := string(src.Info.ID)
	trees := []*tree{{id: id, src: src.Data, dest: plan.Dest, isData: true, what: "the data directory", remedy: "name an empty or new directory", tars: archives[0]}}
	for _, t := range plan.Tablespaces {
		one := &tree{id: id, src: src.TableDirs[t.OID], dest: t.Dest, what: "tablespace " + t.Name, remedy: "give the tablespace an empty or new directory with --tablespace " + t.Name + ":DIR"}
		ok := one.src != ""
		if archives != nil {
			one.tars, ok = archives[t.OID]
		}
		if !ok {
			return nil, fault.New(fault.Corrupt, "restore", id, "the backup has no files of tablespace %s (%d)", t.Name, t.OID)
		}
		trees = append(trees, one)
	}
	switch {
	case len(src.Parents) > 0:
		return trees, nil
	case src.Objects != nil:
		measureObjects(trees)
		return trees, nil
	case archives != nil:
		return trees, measureTars(src, plan, trees)
	}
	if src.Snapshot != nil {
		if err := asSnapshot(trees, src.Info); err != nil {
			return nil, err
		}
	}
	for _, t := range trees {
		if err := t.walk(func(_ string, d fs.DirEntry) error {
			info, err := d.Info()
			if err != nil {
				return err
			}
			if info.Mode().IsRegular() {
				t.files++
				t.bytes += info.Size()
			}
			return nil
		}); err != nil {
			return nil, fault.Wrap(fault.Internal, "read backup directory", t.src, err)
		}
	}
	if _, err := os.Stat(filepath.Join(src.Data, controlFile)); err != nil {
		return nil, lacksControl(src, err)
	}
	return trees, nil
}

// archives are those of a backup by OID, 0 for the data directory; nil when it is
// kept as plain files.
func (s Source) archives() (map[uint32][]basetar.Archive, error) {
	if s.Objects != nil {
		return s.Objects, nil
	}
	tars, err := basetar.Find(s.Data, s.Keys)
	if err != nil || tars == nil {
		return nil, err
	}
	out := map[uint32][]basetar.Archive{0: {tars.Base}}
	for oid, a := range tars.Tablespaces {
		out[oid] = []basetar.Archive{a}
	}
	return out, nil
}

func lacksControl(src Source, err error) error {
	return fault.New(fault.Corrupt, "restore", string(src.Info.ID), "the backup's files lack %s: %w", controlFile, err).
		WithHint("restore another backup")
}

// walk visits everything below the tree that belongs to a restore.
func (t *tree) walk(visit func(rel string, d fs.DirEntry) error) error {
	return filepath.WalkDir(t.src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(t.src, path)
		if err != nil || rel == "." {
			return err
		}
		if t.isData && excluded(rel, d.IsDir()) || t.skips(rel, d) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		return visit(rel, d)
	})
}

// inside reports whether the tree belongs below the data directory's final
// name, where it is built together with it.
func (t *tree) inside(data string) bool { return !t.isData && strings.HasPrefix(t.dest, data+"/") }

func (t *tree) locate(data string, places map[string]*place) {
	if t.inside(data) {
		t.build = filepath.Join(places[data].build, strings.TrimPrefix(t.dest, data+"/"))
		return
	}
	t.build = places[t.dest].build
}

// existing is the deepest existing directory of where the tree is built.
func (t *tree) existing() string {
	dir := t.build
	for {
		if _, err := os.Stat(dir); err == nil || dir == "/" {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

type copier struct {
	ctx          context.Context
	jobs         int
	progress     func(done, total int64)
	total        int64
	files, bytes atomic.Int64
	done         atomic.Int64 // of total
	unpacked     *unpacked
	ledger       *ledger // of archives in an object store; nil elsewhere
}

func newCopier(ctx context.Context, opt Options, trees []*tree) *copier {
	c := &copier{ctx: ctx, jobs: max(1, opt.Jobs), progress: opt.Progress, unpacked: newUnpacked()}
	for _, t := range trees {
		c.total += t.bytes
	}
	return c
}

func (c *copier) run(trees []*tree) error {
	g, ctx := errgroup.WithContext(c.ctx)
	g.SetLimit(c.jobs)
	for _, t := range trees {
		if err := os.MkdirAll(t.build, 0o700); err != nil {
			return fault.Wrap(fault.Internal, "create directory", t.build, err)
		}
		if t.tars != nil {
			for n := range t.tars {
				g.Go(func() error { return c.unpack(ctx, t, n) })
			}
			continue
		}
		if err := t.walk(func(rel string, d fs.DirEntry) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return c.entry(g, t, rel, d)
		}); err != nil {
			// The first failed copy is the reason for a cancelled walk.
			return errors.Join(g.Wait(), fault.Wrap(fault.Internal, "copy", t.src, err))
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return c.unpacked.link()
}

// manifest is where the manifest goes: its name says which backup it is of
// (Barman does the same).
func (t *tree) manifest() string {
	if t.staged {
		return filepath.Join(t.build, manifest.Name)
	}
	return filepath.Join(t.build, manifest.Name+"."+t.id)
}

func (c *copier) entry(g *errgroup.Group, t *tree, rel string, d fs.DirEntry) error {
	src, dst := filepath.Join(t.src, rel), filepath.Join(t.build, rel)
	if t.isData && rel == manifest.Name {
		dst = t.manifest()
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	switch {
	case d.IsDir():
		if err := os.Mkdir(dst, info.Mode().Perm()|0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	case info.Mode()&fs.ModeSymlink != 0:
		if err := t.mayLink(rel); err != nil {
			return err
		}
		to, err := os.Readlink(src)
		if err != nil {
			return err
		}
		return os.Symlink(to, dst)
	case info.Mode().IsRegular():
		g.Go(func() error {
			n, err := copyFile(src, dst, info)
			if err != nil {
				return fault.Wrap(fault.Internal, "restore file", dst, err)
			}
			c.add(n)
			c.tell(n)
			return nil
		})
	default:
		return fmt.Errorf("%s is neither a file, a directory nor a link", src)
	}
	return nil
}

// add counts a file.
func (c *copier) add(n int64) {
	c.files.Add(1)
	c.bytes.Add(n)
}

// tell reports bytes of the total.
func (c *copier) tell(n int64) {
	if done := c.done.Add(n); c.progress != nil {
		c.progress(done, c.total)
	}
}

func (c *copier) prepare([]*tree) error { return nil }
func (c *copier) close(bool)            {}
func (c *copier) notes() *ledger        { return c.ledger }

func (c *copier) ledgers() []*ledger {
	if c.ledger == nil {
		return nil
	}
	return []*ledger{c.ledger}
}

// note begins to note what is unpacked, or goes on with what an earlier restore has.
func (c *copier) note(src Source, trees []*tree, plan *restoreplan.Plan, places []*place, opt Options) (err error) {
	if c.ledger, err = openLedger(src, trees, plan, places, c); err != nil {
		return err
	}
	done, all := 0, 0
	for _, t := range trees {
		n, size := c.ledger.brought(t)
		c.done.Add(size)
		done, all = done+n, all+len(t.tars)
	}
	if done > 0 && opt.Resumed != nil {
		opt.Resumed(trees[0].id, done, all)
	}
	return nil
}

// takeOver counts what an earlier restore has unpacked.
func (c *copier) takeOver(u *unit, files, bytes int64) {
	c.files.Add(files)
	c.bytes.Add(bytes)
	for _, l := range u.Links {
		c.unpacked.linkLater(string(l.Path), string(l.To))
	}
	if h := u.Control; h != nil {
		c.unpacked.keepControl(h.header(), h.Content, u.Order)
	}
}

func (c *copier) did() (files, bytes int64) { return c.files.Load(), c.bytes.Load() }

const controlFile = "global/pg_control"

// control copies the last file, without which no server starts.
func (c *copier) control(data *tree) error {
	if data.tars != nil {
		return c.unpackControl(data)
	}
	rel := controlFile
	src := filepath.Join(data.src, rel)
	info, err := os.Stat(src)
	if err != nil {
		return fault.Wrap(fault.Corrupt, "restore file", rel, err)
	}
	n, err := copyFile(src, filepath.Join(data.build, rel), info)
	if err != nil {
		return fault.Wrap(fault.Internal, "restore file", rel, err)
	}
	c.add(n)
	return nil
}

// copyFile copies content, permission bits and modification time; a file that
// is not as long as the catalogue's is an error.
func copyFile(src, dst string, info fs.FileInfo) (int64, error) {
	in, err := os.Open(src)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm()|0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil && n != info.Size() {
		err = fmt.Errorf("%d bytes were copied, %d expected", n, info.Size())
	}
	if err != nil {
		return n, err
	}
	return n, os.Chtimes(dst, info.ModTime(), info.ModTime())
}
