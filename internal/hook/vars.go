package hook

import (
	"path/filepath"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
)

// Catalogue is what is asked of a catalogue.
type Catalogue interface {
	BackupDirOf(backup.ID) string
	InfoPath(backup.ID) string
	Previous(backup.ID) (*backupinfo.Info, error)
	Next(backup.ID) (*backupinfo.Info, error)
}

// OfBackup is an event that concerns a backup. The neighbours are the nearest
// backups whose copy is complete.
func OfBackup(event string, cat Catalogue, info *backupinfo.Info) (Event, error) {
	e := Event{Name: event, Vars: map[string]string{
		"BARMAN_BACKUP_DIR": cat.BackupDirOf(info.ID), "BARMAN_BACKUP_ID": string(info.ID), "BARMAN_BACKUP_INFO_PATH": cat.InfoPath(info.ID),
		"BARMAN_STATUS": string(info.Status), "BARMAN_PREVIOUS_ID": "", "BARMAN_NEXT_ID": "",
	}}
	for key, find := range map[string]func(backup.ID) (*backupinfo.Info, error){"BARMAN_PREVIOUS_ID": cat.Previous, "BARMAN_NEXT_ID": cat.Next} {
		near, err := find(info.ID)
		if err != nil {
			return e, err
		}
		if near != nil {
			e.Vars[key] = string(near.ID)
		}
	}
	if info.Error != nil {
		e.Err = *info.Error
	}
	return e, nil
}

// WAL describes a WAL file for OfWAL, as xlog.db does.
type WAL struct {
	Path        string
	Size        string
	Timestamp   string
	Compression string // "" for none
}

// OfWAL is an event that concerns a WAL file.
func OfWAL(event string, w WAL) Event {
	return Event{Name: event, Vars: map[string]string{"BARMAN_SEGMENT": filepath.Base(w.Path), "BARMAN_FILE": w.Path,
		"BARMAN_SIZE": w.Size, "BARMAN_TIMESTAMP": w.Timestamp, "BARMAN_COMPRESSION": w.Compression}}
}
