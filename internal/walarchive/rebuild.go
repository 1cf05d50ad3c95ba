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
		for f, err := range a.shelf.list(ctx, "") {
			if err != nil {
				return err
			}
			e, err := f.describe()
			if err != nil {
				return err
			}
			n[wal.Classify(e.Name)]++
			if err := writeEntry(w, e); err != nil {
				return err
			}
		}
		return nil
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
	dirs := []string{a.layout.XlogDBDir, a.layout.IncomingDir}
	if a.opt.Bucket != nil {
		return dirs, nil // a store keeps what is unfinished to itself
	}
	dirs = append(dirs, a.layout.WALDir)
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
