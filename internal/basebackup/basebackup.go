// Package basebackup knows how pg_basebackup is called and what it says.
//
// It builds argument lists and reads output; running the program is the
// business of package command. Passwords are returned apart from arguments.
package basebackup

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Tablespace is where one tablespace goes.
type Tablespace struct{ Location, Dest string }

// Options of one run in plain format.
type Options struct {
	DSN         string // keyword form, without password
	Application string // application_name, unless DSN names one
	Dest        string // the data directory's image
	Tablespaces []Tablespace
	MaxRateKB   int // kB/s as Barman's bandwidth_limit counts; 0 for no limit
	Fast        bool
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
	if o.Fast {
		args = append(args, "--checkpoint=fast")
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

var versionText = regexp.MustCompile(`\(PostgreSQL\)\s+(\d+)(?:\.(\d+))?`)

// ParseVersion reads the major version from `pg_basebackup --version`.
func ParseVersion(out string) (int, error) {
	m := versionText.FindStringSubmatch(out)
	if m == nil {
		return 0, fault.New(fault.Tool, "read version of", "pg_basebackup", "it says %q", strings.TrimSpace(out))
	}
	return strconv.Atoi(m[1])
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

var progressLine = regexp.MustCompile(`^\s*(\d+)/(\d+) kB \(`)

// ReadProgress reads the output so far; only its end matters.
func ReadProgress(r io.Reader) (Progress, error) {
	var p Progress
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 4096), 1<<20)
	sc.Split(splitReturns)
	for sc.Scan() {
		line := sc.Text()
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
	return p, sc.Err()
}

// splitReturns splits at newlines and at carriage returns.
func splitReturns(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// LastError is the last line of the output that says why a run failed.
func LastError(out string) string {
	last := ""
	for _, line := range strings.FieldsFunc(out, func(r rune) bool { return r == '\n' || r == '\r' }) {
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
	switch {
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
	case strings.Contains(why, "could not connect"), strings.Contains(why, "connection to server"), strings.Contains(why, "server closed the connection"):
		e.Kind = fault.Connection
		return e.WithHint("is the server running? the copy is tried again")
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
	return fmt.Sprintf("pg_basebackup copied %d of %d kB", p.DoneKB, p.TotalKB)
}
