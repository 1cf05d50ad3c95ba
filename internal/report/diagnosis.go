package report

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/pylit"
)

// Settings are the options of a server, as Barman prints them, without secrets.
func Settings(s *config.Server) Object {
	o := Object{"name": s.Name, "disabled": s.Disabled()}
	s.Each(func(option config.Option, value string, _ config.Origin) { o[option.Name] = setting(option, value) })
	return o
}

// setting is the value of an option for JSON.
func setting(o config.Option, value string) any {
	if value == "" {
		return nil
	}
	switch o.Type {
	case "bool":
		if b, err := strconv.ParseBool(value); err == nil {
			return b
		}
	case "size":
		if n, ok := config.ParseSize(value); ok {
			return int64(n)
		}
	case "int", "kB/s", "seconds":
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			return n
		}
	}
	return value
}

// Record is a backup's record as Barman's diagnosis has it.
func Record(b *backupinfo.Info) Object {
	o := Object{"backup_id": b.ID, "server_name": b.ServerName, "status": b.Status,
		"begin_offset": orNull(b.BeginOffset), "end_offset": orNull(b.EndOffset), "begin_time": moment(b.BeginTime), "end_time": moment(b.EndTime),
		"begin_wal": orNull(b.BeginWAL), "end_wal": orNull(b.EndWAL), "begin_xlog": lsn(b.BeginLSN), "end_xlog": lsn(b.EndLSN),
		"children_backup_ids": children(b.Children), "cluster_size": orNull(b.ClusterSize), "compression": orNull(b.Compression),
		"config_file": orNull(b.ConfigFile), "hba_file": orNull(b.HBAFile), "ident_file": orNull(b.IdentFile), "copy_stats": nil, "backup_label": nil,
		"data_checksums": orNull(b.DataChecksums), "deduplicated_size": orNull(b.DeduplicatedSize), "size": orNull(b.Size), "encryption": orNull(b.Encryption),
		"error": orNull(b.Error), "included_files": nil, "mode": orNull(b.Mode), "parent_backup_id": orNull(b.Parent), "pgdata": orNull(b.PGData),
		"summarize_wal": orNull(b.SummarizeWAL), "systemid": orNull(b.SystemID), "tablespaces": nil, "timeline": orNull(b.Timeline),
		"version": orNull(b.Version), "xlog_segment_size": orNull(b.SegmentSize)}
	set(o, "backup_name", b.BackupName)
	if b.BackupLabel != nil {
		o["backup_label"] = pylit.Quote(*b.BackupLabel)
	}
	if b.CopyStats != nil {
		o["copy_stats"] = literal(b.Stats())
	}
	if b.Snapshots != nil {
		o["snapshots_info"] = literal(*b.Snapshots)
	}
	if b.IncludedFiles != nil {
		o["included_files"] = b.IncludedFiles
	}
	if b.Tablespaces != nil {
		list := [][]any{}
		for _, t := range b.Tablespaces {
			list = append(list, []any{t.Name, t.OID, t.Location})
		}
		o["tablespaces"] = list
	}
	return o
}

func moment(t *time.Time) any {
	if t == nil {
		return nil
	}
	return t.Format("2006-01-02T15:04:05.999999-07:00")
}

// literal is a Python value for JSON.
func literal(v pylit.Value) any {
	switch v.Kind {
	case pylit.Bool:
		return v.Bool
	case pylit.Int:
		return json.Number(v.Int)
	case pylit.Float:
		return v.Float
	case pylit.String:
		return v.Str
	case pylit.List, pylit.Tuple:
		list := []any{}
		for _, item := range v.Items {
			list = append(list, literal(item))
		}
		return list
	case pylit.Dict:
		o := Object{}
		for _, p := range v.Pairs {
			key := p.Key.Str
			if p.Key.Kind != pylit.String {
				key = p.Key.String()
			}
			o[key] = literal(p.Value)
		}
		return o
	}
	return nil
}

// Answers are what a server says of itself, as Barman's diagnosis has it. What
// is unknown is null; why tells the reason, "" when the server answers.
func Answers(f *postgres.Facts, a *postgres.Archiver, why string) Object {
	o := Object{}
	for _, key := range []string{"archive_command", "archive_mode", "current_xlog", "current_size", "data_checksums", "data_directory", "is_in_recovery",
		"postgres_systemid", "server_txt_version", "summarize_wal", "timeline", "wal_level", "xlogpos", "xlog_segment_size"} {
		o[key] = nil
	}
	if why != "" {
		o["connection_error"] = why
	}
	if f != nil {
		o["archive_command"], o["archive_mode"], o["data_checksums"], o["data_directory"] = f.ArchiveCommand, f.ArchiveMode, f.DataChecksums, f.DataDirectory
		o["current_size"], o["is_in_recovery"], o["postgres_systemid"], o["server_txt_version"] = f.ClusterSize, f.InRecovery, f.SystemID, f.VersionText
		o["summarize_wal"], o["timeline"], o["wal_level"], o["xlogpos"], o["xlog_segment_size"] = f.SummarizeWAL, f.Timeline, f.WALLevel, f.CurrentLSN, f.SegmentSize
	}
	if a != nil {
		o["current_xlog"] = a.CurrentWAL
		o["archived_count"], o["failed_count"], o["last_archived_wal"], o["last_failed_wal"] = a.Archived, a.Failed, a.LastWAL, a.LastFailed
	}
	return o
}
