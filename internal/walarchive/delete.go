package walarchive

import (
	"bufio"
	"context"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Delete removes exactly the named files, in whatever form they are stored, and their
// lines. Names that are gone already are no error, so it may be
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
	return a.shelf.remove(ctx, names)
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
