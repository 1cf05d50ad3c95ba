package catalog

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Resize corrects what the backups after deleted ones take by themselves: files
// that they shared are their own now, unless an older backup shares them, too.
func (c *Catalog) Resize(ctx context.Context, deleted []backup.ID) error {
	all, _, err := c.List()
	if err != nil {
		return err
	}
	var previous *backupinfo.Info
	for _, b := range all {
		if b.Status != backup.Done || b.Mode == nil || backup.TypeOf(*b.Mode, "") != backup.Rsync {
			continue
		}
		lost := slices.ContainsFunc(deleted, func(id backup.ID) bool {
			return id < b.ID && (previous == nil || id > previous.ID)
		})
		if lost {
			if err := c.resize(ctx, b, previous); err != nil {
				return err
			}
		}
		previous = b
	}
	return nil
}

// resize measures what a backup does not share with the one before it.
func (c *Catalog) resize(ctx context.Context, b, previous *backupinfo.Info) error {
	if b.Size == nil || b.DeduplicatedSize == nil || *b.DeduplicatedSize >= *b.Size {
		return nil
	}
	own := *b.Size
	if previous != nil {
		shared, err := sharedBytes(ctx, c.BackupDirOf(b.ID), c.BackupDirOf(previous.ID))
		if err != nil {
			return err
		}
		own -= shared
	}
	if own == *b.DeduplicatedSize {
		return nil
	}
	b.DeduplicatedSize = &own
	return c.Save(b)
}

// sharedBytes adds up the files of a directory that are the same as those of
// another one.
func sharedBytes(ctx context.Context, dir, other string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		twin, err := os.Lstat(filepath.Join(other, rel))
		if err != nil {
			return nil // it has none
		}
		st, err := d.Info()
		if err == nil && os.SameFile(st, twin) {
			bytes += st.Size()
		}
		return err
	})
	return bytes, fault.Wrap(fault.Internal, "measure", dir, err)
}
