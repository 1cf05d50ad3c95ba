package walarchive

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Names are all files of the archive, sorted: those that are listed, and those
// that a kill has left stored and unlisted.
func (a *Archive) Names(ctx context.Context) ([]string, error) {
	var out []string
	keep := func(name string) { out = append(out, name) }
	if err := a.Each(ctx, func(e Entry) error { keep(e.Name); return nil }); err != nil {
		return nil, err
	}
	if err := a.EachStored(ctx, keep); err != nil {
		return nil, err
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// EachStored calls fn with the name of every file that is there, listed or not.
func (a *Archive) EachStored(ctx context.Context, fn func(name string)) error {
	if _, err := os.Stat(a.layout.WALDir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return a.scan(ctx, func(path string) error { fn(filepath.Base(path)); return nil })
}

// Written is when the server last wrote a stored file; zero when that cannot be
// found out.
func (a *Archive) Written(name string) time.Time {
	st, err := os.Stat(a.Path(name))
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}
