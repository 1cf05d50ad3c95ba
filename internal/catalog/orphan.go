package catalog

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Orphans are the backups whose records have lost their files. They are listed
// all the same, and never deleted without being asked.
func (c *Catalog) Orphans(backups []*backupinfo.Info) (map[backup.ID]bool, error) {
	names, err := namesIn(c.BaseDir)
	if err != nil {
		return nil, err
	}
	have := make(map[string]bool, len(names))
	for _, name := range names {
		have[name] = true
	}
	lost, errs := make([]bool, len(backups)), make([]error, len(backups))
	atOnce(len(backups), func(i int) {
		b := backups[i]
		switch {
		case b.Snapshots != nil:
		case !have[string(b.ID)]:
			lost[i] = true
		default:
			lost[i], errs[i] = c.recordOnly(b.ID)
		}
	})
	out := map[backup.ID]bool{}
	for i, b := range backups {
		if lost[i] {
			out[b.ID] = true
		}
	}
	return out, errors.Join(errs...)
}

// recordOnly reports whether a backup's directory holds nothing but a record
// of the legacy place.
func (c *Catalog) recordOnly(id backup.ID) (bool, error) {
	legacy := c.legacyPath(id)
	if _, err := os.Lstat(legacy); err != nil {
		return false, nil
	}
	names, err := namesIn(c.BackupDirOf(id))
	return len(names) == 1 && names[0] == filepath.Base(legacy), fault.Wrap(fault.Internal, "look at", c.BackupDirOf(id), err)
}
