package walarchive

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Delete removes exactly the named files and their lines, and directories that
// this leaves empty. Names that are gone already are no error, so it may be
// called again after an interruption. It returns how many files it removed.
func (a *Archive) Delete(ctx context.Context, names []string) (int, error) {
	if len(names) == 0 {
		return 0, nil
	}
	events, err := a.beforeDeletion(ctx, names)
	if err != nil {
		return 0, err
	}
	removed, err := a.delete(ctx, names)
	if err != nil {
		return removed, err
	}
	return removed, a.afterDeletion(ctx, events)
}

func (a *Archive) delete(ctx context.Context, names []string) (int, error) {
	gone := make(map[string]bool, len(names))
	for _, name := range names {
		if wal.Classify(name) == wal.Unknown {
			return 0, fault.New(fault.Usage, "delete WAL", name, "it is no WAL file")
		}
		gone[name] = true
	}
	lock, err := a.layout.LockXlogDB(ctx)
	if err != nil {
		return 0, err
	}
	defer lock.Release()
	if err := a.unlist(gone); err != nil {
		return 0, err
	}
	removed := 0
	dirs := map[string]bool{}
	for _, name := range names {
		if ctx.Err() != nil {
			return removed, fault.Wrap(fault.Cancelled, "delete WAL", name, context.Cause(ctx))
		}
		path := a.Path(name)
		switch err := os.Remove(path); {
		case err == nil:
			removed++
		case !errors.Is(err, fs.ErrNotExist):
			return removed, fault.Wrap(fault.Internal, "delete WAL", path, err)
		}
		dirs[filepath.Dir(path)] = true
	}
	return removed, a.prune(dirs)
}

// unlist removes lines, and leaves a list without them alone.
func (a *Archive) unlist(gone map[string]bool) error {
	listed := false
	if err := a.each(func(e Entry) error { listed = listed || gone[e.Name]; return nil }); err != nil || !listed {
		return err
	}
	return a.rewrite(func(w *bufio.Writer) error {
		return a.each(func(e Entry) error {
			if gone[e.Name] {
				return nil
			}
			return writeEntry(w, e)
		})
	})
}

// prune removes the hash directories that are empty; the others become durable.
func (a *Archive) prune(dirs map[string]bool) error {
	top := filepath.Clean(a.layout.WALDir)
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
