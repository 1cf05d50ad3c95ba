// Package backuplabel reads backup_label, which PostgreSQL writes at the start
// of a base backup (PostgreSQL manual, "Making a Base Backup Using the Low
// Level API"; source: src/backend/access/transam/xlogbackup.c). It never
// writes one: the label of a backup is stored byte by byte as the server gave it.
package backuplabel

import (
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/lazyregexp"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Label is what a backup_label says.
type Label struct {
	StartLSN           wal.LSN
	StartWAL           string
	CheckpointLSN      wal.LSN
	Method             string // streamed or pg_start_backup
	From               string // primary or standby
	StartTime          string // in the server's time zone and words
	Text               string // the label that the client gave
	Timeline           uint32
	IncrementalFromLSN wal.LSN // zero for a full backup
	IncrementalFromTLI uint32
}

var startLine = lazyregexp.New(`^([0-9A-F]+/[0-9A-F]+) \(file ([0-9A-F]{24})\)$`)

// Parse reads a label; the start location and its file are required.
func Parse(text string) (Label, error) {
	var l Label
	bad := func(line string) (Label, error) {
		return Label{}, fault.New(fault.Corrupt, "read backup label", "", "the line %q is not understood", line)
	}
	for _, line := range strings.Split(text, "\n") {
		key, value, ok := strings.Cut(strings.TrimRight(line, "\r"), ": ")
		if !ok {
			continue
		}
		var err error
		var n uint64
		switch key {
		case "START WAL LOCATION":
			m := startLine.FindStringSubmatch(value)
			if m == nil {
				return bad(line)
			}
			l.StartWAL = m[2]
			l.StartLSN, err = wal.ParseLSN(m[1])
		case "CHECKPOINT LOCATION":
			l.CheckpointLSN, err = wal.ParseLSN(value)
		case "BACKUP METHOD":
			l.Method = value
		case "BACKUP FROM":
			l.From = value
		case "START TIME":
			l.StartTime = value
		case "LABEL":
			l.Text = value
		case "START TIMELINE":
			n, err = strconv.ParseUint(value, 10, 32)
			l.Timeline = uint32(n)
		case "INCREMENTAL FROM LSN":
			l.IncrementalFromLSN, err = wal.ParseLSN(value)
		case "INCREMENTAL FROM TLI":
			n, err = strconv.ParseUint(value, 10, 32)
			l.IncrementalFromTLI = uint32(n)
		}
		if err != nil {
			return bad(line)
		}
	}
	if l.StartWAL == "" {
		return Label{}, fault.New(fault.Corrupt, "read backup label", "", "it has no START WAL LOCATION")
	}
	if l.Timeline == 0 {
		tli, err := wal.TimelineOf(l.StartWAL)
		if err != nil {
			return Label{}, err
		}
		l.Timeline = tli
	}
	return l, nil
}
