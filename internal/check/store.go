package check

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/report"
)

func (f Facts) store(l *list) {
	var bad []string
	for _, err := range f.Store.Directories {
		bad = append(bad, reason(err))
	}
	l.add("directories", len(bad) == 0, strings.Join(bad, "; "))
	l.add("retention policy settings", true, "")
	last := lastOf(f.Store.Backups)
	f.age(l, last)
	if f.Local.Encrypts {
		l.add("encryption", f.Local.EncryptErr == nil, reason(f.Local.EncryptErr))
	}
	f.walAge(l, last)
	l.add("compression settings", true, "")
	failed, full := 0, 0
	for _, b := range f.Store.Backups {
		switch {
		case b.Status == backup.Failed:
			failed++
		case b.Status == backup.Done && b.Parent == nil:
			full++
		}
	}
	l.advise("failed backups", failed == 0, fmt.Sprintf("there are %d failed backups", failed))
	l.advise("minimum redundancy requirements", full >= f.Settings.Redundancy,
		fmt.Sprintf("have %d non-incremental backups, expected at least %d", full, f.Settings.Redundancy))
}

func lastOf(backups []*backupinfo.Info) *backupinfo.Info {
	var last *backupinfo.Info
	for _, b := range backups {
		if b.Status.CopyDone() {
			last = b
		}
	}
	return last
}

func (f Facts) age(l *list, last *backupinfo.Info) {
	most := f.Settings.MaxAge
	switch {
	case most == 0:
		l.advise("backup maximum age", true, "no last_backup_maximum_age provided")
	case last == nil || last.EndTime == nil:
		l.advise("backup maximum age", false, "there is no complete backup")
	default:
		old := f.Now.Sub(*last.EndTime)
		l.advise("backup maximum age", old <= most, fmt.Sprintf("the last one is %s old, %s are allowed", ago(old), ago(most)))
	}
	size := int64(0)
	if last != nil && last.Size != nil {
		size = *last.Size
	}
	l.advise("backup minimum size", size >= f.Settings.MinSize, report.Size(size))
}

func (f Facts) walAge(l *list, last *backupinfo.Info) {
	most := f.Settings.MaxWALAge
	switch {
	case most == 0:
		l.advise("wal maximum age", true, "no last_wal_maximum_age provided")
	case f.Store.LastWAL.IsZero():
		l.advise("wal maximum age", false, "no WAL was archived since the last backup")
	default:
		old := f.Now.Sub(f.Store.LastWAL)
		l.advise("wal maximum age", old <= most, fmt.Sprintf("the last file is %s old, %s are allowed", ago(old), ago(most)))
	}
	if last == nil {
		l.add("wal size", true, report.Size(0))
		return
	}
	l.add("wal size", true, report.Size(f.Store.WALAfter))
}

func ago(d time.Duration) string { return report.Seconds(d.Seconds()) }
