package walarchive

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// scan calls fn with every stored file in the order of names, partial segments
// included. It sees one directory's names at a time.
func (a *Archive) scan(ctx context.Context, fn func(path string) error) error {
	top, err := os.ReadDir(a.layout.WALDir)
	if err != nil {
		return fault.Wrap(fault.Internal, "list", a.layout.WALDir, err)
	}
	for _, e := range top {
		if ctx.Err() != nil {
			return fault.Wrap(fault.Cancelled, "list", a.layout.WALDir, context.Cause(ctx))
		}
		path := filepath.Join(a.layout.WALDir, e.Name())
		if wal.Classify(e.Name()) == wal.HistoryFile {
			if err := fn(path); err != nil {
				return err
			}
		}
		if !e.IsDir() || wal.HashDir(e.Name()+"00000000") != e.Name() {
			continue
		}
		names, err := os.ReadDir(path)
		if err != nil {
			return fault.Wrap(fault.Internal, "list", path, err)
		}
		for _, n := range names {
			if wal.HashDir(n.Name()) != e.Name() {
				continue
			}
			if err := fn(filepath.Join(path, n.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Rebuild makes xlog.db anew from the stored files and counts them. Like
// Barman's it goes by name; unlike it, it keeps partial segments.
func (a *Archive) Rebuild(ctx context.Context) (map[wal.Kind]int, error) {
	lock, err := a.layout.LockXlogDB(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	n := map[wal.Kind]int{}
	err = a.rewrite(func(w *bufio.Writer) error {
		return a.scan(ctx, func(path string) error {
			e, err := a.entryOf(path)
			if err != nil {
				return err
			}
			n[wal.Classify(e.Name)]++
			return writeEntry(w, e)
		})
	})
	return n, err
}

// Temporary lists temporary files that killed writers left in the archive, if
// they are older than age.
func (a *Archive) Temporary(now time.Time, age time.Duration) ([]string, error) {
	dirs, err := a.writtenTo()
	if err != nil {
		return nil, err
	}
	return atomicfile.Temporary(now, age, dirs...)
}

// Sweep removes what Temporary lists.
func (a *Archive) Sweep(now time.Time, age time.Duration) error {
	dirs, err := a.writtenTo()
	if err != nil {
		return err
	}
	return atomicfile.Sweep(now, age, dirs...)
}

func (a *Archive) writtenTo() ([]string, error) {
	dirs := []string{a.layout.WALDir, a.layout.XlogDBDir, a.layout.IncomingDir}
	entries, err := os.ReadDir(a.layout.WALDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Internal, "list", a.layout.WALDir, err)
	}
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(a.layout.WALDir, e.Name()))
		}
	}
	return dirs, nil
}
