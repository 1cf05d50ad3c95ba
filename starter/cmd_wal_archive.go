package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
	"github.com/holdfast-pg/holdfast/internal/walcommand"
	"github.com/holdfast-pg/holdfast/internal/walship"
)

// remoteOptions say where an archive on another host is.
type remoteOptions struct{ walship.Host }

func (o *remoteOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.Destination, "host", "", "the archive is on this `host` (user@host), which is reached by ssh; no configuration is read here")
	f.IntVar(&o.Port, "port", 0, "`port` of ssh there")
	f.StringVar(&o.Program, "remote-program", "holdfast", "`program` to call there: holdfast, or barman")
	f.StringVar(&o.Config, "remote-config", "", "configuration `file` there (default: as the program finds it)")
}

// given reports whether the archive is on another host.
func (o *remoteOptions) given(cmd *cobra.Command) (bool, error) {
	if cmd.Flags().Changed("host") {
		return true, o.Check()
	}
	for _, name := range []string{"port", "remote-program", "remote-config"} {
		if cmd.Flags().Changed(name) {
			return false, fault.New(fault.Usage, "read", "--"+name, "it goes with --host")
		}
	}
	return false, nil
}

func (a *app) cmdWALArchive() *cobra.Command {
	var o remoteOptions
	cmd := &cobra.Command{
		Use: "wal-archive SERVER FILE", Aliases: []string{"cloud-wal-archive"}, Short: "Archive a WAL file: PostgreSQL's archive_command",
		Long: `Stores one WAL file in the archive. When it ends with 0, the file is durable; called
again with the same file it does nothing, and another content under the same name is
refused. It needs neither the engine nor a connection to PostgreSQL, and runs as the
user of the PostgreSQL server, which must be able to write to the archive.

When wals_directory is a bucket, up to cloud_wal_archive_parallel segments go there at once:
those that are ready behind FILE, for which PostgreSQL then gets its answer without a wait.
A store that cannot be reached is given up after 20 seconds, one that is silent after a minute.

With --host the archive is on another host. The file goes there through ssh with its
checksum, to "holdfast put-wal" or to Barman's put-wal, and nothing is read or kept here.`,
		Example: "  archive_command = '/usr/bin/holdfast -c /etc/barman.conf wal-archive main %p'\n" +
			"  archive_command = '/usr/bin/holdfast wal-archive --host barman@backup main %p'",
		Args:        exactly("SERVER", "FILE"),
		Annotations: exitCodes("0 the file is durable", "1 and other codes: it is not; PostgreSQL tries again"),
		RunE: func(cmd *cobra.Command, args []string) error {
			remote, err := o.given(cmd)
			if err != nil {
				return err
			}
			if remote {
				return o.Put(cmd.Context(), args[0], args[1])
			}
			s, err := a.server(args[0])
			if err != nil {
				return err
			}
			archive, err := archiveOf(s)
			if err != nil {
				return err
			}
			return walcommand.Archive(cmd.Context(), s, archive, args[1])
		},
	}
	o.flags(cmd.Flags())
	return cmd
}

// archiveOf is the archive of a server.
func archiveOf(s *config.Server) (*walarchive.Archive, error) {
	return walarchive.ForServer(s, drivers.Open)
}
