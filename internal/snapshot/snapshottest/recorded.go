package snapshottest

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/command"
)

// Recorded is a host on which each command line prints what is known of a tool that
// is not here.
type Recorded struct {
	T    *testing.T
	Says map[string]string // by the line without quotes; "!" begins what it complains of
	Ran  []string
}

// Run is Host's.
func (r *Recorded) Run(_ context.Context, script string, out io.Writer) error {
	_, script, _ = strings.Cut(script, "\n") // what every script begins with
	for line := range strings.Lines(script) {
		line = strings.ReplaceAll(strings.TrimSpace(line), "'", "")
		r.Ran = append(r.Ran, line)
		said, known := r.Says[line]
		if text, bad := strings.CutPrefix(said, "!"); bad {
			return &command.ExitError{Program: "/bin/sh", Code: 1, Stderr: text}
		}
		if !known {
			r.T.Errorf("nothing is recorded of %q", line)
		}
		if _, err := io.WriteString(out, said); err != nil {
			return err
		}
	}
	return nil
}
