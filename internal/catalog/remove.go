package catalog

import (
	"errors"
	"io/fs"
	"os"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Remove deletes a backup and everything that belongs to it; the caller holds
// its lock. It may be called again after an interruption. WAL is not touched.
//
// A deletion has four steps, which callers with more to delete take one by one:
// MarkDeleting, Condemn, RemoveFiles and Forget. Between the first and the last
// the backup is listed as FAILED, in Barman too, and Marks tells that somebody
// has to finish it.
func (c *Catalog) Remove(id backup.ID) error {
	info, err := c.Get(id)
	switch {
	case fault.Is(err, fault.NotFound):
		if deleting, derr := c.Deleting(id); derr != nil || !deleting {
			return errors.Join(derr, err)
		}
	case err != nil:
		return err
	case len(info.Children) > 0:
		return fault.New(fault.Refused, "delete backup", string(id), "%d incremental backups depend on it", len(info.Children)).
			WithHint("delete %s first", info.Children[0])
	}
	for _, step := range []func(backup.ID) error{c.MarkDeleting, c.Condemn, c.RemoveFiles, c.Forget} {
		if err := step(id); err != nil {
			return err
		}
	}
	return nil
}

// condemned is what a record says whose files are being deleted.
const condemned = "its deletion has begun and was not finished"

// Condemn makes a backup FAILED, so that nobody takes what is left of it for a
// backup.
func (c *Catalog) Condemn(id backup.ID) error {
	info, err := c.Get(id)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil || info.Status == backup.Failed {
		return err
	}
	text := condemned
	info.Status, info.Error = backup.Failed, &text
	return c.Save(info)
}

// Locked says why the files of a backup cannot be removed now; "" when they can.
func (c *Catalog) Locked(id backup.ID) (string, error) { return c.mirror.Locked(id) }

// RemoveFiles deletes the files of a backup. Those that other backups share by
// hard links remain theirs.
func (c *Catalog) RemoveFiles(id backup.ID) error {
	if _, err := backup.ParseID(string(id)); err != nil {
		return err
	}
	if err := c.mirror.RemoveFiles(id); err != nil {
		return err
	}
	if err := os.RemoveAll(c.BackupDirOf(id)); err != nil {
		return fault.Wrap(fault.Internal, "delete", c.BackupDirOf(id), err)
	}
	if err := atomicfile.SyncDir(c.BaseDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Forget deletes the record of a backup whose files are gone, and what is said
// of it elsewhere. The mark of its deletion goes last.
func (c *Catalog) Forget(id backup.ID) error {
	info, err := c.Get(id)
	if err == nil {
		err = c.Disown(info)
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if err := c.mirror.Forget(id); err != nil {
		return err
	}
	for _, path := range []string{c.InfoPath(id), c.extraPath(id), c.destinationsPath(id), c.annotationPath(id, keepAnnotation), c.annotationPath(id, deleteAnnotation)} {
		if err := removeDurably(path); err != nil {
			return err
		}
	}
	return nil
}
