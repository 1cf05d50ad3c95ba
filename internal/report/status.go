package report

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/window"
)

// Status is what is known of a server.
type Status struct {
	Now           time.Time
	Zone          *time.Location
	Description   string
	Active        bool
	Disabled      bool
	Model         string // "" for none
	Passive       bool
	Retention     string // "" for no policy
	PrimarySSH    string
	MinRedundancy int
	Backups       []*backupinfo.Info
	Facts         *postgres.Facts    // nil when PostgreSQL does not answer
	Archiver      *postgres.Archiver // nil when that is unknown
	Schedule      *Schedule          // nil when there is none
	Window        *window.Result     // nil when the archive cannot be read
	Behind        []backup.ID        // complete backups that one of several destinations lacks
	Streaming     string             // how the streaming of WAL goes; "" when WAL is not streamed
	Running       string             // the backup that runs, or why nobody knows; "" for none
}

// StatusRow is a line of a status; its message may have several.
type StatusRow struct {
	Key, Description, Message string
	Detail                    Object // further keys of its JSON object
}

// JSON is the row as an object.
func (r StatusRow) JSON() Object {
	o := Object{"description": r.Description, "message": r.Message}
	maps.Copy(o, r.Detail)
	return o
}

// String is the row for people.
func (r StatusRow) String() string {
	return r.Description + ": " + strings.ReplaceAll(r.Message, "\n", "\n\t\t")
}

func row(key, description, message string) StatusRow {
	return StatusRow{Key: key, Description: description, Message: message}
}

// Rows are the status line by line, under Barman's keys.
func (s Status) Rows() []StatusRow {
	rows := []StatusRow{
		row("description", "Description", s.Description),
		row("active", "Active", pyBool(s.Active)),
		row("disabled", "Disabled", pyBool(s.Disabled)),
		row("active_model", "Active configuration model", orNone(s.Model)),
	}
	rows = append(rows, s.server()...)
	if s.Streaming != "" {
		rows = append(rows, row("wal_streaming", "WAL streaming", s.Streaming))
	}
	rows = append(rows, row("passive_node", "Passive node", pyBool(s.Passive)))
	if s.PrimarySSH != "" {
		rows = append(rows, row("primary_ssh_command", "SSH command to primary server", s.PrimarySSH))
	}
	policy := "not enforced"
	if s.Retention != "" {
		policy = "enforced (mode: auto, retention: " + s.Retention + ", WAL retention: MAIN)"
	}
	rows = append(rows, row("retention_policies", "Retention policies", policy))
	rows = append(rows, s.backups()...)
	rows = append(rows, Recoverable{s.Zone, s.Backups, s.Window}.Rows()...)
	if s.Schedule != nil {
		rows = append(rows, row("backup_schedule", "Backup schedule", s.Schedule.String()))
	}
	if s.Running != "" {
		rows = append(rows, row("running_backup", "Running backup", s.Running))
	}
	return rows
}

func (s Status) server() []StatusRow {
	f := s.Facts
	if f == nil {
		return nil
	}
	version, _, _ := strings.Cut(f.VersionText, " ")
	state := "in production"
	if f.InRecovery {
		state = "in archive recovery"
	}
	rows := []StatusRow{
		row("pg_version", "PostgreSQL version", version),
		row("is_in_recovery", "Cluster state", state),
		row("current_size", "Current data size", Size(f.ClusterSize)),
		row("data_directory", "PostgreSQL Data directory", f.DataDirectory),
	}
	a := s.Archiver
	if a == nil {
		return append(rows, row("archive_command", "PostgreSQL 'archive_command' setting", f.ArchiveCommand))
	}
	if a.CurrentWAL != "" {
		rows = append(rows, row("current_xlog", "Current WAL segment", a.CurrentWAL))
	}
	last, failures := "No WAL segment shipped yet", fmt.Sprint(a.Failed)
	if a.LastWAL != "" {
		last = a.LastWAL + ", at " + CTime(a.LastAt.In(s.Zone))
	}
	if a.Failed > 0 {
		failures += fmt.Sprintf(" (%s at %s)", a.LastFailed, CTime(a.FailedAt.In(s.Zone)))
	}
	return append(rows,
		row("archive_command", "PostgreSQL 'archive_command' setting", f.ArchiveCommand),
		row("last_archived_wal", "Last archived WAL", last),
		row("failed_count", "Failures of WAL archiver", failures),
		row("server_archived_wals_per_hour", "Server WAL archiving rate", fmt.Sprintf("%.2f/hour", a.PerHour(s.Now))))
}

func (s Status) backups() []StatusRow {
	first, last, complete, redundant := "None", "None", 0, 0
	for _, b := range s.Backups {
		if !b.Status.CopyDone() {
			continue
		}
		if complete++; complete == 1 {
			first = string(b.ID)
		}
		last = string(b.ID)
		if b.Status == backup.Done && b.Parent == nil {
			redundant++
		}
	}
	verdict := "satisfied"
	if redundant < s.MinRedundancy {
		verdict = "FAILED"
	}
	rows := []StatusRow{
		row("backups_number", "No. of available backups", fmt.Sprint(complete)),
		row("first_backup", "First available backup", first),
		row("last_backup", "Last available backup", last),
		row("minimum_redundancy", "Minimum redundancy requirements", fmt.Sprintf("%s (%d/%d)", verdict, redundant, s.MinRedundancy)),
	}
	if len(s.Behind) > 0 {
		rows = append(rows, row("behind", "Backups that a destination lacks", joinIDs(s.Behind)+" (show-backup tells which, and why)"))
	}
	return rows
}

func pyBool(b bool) string {
	if b {
		return "True"
	}
	return "False"
}

func orNone(s string) string {
	if s == "" {
		return "None"
	}
	return s
}
