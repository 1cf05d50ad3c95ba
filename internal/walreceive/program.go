package walreceive

import (
	"context"
	"errors"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pgtool"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

const program = "pg_receivewal"

// Find looks pg_receivewal up and asks for its major version.
func Find(ctx context.Context, pathPrefix string) (path string, major int, err error) {
	path, err = command.Find(program, pathPrefix)
	if err != nil {
		return "", 0, err
	}
	major, err = pgtool.Version(ctx, path)
	return path, major, err
}

// invocation is how a server's WAL is received: arguments (pg_receivewal(1)),
// and apart from them the environment, which may hold a password.
//
// Each piece is flushed before it is confirmed, so that a server may count on
// us in synchronous_standby_names. Segments are not compressed: only then does
// a restart find out where they end, and the archive compresses as it is told.
func invocation(s *config.Server) (args, env []string, err error) {
	_, streaming := s.WALSource()
	dsn, err := postgres.ParseDSN(streaming.Reveal())
	if err != nil {
		return nil, nil, fault.New(fault.Config, "read", "streaming_conninfo", "%w", err).
			WithHint("write it as host=... port=... user=...")
	}
	args = []string{
		"--dbname=" + dsn.With("application_name", s.StreamingArchiverName).String(),
		"--directory=" + s.StreamingWALsDirectory, "--synchronous", "--no-loop", "--no-password",
	}
	if s.SlotName != "" {
		args = append(args, "--slot="+s.SlotName)
	}
	if password, ok := dsn["password"]; ok {
		env = append(env, "PGPASSWORD="+password)
	}
	return args, env, nil
}

// explain gives the end of a run a kind and a remedy.
func explain(server, output string, cause error) error {
	why := lastError(output)
	if why == "" {
		why = cause.Error()
	}
	e := fault.New(fault.Internal, "receive WAL of", server, "%s", why)
	var exit *command.ExitError
	says := func(texts ...string) bool {
		for _, text := range texts {
			if strings.Contains(why, text) {
				return true
			}
		}
		return false
	}
	switch {
	case says("replication slot") && says("does not exist"):
		e.Kind = fault.Config
		return e.WithHint("holdfast receive-wal --create-slot %s, or set create_slot = auto", server)
	case says("is active for PID"):
		e.Kind = fault.Refused
		return e.WithHint("another program streams from this slot: give each its own slot_name")
	case says("has already been removed"):
		e.Kind = fault.NotFound
		return e.WithHint("the server has removed WAL that was not received yet: holdfast receive-wal --reset %s begins at its present, then take a backup; a slot (slot_name) keeps WAL for us", server)
	case says("password authentication failed", "no pg_hba.conf entry", "fe_sendauth", "replication role", "permission denied to start WAL sender"):
		e.Kind = fault.Permission
		return e.WithHint("let pg_hba.conf admit replication connections of the user in streaming_conninfo, check its password, and as a superuser: ALTER ROLE <user> REPLICATION")
	case says("No space left on device", "Disk quota exceeded"):
		e.Kind = fault.Disk
		return e.WithHint("free space on the file system of streaming_wals_directory")
	case says("connection", "COPY stream", "could not receive data", "could not send", "the database system is", "max_wal_senders", "terminating"):
		e.Kind = fault.Connection
		return e.WithHint("is the server running? it is tried again")
	case errors.As(cause, &exit) && exit.Signal != "":
		e.Kind = fault.Crashed
		return e.WithHint("something ended it; if nobody did, look for the kernel's out-of-memory killer: dmesg | grep -i oom")
	}
	return e
}

// lastError is the last line of the output that says why a run ended. That it
// was disconnected it always says.
func lastError(out string) string {
	last := ""
	for line := range strings.Lines(out) {
		if (strings.Contains(line, "error:") || strings.Contains(line, "FATAL:")) && !strings.Contains(line, "error: disconnected") {
			last = strings.TrimPrefix(strings.TrimSpace(line), program+": ")
		}
	}
	return last
}
