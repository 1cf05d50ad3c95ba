// Package backupinfo reads and writes backup.info, Barman's record of a backup.
//
// Encode is byte-identical to what Barman writes. Keys that are not known are
// kept and given back as warnings. It is pure: package catalog knows where
// records lie.
package backupinfo

import (
	"bufio"
	"fmt"
	"io"
	"sort"
	"strconv"
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
	CopyStats                      *pylit.Value
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
func Parse(id backup.ID, r io.Reader) (*Info, []string, error) {
	info := &Info{ID: id, Status: backup.Empty}
	known := info.fields()
	var warnings []string
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 64<<20)
	for line := 1; sc.Scan(); line++ {
		text := strings.TrimSpace(sc.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(text, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || key == "" {
			return nil, nil, fault.New(fault.Corrupt, "read backup.info of", string(id), "line %d has no key=value", line)
		}
		f, ok := known[key]
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
		if err := f.read(value); err != nil {
			return nil, nil, fault.New(fault.Corrupt, "read backup.info of", string(id), "line %d, %s: %w", line, key, err)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, nil, fault.Wrap(fault.Corrupt, "read backup.info of", string(id), err)
	}
	return info, warnings, nil
}

// Encode is the file's content.
func (i *Info) Encode() []byte {
	lines := make([]string, 0, 40)
	for key, f := range i.fields() {
		value, isNull := f.write()
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

type field struct {
	read     func(string) error
	write    func() (value string, isNull bool)
	omitNull bool
}

// text, number and the others tie a key to a Go field.
func ptr[T any](p **T, parse func(string) (T, error), format func(T) string) field {
	return field{
		read: func(s string) error {
			v, err := parse(s)
			if err == nil {
				*p = &v
			}
			return err
		},
		write: func() (string, bool) {
			if *p == nil {
				return "", true
			}
			return format(**p), false
		},
	}
}

func raw(p **string) field {
	return ptr(p, func(s string) (string, error) { return s, nil }, oneLine)
}

// oneLine keeps a value from becoming further lines of the file.
func oneLine(s string) string { return strings.NewReplacer("\r", " ", "\n", " ").Replace(s) }

func signed(p **int64) field {
	return ptr(p, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }, func(n int64) string { return strconv.FormatInt(n, 10) })
}

func unsigned(p **uint64) field {
	return ptr(p, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }, func(n uint64) string { return strconv.FormatUint(n, 10) })
}

func literal(p **pylit.Value) field { return ptr(p, pylit.Parse, pylit.Value.String) }

const timeLayout = "2006-01-02 15:04:05.999999-07:00"

func moment(p **time.Time) field {
	return ptr(p, func(s string) (time.Time, error) { return time.Parse(timeLayout, s) }, func(t time.Time) string {
		if t.Nanosecond()/1000 == 0 {
			return t.Format("2006-01-02 15:04:05-07:00")
		}
		return t.Format("2006-01-02 15:04:05.000000-07:00")
	})
}

func (i *Info) fields() map[string]field {
	name, snapshots := raw(&i.BackupName), literal(&i.Snapshots)
	name.omitNull, snapshots.omitNull = true, true
	lsn := func(p **wal.LSN) field { return ptr(p, wal.ParseLSN, wal.LSN.String) }
	return map[string]field{
		"backup_label": ptr(&i.BackupLabel, parseString, pylit.Quote), "backup_name": name,
		"begin_offset": unsigned(&i.BeginOffset), "end_offset": unsigned(&i.EndOffset),
		"begin_time": moment(&i.BeginTime), "end_time": moment(&i.EndTime),
		"begin_wal": raw(&i.BeginWAL), "end_wal": raw(&i.EndWAL),
		"begin_xlog": lsn(&i.BeginLSN), "end_xlog": lsn(&i.EndLSN),
		"children_backup_ids": {read: i.readChildren, write: i.writeChildren},
		"cluster_size":        signed(&i.ClusterSize), "compression": raw(&i.Compression),
		"config_file": raw(&i.ConfigFile), "hba_file": raw(&i.HBAFile), "ident_file": raw(&i.IdentFile),
		"copy_stats": literal(&i.CopyStats), "data_checksums": raw(&i.DataChecksums),
		"deduplicated_size": signed(&i.DeduplicatedSize), "size": signed(&i.Size),
		"encryption": raw(&i.Encryption), "error": raw(&i.Error),
		"included_files": {read: i.readIncluded, write: i.writeIncluded}, "mode": raw(&i.Mode),
		"parent_backup_id": ptr(&i.Parent, backup.ParseID, func(id backup.ID) string { return string(id) }),
		"pgdata":           raw(&i.PGData),
		"server_name": {read: func(s string) error { i.ServerName = s; return nil },
			write: func() (string, bool) { return i.ServerName, i.ServerName == "" }},
		"snapshots_info": snapshots,
		"status":         {read: i.readStatus, write: func() (string, bool) { return string(i.Status), i.Status == "" }},
		"summarize_wal":  raw(&i.SummarizeWAL), "systemid": raw(&i.SystemID),
		"tablespaces": {read: i.readTablespaces, write: i.writeTablespaces},
		"timeline": ptr(&i.Timeline, func(s string) (uint32, error) { n, err := strconv.ParseUint(s, 10, 32); return uint32(n), err },
			func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }),
		"version": ptr(&i.Version, strconv.Atoi, strconv.Itoa), "xlog_segment_size": unsigned(&i.SegmentSize),
	}
}

func parseString(s string) (string, error) {
	v, err := pylit.Parse(s)
	if err == nil && v.Kind != pylit.String {
		err = fmt.Errorf("%s is no string", v)
	}
	return v.Str, err
}

func (i *Info) readStatus(s string) error {
	i.Status = backup.Status(s)
	if !i.Status.Valid() {
		return fmt.Errorf("%q is no status", s)
	}
	return nil
}

func (i *Info) readChildren(s string) error {
	i.Children = nil
	for _, c := range strings.Split(s, ",") {
		id, err := backup.ParseID(strings.TrimSpace(c))
		if err != nil {
			return err
		}
		i.Children = append(i.Children, id)
	}
	return nil
}

func (i *Info) writeChildren() (string, bool) {
	var out []string
	for _, c := range i.Children {
		out = append(out, string(c))
	}
	return strings.Join(out, ","), len(out) == 0
}

func (i *Info) readIncluded(s string) error {
	v, err := pylit.Parse(s)
	if err != nil {
		return err
	}
	i.IncludedFiles = []string{}
	for _, it := range v.Items {
		i.IncludedFiles = append(i.IncludedFiles, it.Str)
	}
	return nil
}

func (i *Info) writeIncluded() (string, bool) {
	var out []pylit.Value
	for _, f := range i.IncludedFiles {
		out = append(out, pylit.Str(f))
	}
	return pylit.L(out...).String(), i.IncludedFiles == nil
}

func (i *Info) readTablespaces(s string) error {
	v, err := pylit.Parse(s)
	if err != nil {
		return err
	}
	i.Tablespaces = []Tablespace{}
	for _, it := range v.Items {
		if len(it.Items) != 3 {
			return fmt.Errorf("%s is not (name, oid, location)", it)
		}
		oid, err := it.Items[1].Int64()
		if err != nil || oid < 0 || oid > 1<<32-1 {
			return fmt.Errorf("%s is no oid", it.Items[1])
		}
		i.Tablespaces = append(i.Tablespaces, Tablespace{it.Items[0].Str, uint32(oid), it.Items[2].Str})
	}
	return nil
}

func (i *Info) writeTablespaces() (string, bool) {
	var out []pylit.Value
	for _, t := range i.Tablespaces {
		out = append(out, pylit.T(pylit.Str(t.Name), pylit.I(int64(t.OID)), pylit.Str(t.Location)))
	}
	return pylit.L(out...).String(), i.Tablespaces == nil
}
