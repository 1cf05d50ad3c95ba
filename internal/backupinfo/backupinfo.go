// Package backupinfo reads and writes backup.info, Barman's record of a backup.
//
// Encode is byte-identical to what Barman writes. Keys that are not known are
// kept and given back as warnings. It is pure: package catalog knows where
// records lie.
package backupinfo

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pylit"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Tablespace is an entry of the key tablespaces.
type Tablespace struct {
	Name     string
	OID      uint32
	Location string
}

// Info is one backup. A nil pointer is Barman's None.
type Info struct {
	ID                             backup.ID // not in the file: its name tells
	BackupLabel, BackupName        *string
	BeginOffset, EndOffset         *uint64
	BeginTime, EndTime             *time.Time
	BeginWAL, EndWAL               *string
	BeginLSN, EndLSN               *wal.LSN
	Children                       []backup.ID
	ClusterSize                    *int64
	Compression                    *string
	ConfigFile, HBAFile, IdentFile *string
	CopyStats                      *string // a Python dict, see Stats
	DataChecksums                  *string
	DeduplicatedSize, Size         *int64
	Encryption, Error              *string
	IncludedFiles                  []string
	Mode                           *string
	Parent                         *backup.ID
	PGData                         *string
	ServerName                     string
	Snapshots                      *pylit.Value
	Status                         backup.Status
	SummarizeWAL, SystemID         *string
	Tablespaces                    []Tablespace
	Timeline                       *uint32
	Version                        *int
	SegmentSize                    *uint64
	Unknown                        map[string]string // kept as they were
}

// Parse reads a record. Warnings name keys that this version does not know.
func Parse(id backup.ID, record string) (*Info, []string, error) {
	info := &Info{ID: id, Status: backup.Empty}
	var warnings []string
	line := 0
	for text := range strings.Lines(record) {
		line++
		text = strings.TrimSpace(text)
		if text == "" || text[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(text, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || key == "" {
			return nil, nil, fault.New(fault.Corrupt, "read backup.info of", string(id), "line %d has no key=value", line)
		}
		f, ok := fields[key]
		if !ok {
			if info.Unknown == nil {
				info.Unknown = map[string]string{}
			}
			info.Unknown[key] = value
			warnings = append(warnings, fmt.Sprintf("backup.info of %s, line %d: unknown key %s is kept as it is", id, line, key))
			continue
		}
		if value == "None" {
			continue
		}
		if err := f.read(info, value); err != nil {
			return nil, nil, fault.New(fault.Corrupt, "read backup.info of", string(id), "line %d, %s: %w", line, key, err)
		}
	}
	return info, warnings, nil
}

// Encode is the file's content.
func (i *Info) Encode() []byte {
	lines := make([]string, 0, 40)
	for key, f := range fields {
		value, isNull := f.write(i)
		if isNull {
			if f.omitNull {
				continue
			}
			value = "None"
		}
		lines = append(lines, key+"="+value+"\n")
	}
	for key, value := range i.Unknown {
		lines = append(lines, key+"="+value+"\n")
	}
	sort.Slice(lines, func(a, b int) bool {
		return lines[a][:strings.IndexByte(lines[a], '=')] < lines[b][:strings.IndexByte(lines[b], '=')]
	})
	return []byte(strings.Join(lines, ""))
}
