package walarchive

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
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

// EachStored calls fn with the name of every file that is there, listed or not. In
// a bucket that takes a request for every thousand files.
func (a *Archive) EachStored(ctx context.Context, fn func(name string)) error {
	if _, err := os.Stat(a.layout.WALDir); a.opt.Bucket == nil && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for f, err := range a.shelf.list(ctx, "") {
		if err != nil {
			return err
		}
		fn(f.name)
	}
	return nil
}

// Written is when the server last wrote an archived file; zero when that cannot be
// found out. Of a bucket's objects only xlog.db knows.
func (a *Archive) Written(name string) (at time.Time) {
	if a.opt.Bucket == nil {
		if st, err := os.Stat(a.Where(Entry{Name: name})); err == nil {
			return st.ModTime()
		}
		return at
	}
	if err := a.each(func(e Entry) error {
		if e.Name == name {
			at = e.Modified()
		}
		return nil
	}); err != nil {
		return time.Time{}
	}
	return at
}

// Has tells whether a file is stored.
func (a *Archive) Has(ctx context.Context, name string) (bool, error) { return a.present(ctx)(name) }

// present tells whether files are stored. It remembers one hash directory: ask in
// the order of names.
func (a *Archive) present(ctx context.Context) func(name string) (bool, error) {
	dir, names := "", map[string]bool{}
	return func(name string) (bool, error) {
		if ctx.Err() != nil {
			return false, fault.Wrap(fault.Cancelled, "look for", name, context.Cause(ctx))
		}
		if d := wal.HashDir(name); d != dir {
			names = map[string]bool{}
			for f, err := range a.shelf.list(ctx, d) {
				if err != nil {
					return false, fault.Wrap(fault.Internal, "look for", name, err)
				}
				names[f.name] = true
			}
			dir = d
		}
		return names[name], nil
	}
}
