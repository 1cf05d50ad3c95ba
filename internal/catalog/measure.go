package catalog

import (
	"context"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Measure adds up the files below dir: all of them, and those that are not
// shared with another backup by a hard link.
func Measure(ctx context.Context, dir string) (size, deduplicated int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		size += st.Size()
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Nlink == 1 {
			deduplicated += st.Size()
		}
		return nil
	})
	return size, deduplicated, fault.Wrap(fault.Internal, "measure", dir, err)
}
