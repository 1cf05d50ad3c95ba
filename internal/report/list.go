package report

import (
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/retention"
)

// Entry is a backup in a list.
type Entry struct {
	Server    string
	ID        backup.ID
	Name      string // "" when it has none
	Type      backup.Type
	Status    backup.Status
	End       time.Time
	Size      int64 // of the files and the WAL that makes them consistent
	WALSize   int64 // of the WAL up to the next backup
	CopyDone  bool
	Retention retention.Word // the policy's word; "" without a policy
}

// List describes backups, newest first. It wants them oldest first; times
// become those of zone.
func List(backups []*backupinfo.Info, segments Segments, zone *time.Location) []Entry {
	out := make([]Entry, 0, len(backups))
	var next *backupinfo.Info
	for i := len(backups) - 1; i >= 0; i-- {
		b := backups[i]
		e := Entry{Server: b.ServerName, ID: b.ID, Name: orZero(b.BackupName), Type: TypeOf(b), Status: b.Status, CopyDone: b.Status.CopyDone()}
		if e.CopyDone {
			e.End = orZero(b.EndTime).In(zone)
			e.Size = stored(b) + segments.own(b).bytes()
			e.WALSize = segments.until(b, next).bytes()
			next = b
		}
		out = append(out, e)
	}
	return out
}

// TypeOf is a backup's type.
func TypeOf(b *backupinfo.Info) backup.Type {
	return backup.TypeOf(orZero(b.Mode), orZero(b.Parent))
}

// stored is what a backup's files occupy, those that it shares with others apart.
func stored(b *backupinfo.Info) int64 {
	if b.DeduplicatedSize != nil {
		return *b.DeduplicatedSize
	}
	return orZero(b.Size)
}

// JSON is the entry as Barman prints it.
func (e Entry) JSON() Object {
	o := Object{"backup_id": e.ID, "backup_type": e.Type, "status": e.Status}
	if e.Name != "" {
		o["backup_name"] = e.Name
	}
	if !e.CopyDone {
		return o
	}
	o["end_time"], o["end_time_timestamp"] = CTime(e.End), stamp(e.End)
	o["size"], o["size_bytes"] = Size(e.Size), e.Size
	o["wal_size"], o["wal_size_bytes"] = Size(e.WALSize), e.WALSize
	o["retention_status"] = e.standing()
	return o
}

// String is the entry as a line.
func (e Entry) String() string {
	subject := e.Server + " " + string(e.ID)
	if e.Name != "" {
		subject += " '" + e.Name + "'"
	}
	parts := append(make([]string, 0, 7), subject, strings.ToUpper(string(e.Type[:1])))
	if e.CopyDone {
		parts = append(parts, CTime(e.End), "Size: "+Size(e.Size), "WAL Size: "+Size(e.WALSize))
	}
	if !e.CopyDone || e.Status == backup.WaitingForWALs {
		parts = append(parts, string(e.Status))
	}
	if w := e.standing(); e.CopyDone && w != retention.None {
		parts = append(parts, string(w))
	}
	return strings.Join(parts, " - ")
}

// standing is what Barman's lists say of the policy: nothing of a valid backup.
func (e Entry) standing() retention.Word {
	if e.Retention == "" || e.Retention == retention.Valid {
		return retention.None
	}
	return e.Retention
}
