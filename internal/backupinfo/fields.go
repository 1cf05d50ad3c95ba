package backupinfo

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/pylit"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// field ties a key to a Go field.
type field struct {
	read     func(i *Info, value string) error
	write    func(i *Info) (value string, isNull bool)
	omitNull bool
}

// ptr is a field whose pointer is nil for None.
func ptr[T any](at func(*Info) **T, parse func(string) (T, error), format func(T) string) field {
	return field{
		read: func(i *Info, s string) error {
			v, err := parse(s)
			if err == nil {
				*at(i) = &v
			}
			return err
		},
		write: func(i *Info) (string, bool) {
			p := *at(i)
			if p == nil {
				return "", true
			}
			return format(*p), false
		},
	}
}

func raw(at func(*Info) **string) field {
	return ptr(at, func(s string) (string, error) { return s, nil }, oneLine)
}

// oneLine keeps a value from becoming further lines of the file.
func oneLine(s string) string { return strings.NewReplacer("\r", " ", "\n", " ").Replace(s) }

func signed(at func(*Info) **int64) field {
	return ptr(at, func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }, func(n int64) string { return strconv.FormatInt(n, 10) })
}

func unsigned(at func(*Info) **uint64) field {
	return ptr(at, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }, func(n uint64) string { return strconv.FormatUint(n, 10) })
}

func literal(at func(*Info) **pylit.Value) field { return ptr(at, pylit.Parse, pylit.Value.String) }

func lsn(at func(*Info) **wal.LSN) field { return ptr(at, wal.ParseLSN, wal.LSN.String) }

const timeLayout = "2006-01-02 15:04:05.999999-07:00"

// parseTime reads a time as Python's isoformat writes it, with a blank. Go is
// several times as fast with the same text in RFC 3339.
func parseTime(s string) (time.Time, error) {
	if day, clock, ok := strings.Cut(s, " "); ok {
		if t, err := time.Parse(time.RFC3339, day+"T"+clock); err == nil {
			return t, nil
		}
	}
	return time.Parse(timeLayout, s)
}

func moment(at func(*Info) **time.Time) field {
	return ptr(at, parseTime, func(t time.Time) string {
		if t.Nanosecond()/1000 == 0 {
			return t.Format("2006-01-02 15:04:05-07:00")
		}
		return t.Format("2006-01-02 15:04:05.000000-07:00")
	})
}

// unlessNull is left out of the file when it is None.
func (f field) unlessNull() field {
	f.omitNull = true
	return f
}

var fields = map[string]field{
	"backup_label":        ptr(func(i *Info) **string { return &i.BackupLabel }, parseString, pylit.Quote),
	"backup_name":         raw(func(i *Info) **string { return &i.BackupName }).unlessNull(),
	"begin_offset":        unsigned(func(i *Info) **uint64 { return &i.BeginOffset }),
	"begin_time":          moment(func(i *Info) **time.Time { return &i.BeginTime }),
	"begin_wal":           raw(func(i *Info) **string { return &i.BeginWAL }),
	"begin_xlog":          lsn(func(i *Info) **wal.LSN { return &i.BeginLSN }),
	"children_backup_ids": {read: (*Info).readChildren, write: (*Info).writeChildren},
	"cluster_size":        signed(func(i *Info) **int64 { return &i.ClusterSize }),
	"compression":         raw(func(i *Info) **string { return &i.Compression }),
	"config_file":         raw(func(i *Info) **string { return &i.ConfigFile }),
	"copy_stats":          raw(func(i *Info) **string { return &i.CopyStats }),
	"data_checksums":      raw(func(i *Info) **string { return &i.DataChecksums }),
	"deduplicated_size":   signed(func(i *Info) **int64 { return &i.DeduplicatedSize }),
	"encryption":          raw(func(i *Info) **string { return &i.Encryption }),
	"end_offset":          unsigned(func(i *Info) **uint64 { return &i.EndOffset }),
	"end_time":            moment(func(i *Info) **time.Time { return &i.EndTime }),
	"end_wal":             raw(func(i *Info) **string { return &i.EndWAL }),
	"end_xlog":            lsn(func(i *Info) **wal.LSN { return &i.EndLSN }),
	"error":               raw(func(i *Info) **string { return &i.Error }),
	"hba_file":            raw(func(i *Info) **string { return &i.HBAFile }),
	"ident_file":          raw(func(i *Info) **string { return &i.IdentFile }),
	"included_files":      {read: (*Info).readIncluded, write: (*Info).writeIncluded},
	"mode":                raw(func(i *Info) **string { return &i.Mode }),
	"parent_backup_id":    ptr(func(i *Info) **backup.ID { return &i.Parent }, backup.ParseID, func(id backup.ID) string { return string(id) }),
	"pgdata":              raw(func(i *Info) **string { return &i.PGData }),
	"server_name": {read: func(i *Info, s string) error { i.ServerName = s; return nil },
		write: func(i *Info) (string, bool) { return i.ServerName, i.ServerName == "" }},
	"size":           signed(func(i *Info) **int64 { return &i.Size }),
	"snapshots_info": literal(func(i *Info) **pylit.Value { return &i.Snapshots }).unlessNull(),
	"status":         {read: (*Info).readStatus, write: func(i *Info) (string, bool) { return string(i.Status), i.Status == "" }},
	"summarize_wal":  raw(func(i *Info) **string { return &i.SummarizeWAL }),
	"systemid":       raw(func(i *Info) **string { return &i.SystemID }),
	"tablespaces":    {read: (*Info).readTablespaces, write: (*Info).writeTablespaces},
	"timeline": ptr(func(i *Info) **uint32 { return &i.Timeline }, func(s string) (uint32, error) { n, err := strconv.ParseUint(s, 10, 32); return uint32(n), err },
		func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }),
	"version":           ptr(func(i *Info) **int { return &i.Version }, strconv.Atoi, strconv.Itoa),
	"xlog_segment_size": unsigned(func(i *Info) **uint64 { return &i.SegmentSize }),
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

// Stats is what copy_stats holds; None when there are none that can be read.
// They decide nothing, so a list of many backups does without them.
func (i *Info) Stats() pylit.Value {
	if i.CopyStats == nil {
		return pylit.Value{}
	}
	v, err := pylit.Parse(*i.CopyStats)
	if err != nil {
		return pylit.Value{}
	}
	return v
}
