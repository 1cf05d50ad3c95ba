package rsync

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// list makes a tree's directories and lists the files that are not at the
// destination yet.
func (c *copier) list(ctx context.Context, i int, t Tree, at survey) error {
	if err := c.Fence.Do(func() error { return makeDir(t.Dest, 0o700) }); err != nil {
		return fault.Wrap(fault.Internal, "create directory", t.Dest, err)
	}
	l := &lister{copier: c, index: i, tree: t}
	return at.walk(ctx, l.makeDirs, l.file)
}

// makeDir makes a directory with exactly this mode, or gives it that mode.
func makeDir(path string, mode uint32) error {
	if err := unix.Mkdir(path, mode); err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.PathError{Op: "mkdir", Path: path, Err: err}
	}
	if err := unix.Chmod(path, mode); err != nil {
		return &os.PathError{Op: "chmod", Path: path, Err: err}
	}
	return nil
}

// lister lists one tree.
type lister struct {
	*copier
	index int
	tree  Tree
}

func (l *lister) makeDirs(dirs []datadir.Directory) error {
	if len(dirs) == 0 {
		return nil
	}
	return l.Fence.Do(func() error {
		for _, d := range dirs {
			if err := makeDir(filepath.Join(l.tree.Dest, d.Rel), d.Mode&0o777|0o700); err != nil {
				return fault.Wrap(fault.Internal, "copy directory", d.Rel, err)
			}
		}
		return nil
	})
}

func (l *lister) file(rel string, a datadir.Attributes) error {
	var there unix.Stat_t
	if unix.Lstat(filepath.Join(l.tree.Dest, rel), &there) == nil {
		return nil // the sweep left only what is right
	}
	l.Progress.Total.Add(a.Size)
	how := send
	if l.tree.Previous != "" && (l.Reuse == ReuseCopy || l.Reuse == ReuseLink) {
		var prev unix.Stat_t
		if unix.Lstat(filepath.Join(l.tree.Previous, rel), &prev) == nil {
			how = classify(a, datadir.AttributesOf(&prev), l.Horizon)
		}
	}
	return l.listing.add(l.index, how, entry{Rel: rel, Source: a.Identity})
}

// classify compares a file with the previous backup's. Equal times of a file
// that changed last well before that backup began mean equal content.
func classify(now, prev datadir.Attributes, begun time.Time) class {
	if !prev.IsRegular() || now.Size != prev.Size || now.Mtime != prev.Mtime || now.Mode != prev.Mode {
		return send
	}
	if now.Mtime <= begun.Add(-datadir.Settled).UnixNano() {
		return reuse
	}
	return check
}
