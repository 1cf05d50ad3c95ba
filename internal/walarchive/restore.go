package walarchive

import (
	"context"
	"path/filepath"

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
	out := map[uint32]wal.History{}
	paths, err := filepath.Glob(filepath.Join(a.layout.WALDir, "*.history"))
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		name := filepath.Base(path)
		if wal.Classify(name) != wal.HistoryFile {
			continue
		}
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
