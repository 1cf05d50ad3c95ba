// Package backup is the vocabulary of backups: identifiers, statuses and types
// as Barman names them. It is pure and knows nothing of where backups lie.
package backup

import (
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// ID names a backup: YYYYMMDDTHHMMSS, local time of its start. IDs sort by age.
type ID string

const idLayout = "20060102T150405"

// NewID is the ID of a backup that starts at t.
func NewID(t time.Time) ID { return ID(t.Format(idLayout)) }

// ParseID reads an ID.
func ParseID(s string) (ID, error) {
	if _, err := time.Parse(idLayout, s); err != nil || len(s) != len(idLayout) {
		return "", fault.New(fault.Usage, "read backup ID", strconv.Quote(s), "it is not of the form YYYYMMDDTHHMMSS")
	}
	return ID(s), nil
}

// Status is the state of a backup in the catalogue.
type Status string

// The statuses of Barman.
const (
	Empty          Status = "EMPTY"
	Started        Status = "STARTED"
	WaitingForWALs Status = "WAITING_FOR_WALS"
	Done           Status = "DONE"
	Failed         Status = "FAILED"
	Syncing        Status = "SYNCING"
)

// Valid reports whether Barman knows the status.
func (s Status) Valid() bool {
	switch s {
	case Empty, Started, WaitingForWALs, Done, Failed, Syncing:
		return true
	}
	return false
}

// CopyDone reports whether all files of the backup are there.
func (s Status) CopyDone() bool { return s == WaitingForWALs || s == Done }

// Type is what a backup is to retention and to lists.
type Type string

// The types of Barman.
const (
	Full        Type = "full"
	Rsync       Type = "rsync"
	Snapshot    Type = "snapshot"
	Incremental Type = "incremental"
)

// TypeOf computes the type from the mode and the parent in backup.info.
func TypeOf(mode string, parent ID) Type {
	switch {
	case strings.HasPrefix(mode, "snapshot"):
		return Snapshot
	case strings.HasPrefix(mode, "rsync"):
		return Rsync
	case parent != "":
		return Incremental
	}
	return Full
}
