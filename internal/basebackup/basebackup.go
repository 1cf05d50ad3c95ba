// Package basebackup knows how pg_basebackup is called and what it says.
//
// It builds argument lists and reads output; running the program is the
// business of package command. Passwords are returned apart from arguments.
package basebackup

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/lazyregexp"
)

// Tablespace is where one tablespace goes.
type Tablespace struct{ Location, Dest string }

// Options of one run.
type Options struct {
	DSN         string // keyword form, without password
	Application string // application_name, unless DSN names one
	Dest        string // the data directory's image
	Tablespaces []Tablespace
	MaxRateKB   int    // kB/s as Barman's bandwidth_limit counts; 0 for no limit
	Incremental string // the manifest of the backup to build on; "" for a full one
	Fast        bool
	Compression *Compression // nil for plain files
}

// Compression is how a backup is compressed. Zero values leave the choice to
// pg_basebackup.
type Compression struct {
	Algorithm string // gzip, lz4, zstd or none
	Format    string // plain or tar; tar unless set
	Location  string // client or server
	Level     *int
	Workers   *int
	Tool      int // major version of pg_basebackup
}

// args is how the version of the program wants it said.
func (c *Compression) args() []string {
	args := []string{"--format=" + cmp.Or(c.Format, "tar")}
	if c.Tool < 15 {
		switch {
		case c.Algorithm == "none":
			return append(args, "--compress=0")
		case c.Level != nil && *c.Level >= 0:
			// --gzip would reset a level that came before it.
			return append(args, "--gzip", fmt.Sprintf("--compress=%d", *c.Level))
		}
		return append(args, "--gzip")
	}
	if c.Algorithm == "none" {
		return append(args, "--compress=none")
	}
	spec := c.Algorithm
	if c.Location != "" {
		spec = c.Location + "-" + spec
	}
	var details []string
	if c.Level != nil {
		details = append(details, fmt.Sprintf("level=%d", *c.Level))
	}
	if c.Workers != nil {
		details = append(details, fmt.Sprintf("workers=%d", *c.Workers))
	}
	if len(details) > 0 {
		spec += ":" + strings.Join(details, ",")
	}
	return append(args, "--compress="+spec)
}

// Args is the command line (pg_basebackup(1)). The order is Barman's.
func Args(o Options) []string {
	dsn := o.DSN
	if !strings.Contains(dsn, "application_name=") && o.Application != "" {
		dsn = strings.TrimSpace(dsn + " application_name=" + o.Application)
	}
	if !strings.Contains(dsn, "options=") {
		dsn += " options=-csearch_path="
	}
	args := []string{
		"--dbname=" + dsn, "-v", "--no-password", "--progress", "--pgdata=" + o.Dest,
		"--no-slot", "--wal-method=none", "--manifest-checksums=SHA256",
	}
	for _, t := range o.Tablespaces {
		args = append(args, "--tablespace-mapping="+escapeEquals(t.Location)+"="+escapeEquals(t.Dest))
	}
	if o.MaxRateKB > 0 {
		args = append(args, "--max-rate="+strconv.Itoa(o.MaxRateKB))
	}
	if o.Incremental != "" {
		args = append(args, "--incremental="+o.Incremental)
	}
	if o.Fast {
		args = append(args, "--checkpoint=fast")
	}
	if o.Compression != nil {
		args = append(args, o.Compression.args()...)
	}
	return args
}

// escapeEquals keeps an equals sign in a path from dividing a mapping.
func escapeEquals(path string) string { return strings.ReplaceAll(path, "=", `\=`) }

// PrepareDestinations makes every directory empty and ours alone: pg_basebackup
// begins from nothing.
func PrepareDestinations(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			return fault.Wrap(fault.Internal, "empty", dir, err)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fault.Wrap(fault.Internal, "create directory", dir, err)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return fault.Wrap(fault.Internal, "create directory", dir, err)
		}
	}
	return nil
}

// CheckVersion refuses a pg_basebackup that is older than the server.
func CheckVersion(path string, tool, server int) error {
	if tool >= server {
		return nil
	}
	return fault.New(fault.Tool, "use", path, "it is of version %d, the server is of version %d", tool, server).
		WithHint("install postgresql-client-%d and let path_prefix name its directory", server)
}

// Progress is what pg_basebackup last said of its progress.
type Progress struct {
	DoneKB, TotalKB int64
	WaitingForWAL   bool // it waits for WAL that the server has not archived yet
	Checkpoint      bool // it waits for the server's checkpoint
}

var progressLine = lazyregexp.New(`^\s*(\d+)/(\d+) kB \(`)

