package rsync

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// chunk is how many names of a directory are looked at at a time.
const chunk = 512

// eachName calls f with the names in a directory, a chunk at a time.
func eachName(dir string, f func(names []string) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(chunk)
		if len(names) > 0 {
			if err := f(names); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func join(rel, name string) string {
	if rel == "" {
		return name
	}
	return rel + "/" + name
}

// hereTree is a tree of this host.
type hereTree struct {
	root   string
	filter filter
}

func (h *hereTree) close() {}

func (h *hereTree) stat(rel string) (attributes, bool) {
	var st unix.Stat_t
	if unix.Stat(filepath.Join(h.root, rel), &st) != nil {
		return attributes{}, false
	}
	return attributesOf(&st), true
}

func (h *hereTree) walk(ctx context.Context, dirs func([]directory) error, file func(string, attributes) error) error {
	var st unix.Stat_t
	if err := unix.Stat(h.root, &st); err != nil {
		return unreadable(h.root, err)
	}
	if !isDir(&st) {
		return unreadable(h.root, unix.ENOTDIR)
	}
	w := &walk{hereTree: h, dirs: dirs, file: file}
	return w.dir(ctx, "", nil)
}

// walk lists one tree. Links are followed: a backup has none.
type walk struct {
	*hereTree
	dirs func([]directory) error
	file func(string, attributes) error
}

// place is a directory on the way down, so that a link to one above is noticed.
type place struct {
	dev, ino uint64
	above    *place
}

func (w *walk) dir(ctx context.Context, rel string, above *place) error {
	if ctx.Err() != nil {
		return fault.Wrap(fault.Cancelled, "list", w.root, context.Cause(ctx))
	}
	var below []directory
	source := filepath.Join(w.root, rel)
	err := eachName(source, func(names []string) error {
		from := len(below)
		for _, name := range names {
			rel := join(rel, name)
			if w.filter.excluded(rel) {
				continue
			}
			a, ok, err := look(filepath.Join(w.root, rel))
			switch {
			case err != nil:
				return err
			case !ok: // it vanished
			case a.isDir():
				below = append(below, directory{rel, a})
			case a.isRegular():
				if err := w.file(rel, a); err != nil {
					return err
				}
			}
		}
		return w.dirs(below[from:])
	})
	var named *fault.Error
	switch {
	case errors.As(err, &named):
		return err
	case errors.Is(err, unix.ENOENT) && rel != "": // it vanished
		return nil
	case err != nil:
		return unreadable(source, err)
	}
	for _, d := range below {
		for p := above; p != nil; p = p.above {
			if p.dev == d.Dev && p.ino == d.Ino {
				return unreadable(filepath.Join(w.root, d.rel), unix.ELOOP)
			}
		}
		if err := w.dir(ctx, d.rel, &place{d.Dev, d.Ino, above}); err != nil {
			return err
		}
	}
	return nil
}
