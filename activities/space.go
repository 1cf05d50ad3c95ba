package activities

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// reserve is how much of the repository's file system a copy leaves free, in
// bytes: the engine's database, the catalogue and arriving WAL need room to
// record that a backup failed.
const reserve = 64 << 20

// guardSpace ends the context when the file system of the backups is nearly
// full; needed is about what the whole backup takes, in bytes.
func guardSpace(ctx context.Context, baseDir string, needed int64) (guarded context.Context, stop func()) {
	guarded, cancel := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			if free, err := freeSpace(baseDir); err == nil && free < reserve {
				cancel(fullDisk(baseDir, needed, free))
				return
			}
			select {
			case <-guarded.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return guarded, func() { cancel(nil) }
}

// sizeOf is about what a backup takes, in bytes.
func sizeOf(info *backupinfo.Info) int64 {
	if info.ClusterSize == nil {
		return 0
	}
	return *info.ClusterSize
}

func freeSpace(dir string) (int64, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(dir, &fs)
	return int64(fs.Bavail) * fs.Bsize, err
}

func fullDisk(dir string, needed, free int64) error {
	return fault.New(fault.Disk, "copy to", dir, "no space is left: the backup needs about %d bytes, %d bytes are free, and %d bytes stay reserved", needed, free, int64(reserve)).
		WithHint("free space on the file system of %s, then take the backup again", dir)
}

// explained is err, or the reason for which guardSpace ended the work. What a
// copy itself says of a full disk is told in the same words.
func explained(guarded context.Context, err error, baseDir string, needed int64) error {
	if cause := context.Cause(guarded); err != nil && fault.Is(cause, fault.Disk) {
		return cause
	}
	if !errors.Is(err, unix.ENOSPC) && !fault.Is(err, fault.Disk) {
		return err
	}
	free, statErr := freeSpace(baseDir)
	if statErr != nil {
		return err
	}
	return fault.New(fault.Disk, "", "", "%w (the backup needs about %d bytes, %d bytes are free)", err, needed, free).
		WithHint("free space on the file system of %s, then take the backup again", baseDir)
}

// dropFiles removes the files of a backup that failed for want of space, so
// that it does not stand in the way of the next one.
func dropFiles(cat *catalog.Catalog, id backup.ID) error {
	entries, err := os.ReadDir(cat.BackupDirOf(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "list", cat.BackupDirOf(id), err)
	}
	for _, e := range entries {
		path := filepath.Join(cat.BackupDirOf(id), e.Name())
		if path == cat.WorkDir(id) {
			continue // it keeps writers of this backup out
		}
		if err := os.RemoveAll(path); err != nil {
			return fault.Wrap(fault.Internal, "remove", path, err)
		}
	}
	return nil
}
