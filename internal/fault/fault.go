// Package fault is the error vocabulary of Holdfast.
//
// Every error that can reach a user carries the operation that failed, its
// subject, a kind that decides what happens next, the cause, and a hint that
// tells the DBA what to do. It is not a logging package, and nothing in it
// ever prints a secret: callers redact before they build an error.
package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// Kind says what an error means to whoever has to react to it.
type Kind string

// The kinds. Retryable tells which of them time can cure.
const (
	// Internal is everything that has no better name; it is retried.
	Internal Kind = "Internal"
	// Usage is a command line that cannot be understood.
	Usage Kind = "Usage"
	// Config is a configuration that cannot be used as it stands.
	Config Kind = "Config"
	// NotFound is a server, backup, WAL file or option that does not exist.
	NotFound Kind = "NotFound"
	// Refused is an action that would endanger something, or a resource that is busy.
	Refused Kind = "Refused"
	// Unreachable is a Temporal engine that does not answer.
	Unreachable Kind = "Unreachable"
	// Permission is a missing privilege, in PostgreSQL or in the file system.
	Permission Kind = "Permission"
	// Tool is an external program that is missing, too old, or misbehaves.
	Tool Kind = "Tool"
	// Disk is a file system that is full or fails.
	Disk Kind = "Disk"
	// Connection is a PostgreSQL server that cannot be reached or went away.
	Connection Kind = "Connection"
	// Unavailable is a server that does not answer somebody who waits; it is not tried again.
	Unavailable Kind = "Unavailable"
	// SessionLost is a PostgreSQL backup session that ended before its backup.
	SessionLost Kind = "BackupSessionLost"
	// Superseded is a writer that met a newer claim on what it writes.
	Superseded Kind = "Superseded"
	// Conflict is other content under a name that must be unique.
	Conflict Kind = "Conflict"
	// Corrupt is content that does not match its checksum, size or format.
	Corrupt Kind = "Corrupt"
	// Crashed is a program of ours that was ended from outside.
	Crashed Kind = "Crashed"
	// Cancelled is an operation that somebody asked to end.
	Cancelled Kind = "Cancelled"
)

// Retryable reports whether the same call may succeed later without anybody's help.
func (k Kind) Retryable() bool {
	switch k {
	case Internal, Connection, Disk, Crashed:
		return true
	}
	return false
}

// ExitCode is the documented exit code of a command that ends with this kind.
func (k Kind) ExitCode() int {
	switch k {
	case Usage, Config:
		return 2
	case NotFound:
		return 3
	case Refused:
		return 4
	case Unreachable:
		return 5
	case Cancelled:
		return 130
	}
	return 1
}

// Error is an error with a meaning.
type Error struct {
	Op      string // what was being done, in a DBA's words: "start backup"
	Subject string // to what: a server, a file, an option
	Kind    Kind
	Err     error  // the cause
	Hint    string // what to do about it; empty when the cause says it all
}

// New returns an error of a kind. The message may be empty when err says it all.
func New(kind Kind, op, subject, format string, args ...any) *Error {
	return &Error{Op: op, Subject: subject, Kind: kind, Err: fmt.Errorf(format, args...)}
}

// Wrap returns err as an *Error of a kind; when err already carries a kind, that
// one is kept, because the first finder knows best. It returns nil for nil.
func Wrap(kind Kind, op, subject string, err error) error {
	if err == nil {
		return nil
	}
	var inner *Error
	if errors.As(err, &inner) {
		return &Error{Op: op, Subject: subject, Kind: inner.Kind, Err: err, Hint: inner.Hint}
	}
	if k := kindOfSystem(err); k != "" && kind == Internal {
		kind = k
	}
	return &Error{Op: op, Subject: subject, Kind: kind, Err: err}
}

// WithHint sets the remedy and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// Error is "op subject: cause".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Subject != "" {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(e.Subject)
	}
	if e.Err != nil {
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of the outermost *Error in err's chain, else what the
// operating system's error says, else Internal. It is "" for nil.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	if k := kindOfSystem(err); k != "" {
		return k
	}
	return Internal
}

// Is reports whether err is of a kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// HintOf is the first hint in err's chain, or "".
func HintOf(err error) string {
	for err != nil {
		var e *Error
		if !errors.As(err, &e) {
			return ""
		}
		if e.Hint != "" {
			return e.Hint
		}
		err = e.Err
	}
	return ""
}

// RemedyOf is the hint of an error, for people. Of what is refused it says that nothing
// forces it, unless an option does.
func RemedyOf(err error) string {
	hint := HintOf(err)
	if !Is(err, Refused) || strings.Contains(hint, "force") || strings.Contains(hint, " --") {
		return hint
	}
	return strings.TrimPrefix(hint+"; there is no way to force it", "; ")
}

func kindOfSystem(err error) Kind {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS):
		return Disk
	case errors.Is(err, fs.ErrPermission):
		return Permission
	case errors.Is(err, fs.ErrNotExist):
		return NotFound
	}
	return ""
}
