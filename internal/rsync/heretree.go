package rsync

import (
	"context"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
)

// hereTree is a tree of this host.
type hereTree struct {
	root   string
	filter datadir.Filter
}

func (h *hereTree) close() {}

func (h *hereTree) stat(rel string) (datadir.Attributes, bool) {
	var st unix.Stat_t
	if unix.Stat(filepath.Join(h.root, rel), &st) != nil {
		return datadir.Attributes{}, false
	}
	return datadir.AttributesOf(&st), true
}

func (h *hereTree) walk(ctx context.Context, dirs func([]datadir.Directory) error, file func(string, datadir.Attributes) error) error {
	w := datadir.Walk{Root: h.root, Filter: h.filter, Dirs: dirs, File: file}
	return w.Run(ctx)
}
