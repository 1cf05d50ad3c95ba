package catalog

import (
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backup"
)

// Temporary lists temporary files that killed writers left beside the records of
// backups, if they are older than age. Package walarchive lists the archive's.
func (c *Catalog) Temporary(now time.Time, age time.Duration) ([]string, error) {
	return atomicfile.Temporary(now, age, c.writtenTo()...)
}

// Sweep removes what Temporary lists.
func (c *Catalog) Sweep(now time.Time, age time.Duration) error {
	return atomicfile.Sweep(now, age, c.writtenTo()...)
}

func (c *Catalog) writtenTo() []string {
	return []string{c.BackupDir, c.MetaDir, c.IncomingDir, c.StreamingDir}
}

// SweepRecord removes the temporary files that killed writers of a backup's
// record left. The caller is the only one that writes it.
func (c *Catalog) SweepRecord(id backup.ID) error {
	for _, path := range []string{c.InfoPath(id), c.extraPath(id), c.destinationsPath(id), c.identityPath()} {
		if err := atomicfile.SweepFile(path); err != nil {
			return err
		}
	}
	return nil
}
