// Package combinebackup knows how pg_combinebackup is called and what it says.
//
// It makes a full backup of an incremental one and those that it builds on.
// Running it, and what it reads and writes, is the business of package restore.
package combinebackup

import (
	"errors"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// The ways in which files that need no reconstruction get into the result.
const (
	Copy          = "copy"
	Link          = "link"
	Clone         = "clone"
	CopyFileRange = "copy-file-range"
)

// firstLink is the version that brought Link.
const firstLink = 18

// CanLink reports whether the program of a major version knows Link.
func CanLink(major int) bool { return major >= firstLink }

// Tablespace is a directory of the newest backup, and its place in the result.
type Tablespace struct{ From, To string }

// Options of one run.
type Options struct {
	Inputs      []string // data directories, the full backup's first
	Output      string   // must be empty or absent
	Tablespaces []Tablespace
	Mode        string
	Checksums   string // algorithm of the result's manifest
}

// Args is the command line (pg_combinebackup(1)).
func Args(o Options) []string {
	args := []string{"--output=" + o.Output, "--no-sync", "--" + o.Mode}
	if o.Checksums != "" {
		args = append(args, "--manifest-checksums="+o.Checksums)
	}
	for _, t := range o.Tablespaces {
		args = append(args, "--tablespace-mapping="+escapeEquals(t.From)+"="+escapeEquals(t.To))
	}
	return append(args, o.Inputs...)
}

// escapeEquals keeps an equals sign in a path from dividing a mapping.
func escapeEquals(path string) string { return strings.ReplaceAll(path, "=", `\=`) }

// Classify gives the failure of a run a kind and a remedy.
func Classify(o Options, err error) error {
	var exit *command.ExitError
	if err == nil || !errors.As(err, &exit) {
		return err
	}
	why := lastError(exit.Stderr)
	if why == "" {
		why = exit.Error()
	}
	e := fault.New(fault.Corrupt, "combine into", o.Output, "pg_combinebackup: %s", why)
	switch {
	case exit.Signal != "":
		e.Kind = fault.Crashed
		return e.WithHint("something ended it; if nobody did, look for the kernel's out-of-memory killer: dmesg | grep -i oom")
	case strings.Contains(why, "No space left on device"), strings.Contains(why, "Disk quota exceeded"):
		e.Kind = fault.Disk
		return e.WithHint("free space on that file system, or restore to another one")
	case o.Mode != Copy && (strings.Contains(why, "Operation not supported") || strings.Contains(why, "not supported on this platform") || strings.Contains(why, "cross-device link") || strings.Contains(why, "Invalid argument")):
		e.Kind = fault.Refused
		return e.WithHint("the file system cannot do it: use --combine-mode copy")
	case strings.Contains(why, "Permission denied"):
		e.Kind = fault.Permission
		return e.WithHint("the user that restores must be able to read the backups and to write the destination")
	}
	return e.WithHint("restore another backup, or the full one that this one builds on")
}

// lastError is the last line that says why a run failed.
func lastError(out string) string {
	last := ""
	for line := range strings.Lines(out) {
		if _, text, ok := strings.Cut(line, "error: "); ok {
			last = strings.TrimSpace(text)
		}
	}
	return last
}
