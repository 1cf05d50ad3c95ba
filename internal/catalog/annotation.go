package catalog

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// The annotations of Barman.
const (
	keepAnnotation   = "keep"
	deleteAnnotation = "delete_this"
)

// KeepTarget is what a kept backup must remain good for.
type KeepTarget string

// The targets of keep: with all later WAL, or with just what makes the backup consistent.
const (
	KeepFull       KeepTarget = "full"
	KeepStandalone KeepTarget = "standalone"
)

// Keep is the target of a kept backup, "" when retention may delete it.
func (c *Catalog) Keep(id backup.ID) (KeepTarget, error) {
	text, err := c.annotation(id, keepAnnotation)
	if t := KeepTarget(text); err == nil && t != "" && t != KeepFull && t != KeepStandalone {
		return "", fault.New(fault.Corrupt, "read", c.annotationPath(id, keepAnnotation), "%q is neither full nor standalone", text)
	}
	return KeepTarget(text), err
}

// SetKeep protects a backup from retention.
func (c *Catalog) SetKeep(id backup.ID, target KeepTarget) error {
	if target != KeepFull && target != KeepStandalone {
		return fault.New(fault.Usage, "keep backup", string(id), "%q is neither full nor standalone", target)
	}
	info, err := c.Get(id)
	if err == nil {
		err = Keepable(info)
	}
	if err != nil {
		return err
	}
	if err := atomicfile.Write(c.annotationPath(id, keepAnnotation), []byte(target), 0o644); err != nil {
		return err
	}
	return c.mirror.PutKeep(id, target)
}

// Keepable refuses what cannot be kept.
func Keepable(info *backupinfo.Info) error {
	switch {
	case info.Parent != nil:
		return fault.New(fault.Refused, "keep backup", string(info.ID), "it is incremental").
			WithHint("keep the full backup that it depends on")
	case info.Status != backup.Done:
		return fault.New(fault.Refused, "keep backup", string(info.ID), "it is %s, not DONE", info.Status).
			WithHint("keep one that is DONE: holdfast list-backups %s", info.ServerName)
	}
	return nil
}

// Release gives a kept backup back to retention.
func (c *Catalog) Release(id backup.ID) error {
	if err := c.mirror.PutKeep(id, ""); err != nil {
		return err
	}
	return c.removeAnnotation(id, keepAnnotation)
}

// MarkDeleting records that a deletion has begun, so that it is finished later
// if it is interrupted.
func (c *Catalog) MarkDeleting(id backup.ID) error {
	if _, err := backup.ParseID(string(id)); err != nil {
		return err
	}
	return atomicfile.Write(c.annotationPath(id, deleteAnnotation), []byte("1"), 0o644)
}

// Deleting reports whether a deletion has begun.
func (c *Catalog) Deleting(id backup.ID) (bool, error) {
	text, err := c.annotation(id, deleteAnnotation)
	return text != "", err
}

func (c *Catalog) annotationPath(id backup.ID, key string) string {
	return filepath.Join(c.MetaDir, string(id)+"-"+key)
}

func (c *Catalog) legacyAnnotation(id backup.ID, key string) string {
	return filepath.Join(c.BackupDirOf(id), "annotations", key)
}

// annotation reads one; an old Barman's moves to the new place when it is met.
func (c *Catalog) annotation(id backup.ID, key string) (string, error) {
	path := c.annotationPath(id, key)
	text, err := os.ReadFile(path)
	if err == nil {
		return string(text), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fault.Wrap(fault.Internal, "read", path, err)
	}
	old := c.legacyAnnotation(id, key)
	text, err = os.ReadFile(old)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fault.Wrap(fault.Internal, "read", old, err)
	}
	if err := atomicfile.Write(path, text, 0o644); err != nil {
		return "", err
	}
	return string(text), removeDurably(old)
}

func (c *Catalog) removeAnnotation(id backup.ID, key string) error {
	for _, path := range []string{c.legacyAnnotation(id, key), c.annotationPath(id, key)} {
		if err := removeDurably(path); err != nil {
			return err
		}
	}
	return nil
}

// removeDurably removes a file that need not exist.
func removeDurably(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "remove", path, err)
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}
