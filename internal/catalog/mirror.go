package catalog

import "github.com/holdfast-pg/holdfast/internal/backup"

// Mirror is where the backups of a catalogue are, when that is no directory: it has a
// copy of each record beside the backup. What is done here is done there, too, after
// it when it adds, and before it when it removes. Each call may be repeated.
type Mirror interface {
	// PutRecord replaces the copy of a record.
	PutRecord(id backup.ID, record []byte) error
	// PutKeep replaces the copy of what protects a backup; "" removes it.
	PutKeep(id backup.ID, target KeepTarget) error
	// Locked says why the backup's files cannot be removed now; "" when they can.
	Locked(id backup.ID) (string, error)
	// RemoveFiles removes everything but the record.
	RemoveFiles(id backup.ID) error
	// Forget removes the record.
	Forget(id backup.ID) error
}

// nowhere is the mirror of a catalogue that has none.
type nowhere struct{}

func (nowhere) PutRecord(backup.ID, []byte) error   { return nil }
func (nowhere) PutKeep(backup.ID, KeepTarget) error { return nil }
func (nowhere) Locked(backup.ID) (string, error)    { return "", nil }
func (nowhere) RemoveFiles(backup.ID) error         { return nil }
func (nowhere) Forget(backup.ID) error              { return nil }

// OpenMirrored is Open for backups that are elsewhere.
func OpenMirrored(l Layout, m Mirror) *Catalog { return &Catalog{l, m} }
