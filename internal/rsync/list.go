package rsync

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

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

// unreadable is the error for something of the cluster that cannot be read.
func unreadable(path string, cause error) error {
	e := fault.New(fault.KindOf(cause), "read the cluster's files", path, "%w", cause)
	if e.Kind == fault.Internal {
		e.Kind = fault.Refused
	}
	switch {
	case errors.Is(cause, unix.EACCES), errors.Is(cause, unix.EPERM):
		return e.WithHint("every file of the cluster must be readable for the user that takes the backup: mend its owner or mode, or set barman_user (rsync over ssh: the user in ssh_command) to the server's user")
	case errors.Is(cause, unix.ENOENT), errors.Is(cause, unix.ELOOP):
		return e.WithHint("it is a directory of the cluster that is missing, or a link that leads nowhere: mount what is missing, or remove the link")
	}
	return e.WithHint("look at the storage that holds it, and at the kernel's log: dmesg")
}

// lister lists one tree.
type lister struct {
	*copier
	index int
	tree  Tree
}

func (l *lister) makeDirs(dirs []directory) error {
	if len(dirs) == 0 {
		return nil
	}
	return l.Fence.Do(func() error {
		for _, d := range dirs {
			if err := makeDir(filepath.Join(l.tree.Dest, d.rel), d.mode&0o777|0o700); err != nil {
				return fault.Wrap(fault.Internal, "copy directory", d.rel, err)
			}
		}
		return nil
	})
}

func (l *lister) file(rel string, a attributes) error {
	var there unix.Stat_t
	if unix.Lstat(filepath.Join(l.tree.Dest, rel), &there) == nil {
		return nil // the sweep left only what is right
	}
	l.Progress.Total.Add(a.Size)
	how := send
	if l.tree.Previous != "" && (l.Reuse == ReuseCopy || l.Reuse == ReuseLink) {
		var prev unix.Stat_t
		if unix.Lstat(filepath.Join(l.tree.Previous, rel), &prev) == nil {
			how = classify(a, attributesOf(&prev), l.Horizon)
		}
	}
	return l.listing.add(l.index, how, entry{Rel: rel, Source: a.identity})
}

// classify compares a file with the previous backup's. Equal times of a file
// that changed last well before that backup began mean equal content.
func classify(now, prev attributes, begun time.Time) class {
	if !prev.isRegular() || now.Size != prev.Size || now.Mtime != prev.Mtime || now.mode != prev.mode {
		return send
	}
	if now.Mtime <= begun.Add(-settled).UnixNano() {
		return reuse
	}
	return check
}

// Below returns the path of something relative to the directory that it lies
// in, compared by path components, as they are written or as links lead.
func Below(dir, path string) (string, bool) {
	if rel, ok := Inside(dir, path); ok {
		return rel, true
	}
	realDir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", false
	}
	realPath, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", false
	}
	return Inside(realDir, realPath)
}

// Inside is Below for paths as they are written, of any host.
func Inside(dir, path string) (string, bool) {
	rel, err := filepath.Rel(dir, path)
	return rel, err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
