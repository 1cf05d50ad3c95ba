package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/ssh"
)

// Host is where the disks are. *ssh.Link is one; Here is this one.
type Host interface {
	// Run gives a script to sh and copies what it prints. A script that fails has a
	// *command.ExitError in the error's chain.
	Run(ctx context.Context, script string, out io.Writer) error
}

// Here runs scripts on this host.
type Here struct {
	Env        []string // added to ours
	PathPrefix string   // as the option path_prefix
}

// Run is Host's.
func (h Here) Run(ctx context.Context, script string, out io.Writer) error {
	env := h.Env
	if h.PathPrefix != "" {
		env = append([]string{"PATH=" + h.PathPrefix + ":" + os.Getenv("PATH")}, env...)
	}
	return command.Run(ctx, command.Spec{Path: "/bin/sh", Env: env, Stdin: strings.NewReader(script), Stdout: out})
}

// Reach is the way to the host of a server's disks, which is this one when here says so;
// what runs on this one has env in its environment. leave ends it.
func Reach(ctx context.Context, s *config.Server, here bool, env ...string) (h Host, leave func(), err error) {
	if here || s.SnapshotInstance == config.Localhost {
		return Here{Env: env, PathPrefix: s.PathPrefix}, func() {}, nil
	}
	link, err := ssh.Open(ctx, s.SSHCommand, env...)
	if err != nil {
		return nil, nil, err
	}
	return link, link.Close, nil
}

// Tools runs a provider's programs.
type Tools struct {
	Host   Host
	Prefix []string // words before each command, such as sudo -n
}

// Command quotes a command for a script, with the prefix.
func (t Tools) Command(words ...string) string {
	return Words(append(t.Prefix[:len(t.Prefix):len(t.Prefix)], words...)...)
}

// Words quotes a command for a script.
func Words(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = ssh.Quote(w)
	}
	return strings.Join(quoted, " ")
}

// Script runs a script that stops at its first error, and returns what it prints.
// Programs of administrators are found. The operation and its subject are for the
// error.
func (t Tools) Script(ctx context.Context, op, subject, script string) (string, error) {
	var out bytes.Buffer
	err := t.Host.Run(ctx, "set -e; PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; umask 077\n"+script, &out)
	return out.String(), explain(op, subject, err)
}

// explain finds the kind and the cure of what a program says.
func explain(op, subject string, err error) error {
	var exit *command.ExitError
	if !errors.As(err, &exit) {
		return fault.Wrap(fault.Tool, op, subject, err)
	}
	said := strings.ToLower(exit.Stderr)
	has := func(texts ...string) bool {
		for _, text := range texts {
			if strings.Contains(said, text) {
				return true
			}
		}
		return false
	}
	switch {
	case exit.Signal != "" || exit.Code == 128+9:
		return fault.Wrap(fault.Crashed, op, subject, err)
	case exit.Code == 127 || has("command not found", ": not found"):
		return fault.New(fault.Tool, op, subject, "%w", err).WithHint("install the program on the host of the disks, where its sh finds it; path_prefix names further directories of this host")
	case has("a password is required", "permission denied", "operation not permitted", "you must be root", "must be superuser"):
		return fault.New(fault.Permission, op, subject, "%w", err).
			WithHint("let the user that makes the snapshots do this; docs/snapshot.md says which rights are enough, and holdfast_snapshot_prefix = sudo -n uses those of sudo")
	case has("no space left on device", "quota exceeded", "out of space", "insufficient free space"):
		return fault.New(fault.Disk, op, subject, "%w", err).WithHint("free space where the snapshots are kept, or delete old backups, then take the backup again")
	}
	return fault.New(fault.Tool, op, subject, "%w", err)
}
