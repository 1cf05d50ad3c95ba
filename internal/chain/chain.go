// Package chain knows how incremental backups build on each other: which backup
// a new one may build on, and which ones a restore has to combine.
//
// It is pure: package catalog reads and writes the records, pg_basebackup and
// pg_combinebackup do the work.
package chain

import (
	"fmt"
	"slices"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/backuplabel"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// minVersion is the first PostgreSQL with incremental backups.
const minVersion = 170000

// CheckParent refuses a backup that the next one of a server cannot build on.
// The histories are those of the server's WAL archive.
func CheckParent(parent *backupinfo.Info, f postgres.Facts, histories map[uint32]wal.History) error {
	full := "take a full backup: holdfast backup " + parent.ServerName
	refuse := func(hint, format string, args ...any) error {
		return fault.New(fault.Refused, "build on backup", string(parent.ID), format, args...).WithHint("%s", hint)
	}
	switch {
	case f.Version < minVersion:
		return refuse(full, "PostgreSQL %d takes no incremental backups; version 17 was the first", postgres.Major(f.Version))
	case f.SummarizeWAL != "on":
		return refuse("on the server: ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf(); then "+full,
			"summarize_wal is off, and incremental backups are made by WAL summaries")
	case parent.Status != backup.Done:
		return refuse("name one that is DONE (holdfast list-backups "+parent.ServerName+"), or "+full, "it is %s, not DONE", parent.Status)
	case parent.Snapshots != nil || text(parent.Mode) != "postgres":
		return refuse(full, "it was taken as %s, and pg_basebackup builds on its own backups only", text(parent.Mode))
	case text(parent.SummarizeWAL) != "on":
		return refuse(full, "summarize_wal was not on when it was taken")
	case text(parent.SystemID) != f.SystemID:
		return refuse(full, "it is of the cluster with system identifier %s, the server's is %s", text(parent.SystemID), f.SystemID)
	case parent.Version == nil || postgres.Major(*parent.Version) != postgres.Major(f.Version):
		return refuse(full, "it is not of PostgreSQL %d", postgres.Major(f.Version))
	case text(parent.DataChecksums) != f.DataChecksums:
		return refuse(full, "data_checksums was %s when it was taken and is %s now, and pages of both kinds cannot be combined", text(parent.DataChecksums), f.DataChecksums)
	case parent.BeginLSN == nil || parent.EndLSN == nil || parent.Timeline == nil:
		return refuse(full, "its record does not say where in the WAL it begins and ends")
	}
	if h, known := histories[f.Timeline]; *parent.Timeline != f.Timeline && !(known && h.Contains(*parent.Timeline, *parent.EndLSN)) {
		return refuse(full, "it is of timeline %d, the server is on timeline %d, and no history in the archive leads from its end to there", *parent.Timeline, f.Timeline)
	}
	return nil
}

func text(s *string) string {
	if s == nil {
		return "unknown"
	}
	return *s
}

// CheckLabel makes sure that an incremental backup builds on the one that its
// record names.
func CheckLabel(l backuplabel.Label, parent *backupinfo.Info) error {
	if parent.BeginLSN == nil || parent.Timeline == nil || l.IncrementalFromLSN != *parent.BeginLSN || l.IncrementalFromTLI != *parent.Timeline {
		return fault.New(fault.Corrupt, "check", "backup label", "the backup builds on one that begins at %s of timeline %d, and backup %s does not", l.IncrementalFromLSN, l.IncrementalFromTLI, parent.ID)
	}
	return nil
}

// Of lists what has to be combined for a backup: the full one first, itself
// last. For a full backup that is the backup alone.
func Of(info *backupinfo.Info, get func(backup.ID) (*backupinfo.Info, error)) ([]*backupinfo.Info, error) {
	out := []*backupinfo.Info{info}
	for child := info; child.Parent != nil; child = out[len(out)-1] {
		broken := func(format string, args ...any) error {
			return fault.New(fault.Refused, "combine", "backup "+string(info.ID), "%s", fmt.Sprintf(format, args...)).
				WithHint("restore another backup: holdfast list-backups %s", info.ServerName)
		}
		id := *child.Parent
		if id >= child.ID {
			return nil, broken("backup %s builds on %s, which is not older", child.ID, id)
		}
		parent, err := get(id)
		if fault.Is(err, fault.NotFound) {
			return nil, broken("backup %s builds on %s, which is not there", child.ID, id)
		}
		if err != nil {
			return nil, err
		}
		if !parent.Status.CopyDone() {
			return nil, broken("backup %s builds on %s, which is %s", child.ID, id, parent.Status)
		}
		if child.BackupLabel != nil {
			label, err := backuplabel.Parse(*child.BackupLabel)
			if err == nil {
				err = CheckLabel(label, parent)
			}
			if err != nil {
				return nil, err
			}
		}
		out = append(out, parent)
	}
	slices.Reverse(out)
	return out, nil
}
