package walarchive

import (
	"context"

	"github.com/holdfast-pg/holdfast/internal/restoreplan"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// ForRestore is the archive as a restore's plan wants it: every listed file
// once, and the histories of all timelines.
func (a *Archive) ForRestore(ctx context.Context) (restoreplan.Archive, error) {
	out := restoreplan.Archive{}
	at := map[string]int{}
	err := a.Each(ctx, func(e Entry) error {
		f := restoreplan.WALFile{Name: e.Name, At: e.Modified()}
		if i, ok := at[e.Name]; ok {
			out.Files[i] = f
			return nil
		}
		at[e.Name] = len(out.Files)
		out.Files = append(out.Files, f)
		return nil
	})
	if err != nil {
		return out, err
	}
	out.Histories, err = a.Histories(ctx)
	return out, err
}

// Histories reads every history file of the archive.
func (a *Archive) Histories(ctx context.Context) (map[uint32]wal.History, error) {
	known := map[uint32]bool{}
	if a.opt.Bucket != nil {
		if err := a.each(func(e Entry) error {
			if tli, err := wal.TimelineOf(e.Name); err == nil {
				known[tli] = true
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	names, err := a.shelf.histories(ctx, known)
	if err != nil {
		return nil, err
	}
	out := map[uint32]wal.History{}
	for _, name := range names {
		tli, err := wal.TimelineOf(name)
		if err != nil {
			return nil, err
		}
		if out[tli], err = a.History(ctx, tli); err != nil {
			return nil, err
		}
	}
	return out, nil
}
