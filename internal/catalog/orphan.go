package catalog

import (
	"errors"
	"path/filepath"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Orphans are the backups whose records have lost their files. They are listed
// all the same, and never deleted without being asked.
func (s *Survey) Orphans(backups []*backupinfo.Info) (map[backup.ID]bool, error) {
	have := make(map[string]bool, len(s.base))
	for _, name := range s.base {
		have[name] = true
	}
	lost, errs := make([]bool, len(backups)), make([]error, len(backups))
	base := opened(s.c.BaseDir)
	defer base.close()
	atOnce(len(backups), func(i int) {
		b := backups[i]
		switch {
		case b.Snapshots != nil:
		case !have[string(b.ID)]:
			lost[i] = true
		default:
			lost[i], errs[i] = s.c.recordOnly(base, b.ID)
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
func (c *Catalog) recordOnly(base directory, id backup.ID) (bool, error) {
	legacy := c.legacyPath(id)
	if !base.has(string(id) + "/backup.info") {
		return false, nil
	}
	names, err := namesIn(c.BackupDirOf(id))
	return len(names) == 1 && names[0] == filepath.Base(legacy), fault.Wrap(fault.Internal, "look at", c.BackupDirOf(id), err)
}
