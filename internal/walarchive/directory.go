package walarchive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/gpg"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// directory is the shelf of an archive on a file system.
type directory struct {
	dir         string
	compression codec.Compression
}

func (d *directory) path(name string) string {
	return filepath.Join(d.dir, wal.HashDir(name), name)
}

func (d *directory) where(e Entry) string { return d.path(e.Name) }

func (d *directory) put(_ context.Context, e Entry, from delivery) (Entry, error) {
	path := d.path(e.Name)
	e, err := d.store(path, e, from)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return e, err
	}
	if err != nil {
		// Whoever stored it may have been killed before its name was durable.
		if serr := atomicfile.SyncDir(filepath.Dir(path)); serr != nil {
			return e, serr
		}
	}
	if serr := atomicfile.SweepFile(path); serr != nil {
		return e, serr
	}
	return e, err
}

func (d *directory) store(path string, e Entry, from delivery) (_ Entry, err error) {
	if _, err := os.Lstat(path); err == nil {
		return e, fs.ErrExist
	}
	var out *atomicfile.File
	for try := 0; ; try++ {
		err := d.ensure(filepath.Dir(path))
		if err == nil {
			out, err = atomicfile.Create(path, from.source.Mode().Perm())
		}
		if err == nil {
			break
		}
		// A deletion may prune the directory between the two.
		if try == 3 || !errors.Is(err, fs.ErrNotExist) {
			return e, err
		}
	}
	defer out.Abort()
	if err = from.write(out.File); err == nil {
		e.Size, err = out.Seek(0, io.SeekEnd)
	}
	if err == nil {
		err = os.Chtimes(out.Name(), from.source.ModTime(), from.source.ModTime())
	}
	if err == nil {
		err = out.CommitNew()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Another process stored the same name, and swept our temporary file.
		return e, fs.ErrExist
	case errors.Is(err, fs.ErrExist):
		return e, err
	}
	return e, fault.Wrap(fault.Internal, "archive", path, err)
}

// ensure creates a hash directory. Its name is durable before the first
// file lies in it, so a directory that is not empty needs no second look.
func (d *directory) ensure(dir string) error {
	if dir == filepath.Clean(d.dir) {
		return nil
	}
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Mkdir(dir, 0o755)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fault.Wrap(fault.Internal, "create directory", dir, err)
		}
		return atomicfile.SyncDir(d.dir)
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "open directory", dir, err)
	}
	defer f.Close()
	if _, err := f.Readdirnames(1); errors.Is(err, io.EOF) {
		return atomicfile.SyncDir(d.dir)
	}
	return nil
}

func (d *directory) get(_ context.Context, name string) (io.ReadCloser, Entry, error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, Entry{}, fault.Wrap(fault.Internal, "read", d.path(name), err)
	}
	e, err := entryOf(f, d.compression)
	if err != nil {
		f.Close()
		return nil, e, err
	}
	return f, e, nil
}

// entryOf describes a file by its content.
func entryOf(f *os.File, c codec.Compression) (Entry, error) {
	st, err := f.Stat()
	if err != nil {
		return Entry{}, fault.Wrap(fault.Internal, "stat", f.Name(), err)
	}
	head := make([]byte, codec.HeadSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Entry{}, fault.Wrap(fault.Internal, "read", f.Name(), err)
	}
	e := Entry{Name: filepath.Base(f.Name()), Size: st.Size(), Time: seconds(st.ModTime())}
	if gpg.Detect(head[:n]) {
		e.Encryption = gpg.Name // its compression cannot be seen
	} else {
		e.Compression = c.Detect(head[:n])
	}
	return e, nil
}

func (d *directory) list(ctx context.Context, hashDir string) iter.Seq2[file, error] {
	return func(yield func(file, error) bool) {
		if hashDir != "" {
			d.listOne(hashDir, yield)
			return
		}
		top, err := os.ReadDir(d.dir)
		if err != nil {
			yield(file{}, fault.Wrap(fault.Internal, "list", d.dir, err))
			return
		}
		for _, e := range top {
			if ctx.Err() != nil {
				yield(file{}, fault.Wrap(fault.Cancelled, "list", d.dir, context.Cause(ctx)))
				return
			}
			if wal.Classify(e.Name()) == wal.HistoryFile && !yield(d.listed(e.Name()), nil) {
				return
			}
			if e.IsDir() && wal.HashDir(e.Name()+"00000000") == e.Name() && !d.listOne(e.Name(), yield) {
				return
			}
		}
	}
}

// listOne sees one directory's names at a time.
func (d *directory) listOne(hashDir string, yield func(file, error) bool) bool {
	path := filepath.Join(d.dir, hashDir)
	names, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		yield(file{}, fault.Wrap(fault.Internal, "list", path, err))
		return false
	}
	for _, n := range names {
		if wal.HashDir(n.Name()) == hashDir && !yield(d.listed(n.Name()), nil) {
			return false
		}
	}
	return true
}

func (d *directory) listed(name string) file {
	return file{name, func() (Entry, error) {
		f, e, err := d.get(context.Background(), name)
		if err == nil {
			f.Close()
		}
		return e, err
	}}
}

func (d *directory) histories(context.Context, map[uint32]bool) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(d.dir, "*.history"))
	var out []string
	for _, path := range paths {
		if name := filepath.Base(path); wal.Classify(name) == wal.HistoryFile {
			out = append(out, name)
		}
	}
	return out, err
}

// remove also removes hash directories that it leaves empty.
func (d *directory) remove(ctx context.Context, names []string) (int, error) {
	removed := 0
	dirs := map[string]bool{}
	for _, name := range names {
		if ctx.Err() != nil {
			return removed, fault.Wrap(fault.Cancelled, "delete WAL", name, context.Cause(ctx))
		}
		path := d.path(name)
		switch err := os.Remove(path); {
		case err == nil:
			removed++
		case !errors.Is(err, fs.ErrNotExist):
			return removed, fault.Wrap(fault.Internal, "delete WAL", path, err)
		}
		dirs[filepath.Dir(path)] = true
	}
	return removed, d.prune(dirs)
}

// prune removes the hash directories that are empty; the others become durable.
func (d *directory) prune(dirs map[string]bool) error {
	top := filepath.Clean(d.dir)
	var list []string
	for dir := range dirs {
		list = append(list, dir)
	}
	slices.Sort(list)
	for _, dir := range list {
		if dir != top {
			err := os.Remove(dir)
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
				return fault.Wrap(fault.Internal, "remove directory", dir, err)
			}
		}
		if err := atomicfile.SyncDir(dir); err != nil {
			return err
		}
	}
	return atomicfile.SyncDir(top)
}
