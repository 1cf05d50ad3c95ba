package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/walahead"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
	"github.com/holdfast-pg/holdfast/internal/walship"
	"github.com/holdfast-pg/holdfast/internal/walspool"
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
			return a.walArchive(cmd.Context(), args[0], args[1])
		},
	}
	o.flags(cmd.Flags())
	return cmd
}

func (a *app) walArchive(ctx context.Context, server, path string) error {
	s, err := a.server(server)
	if err != nil {
		return err
	}
	archive, err := archiveOf(s)
	if err != nil {
		return err
	}
	if err := ensureArchive(catalog.LayoutOf(s), s); err != nil {
		return err
	}
	now := time.Now()
	if s.WALsCloud == nil {
		return archive.Deliver(ctx, path, filepath.Base(path), now)
	}
	// PostgreSQL's host has better uses for memory than what is collected later.
	debug.SetMemoryLimit(int64(1+max(1, s.CloudWALArchiveParallel)) * (20 << 20))
	walspool.Sweep(filepath.Dir(path), now)
	return walahead.Ahead{Archive: archive, Place: placeOf(s), Note: filepath.Join(s.MetaDirectory, "holdfast-wal-ahead.json"),
		N: s.CloudWALArchiveParallel}.Deliver(ctx, path, now)
}

// archiveOf is the archive of a server.
func archiveOf(s *config.Server) (*walarchive.Archive, error) {
	return walarchive.ForServer(s, drivers.Open)
}

// placeOf tells the archives of servers apart.
func placeOf(s *config.Server) string { return s.WALsDirectory + " " + s.Name }

// ensureArchive creates the directories of a server that was never used. When
// even their parent is missing, its file system may not be mounted, and nothing
// is created in its place.
func ensureArchive(l catalog.Layout, s *config.Server) error {
	dir := l.WALDir
	if dir == "" {
		dir = l.XlogDBDir // WAL is in a bucket
	}
	_, err := os.Stat(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Internal, "look at", dir, err)
	}
	if parent := filepath.Dir(filepath.Clean(s.BackupDirectory)); !isDir(parent) {
		return fault.New(fault.Config, "use the WAL archive of", s.Name, "the directory %s does not exist", parent).
			WithHint("mount its file system, or create it for the user that archives")
	}
	return l.EnsureDirs()
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}
