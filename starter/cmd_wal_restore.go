package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/walcommand"
)

// cloudWALRestore is Barman's command for WAL in a bucket, which a server that Barman
// restored calls.
const cloudWALRestore = "cloud-wal-restore"

func (a *app) cmdWALRestore() *cobra.Command {
	var partial bool
	var o remoteOptions
	var store from
	cmd := &cobra.Command{
		Use: "wal-restore SERVER NAME DEST", Aliases: []string{cloudWALRestore}, Short: "Fetch a WAL file: PostgreSQL's restore_command",
		Long: `Fetches one WAL file, expanded, from the archive or from where it waits to be archived,
and gives it the name DEST. PostgreSQL asks for files that need not exist: that one
is missing is no message, only an exit code. PostgreSQL takes every code up to 125
for a missing file, and would end recovery early: whatever else is wrong has 126.

When wals_directory is a bucket, up to cloud_wal_restore_parallel segments are fetched at
once: those that follow wait for PostgreSQL beside DEST, in .holdfast-wal-spool. Called
as cloud-wal-restore it delivers unfinished segments, as Barman does, unless
--partial=false is given.

With --host the archive is on another host. The file comes from there through ssh, from
"holdfast get-wal" or Barman's get-wal, and no configuration is read here.

With --from URL the WAL is what is below URL/SERVER/wals in an object store, whoever put it
there, in Barman's layout; no configuration is read, and credentials come from the environment
and the files of the provider, of PostgreSQL's user. Four segments are fetched at once.`,
		Example: "  restore_command = '/usr/bin/holdfast -c /etc/barman.conf wal-restore main %f %p'\n" +
			"  restore_command = '/usr/bin/holdfast wal-restore --host barman@backup main %f %p'\n" +
			"  restore_command = '/usr/bin/holdfast wal-restore --from s3://backups/pg main %f %p'",
		Args:        exactly("SERVER", "NAME", "DEST"),
		Annotations: exitCodes("0 the file is there", "1 the archive does not have it", "126 it could not be read or written, or nothing can be said"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.CalledAs() == cloudWALRestore && !cmd.Flags().Changed("partial") {
				partial = true
			}
			server, name, dest := args[0], args[1], args[2]
			remote, err := o.given(cmd)
			switch {
			case err != nil:
			case remote && store.given():
				err = fault.New(fault.Usage, "read", "--from", "the WAL is in a store, or on the host of --host").WithHint("leave one of them out")
			case remote:
				err = o.Get(cmd.Context(), server, name, dest, partial)
			case store.given():
				err = fetchFrom(cmd.Context(), store, server, name, dest, partial)
			default:
				err = a.fetchWAL(cmd.Context(), server, name, dest, partial)
			}
			return a.answerRestore(err)
		},
	}
	o.flags(cmd.Flags())
	a.fromFlags(cmd, &store)
	usable := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if err := usable(cmd, args); err != nil {
			return a.answerRestore(err)
		}
		return nil
	}
	cmd.Flags().BoolVarP(&partial, "partial", "P", false, "deliver an unfinished segment when there is no complete one; not for standbys")
	return cmd
}

// answerRestore gives the end of a wal-restore the exit code that PostgreSQL
// understands.
func (a *app) answerRestore(err error) error {
	code, silent := walcommand.RestoreCode(err)
	if err != nil && (a.debug || !silent) {
		a.fail(err)
	}
	if code == 0 {
		return nil
	}
	return exitError(code)
}

// fetchFrom fetches without a configuration.
func fetchFrom(ctx context.Context, store from, server, name, dest string, partial bool) error {
	s, err := store.server(server)
	if err != nil {
		return walcommand.Unusable(name, err)
	}
	archive, err := archiveOf(s)
	if err != nil {
		return walcommand.Unusable(name, err)
	}
	return walcommand.Fetch(ctx, s, archive, name, dest, partial)
}

func (a *app) fetchWAL(ctx context.Context, server, name, dest string, partial bool) error {
	s, archive, err := a.archiveToRead(server, name)
	if err != nil {
		return err
	}
	return walcommand.Fetch(ctx, s, archive, name, dest, partial)
}
