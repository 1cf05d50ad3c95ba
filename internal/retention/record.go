package retention

import (
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Of is a backup as its record describes it. What is said of it elsewhere is not there.
func Of(info *backupinfo.Info) Backup {
	b := Backup{ID: info.ID, Status: info.Status, Snapshots: info.Snapshots != nil, SegmentSize: wal.DefaultSegmentSize}
	set(&b.Parent, info.Parent)
	set(&b.SystemID, info.SystemID)
	set(&b.Timeline, info.Timeline)
	set(&b.Begin, info.BeginLSN)
	set(&b.End, info.EndLSN)
	set(&b.SegmentSize, info.SegmentSize)
	set(&b.EndTime, info.EndTime)
	return b
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}