// ReadProgress reads the end of the output so far.
func ReadProgress(output string) Progress {
	var p Progress
	for _, line := range outputLines(output) {
		if m := progressLine.FindStringSubmatch(line); m != nil {
			p.DoneKB, _ = strconv.ParseInt(m[1], 10, 64)
			p.TotalKB, _ = strconv.ParseInt(m[2], 10, 64)
			p.Checkpoint = false
			continue
		}
		switch {
		case strings.Contains(line, "waiting for checkpoint"), strings.Contains(line, "initiating base backup"):
			p.Checkpoint = true
		case strings.Contains(line, "checkpoint completed"):
			p.Checkpoint = false
		case strings.Contains(line, "waiting for required WAL segments"):
			p.WaitingForWAL = true
		}
	}
	return p
}

// outputLines splits at newlines, and at the carriage returns of a progress line.
func outputLines(output string) []string {
	return strings.FieldsFunc(output, func(r rune) bool { return r == '\n' || r == '\r' })
}

// LastError is the last line of the output that says why a run failed.
func LastError(out string) string {
	last := ""
	for _, line := range outputLines(out) {
		if strings.Contains(line, "error:") || strings.Contains(line, "FATAL:") {
			last = strings.TrimSpace(line)
		}
	}
	return strings.TrimPrefix(last, "pg_basebackup: ")
}

// Classify gives the failure of a run a kind and a remedy.
func Classify(dest, output string, cause error) error {
	why := LastError(output)
	if why == "" {
		why = cause.Error()
	}
	e := fault.New(fault.Internal, "pg_basebackup to", dest, "%s", why)
	var exit *command.ExitError
	switch {
	case errors.As(cause, &exit) && exit.Signal != "":
		e.Kind = fault.Crashed
		return e.WithHint("something ended it; if nobody did, look for the kernel's out-of-memory killer: dmesg | grep -i oom")
	case strings.Contains(why, "No space left on device"), strings.Contains(why, "Disk quota exceeded"):
		e.Kind = fault.Disk
		return e.WithHint("free space on the file system of %s", filepath.Dir(dest))
	case strings.Contains(why, "password authentication failed"), strings.Contains(why, "no pg_hba.conf entry"), strings.Contains(why, "fe_sendauth"):
		e.Kind = fault.Permission
		return e.WithHint("let pg_hba.conf admit replication connections of the user in streaming_conninfo, and check its password")
	case strings.Contains(why, "must be superuser or replication role"), strings.Contains(why, "permission denied to start WAL sender"):
		e.Kind = fault.Permission
		return e.WithHint("as a superuser: ALTER ROLE <user of streaming_conninfo> REPLICATION")
	case strings.Contains(why, "exceeds max_wal_senders"), strings.Contains(why, "number of requested standby connections"):
		e.Kind = fault.Connection
		return e.WithHint("raise max_wal_senders on the server")
	case strings.Contains(why, "standby was promoted"):
		e.Kind = fault.Connection
		return e.WithHint("the copy is begun anew on the new primary")
	case strings.Contains(why, "could not connect"), strings.Contains(why, "connection to server"), strings.Contains(why, "server closed the connection"), strings.Contains(why, "COPY stream ended"), strings.Contains(why, "could not read COPY data"),
		strings.Contains(why, "terminating connection"), strings.Contains(why, "the database system is"):
		e.Kind = fault.Connection
		return e.WithHint("is the server running? the copy is tried again")
	case strings.Contains(why, "WAL summar"):
		e.Kind = fault.Refused
		return e.WithHint("the server has not kept, or not made yet, the summaries of all WAL since the backup that was to be built on: take a full backup; " +
			"summarize_wal = on must stay set, and wal_summary_keep_time must be longer than the time between two backups")
	case strings.Contains(why, "manifest requires WAL"), strings.Contains(why, "found in manifest"), strings.Contains(why, "in backup manifest"):
		e.Kind = fault.Refused
		return e.WithHint("the server cannot build on that backup: take a full one")
	case strings.Contains(why, "does not support compression"), strings.Contains(why, "not supported by this build"):
		e.Kind = fault.Tool
		return e.WithHint("this pg_basebackup or this server was built without it: choose another backup_compression, or let backup_compression_location name the other side")
	case strings.Contains(why, "Permission denied"):
		e.Kind = fault.Permission
		return e.WithHint("the file that is named must be readable for the server's user, or writable for ours")
	}
	return e
}

// Describe is a line for people.
func (p Progress) Describe() string {
	switch {
	case p.WaitingForWAL:
		return "pg_basebackup waits for the last WAL segments"
	case p.Checkpoint:
		return "pg_basebackup waits for a checkpoint"
	}
	return "pg_basebackup copies"
}
