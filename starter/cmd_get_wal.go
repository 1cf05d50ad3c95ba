package main

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
	"github.com/holdfast-pg/holdfast/internal/walcommand"
)

type getWALOptions struct {
	dir                   string
	partial, stored, test bool
	gzip, bzip2           bool
	peek                  int
}

func (a *app) cmdGetWAL() *cobra.Command {
	var o getWALOptions
	cmd := &cobra.Command{
		Use: "get-wal SERVER NAME", Short: "Send a WAL file to stdout or into a directory, as Barman's get-wal",
		Long: `Sends one WAL file, expanded, from the archive, or from where it waits to be archived.
It is read as a whole first, and nothing is sent of one that is damaged. The
restore_command of servers that Barman restored with --get-wal works unchanged. For a
new one wal-restore is better: it delivers the file atomically.`,
		Example: "  holdfast get-wal main 00000001000000000000002A > 00000001000000000000002A\n" +
			"  holdfast get-wal main 00000001000000000000002A -o /tmp\n  holdfast get-wal main 00000001000000000000002A --peek 5\n  holdfast get-wal main --test",
		Annotations: exitCodes("0 the file was sent", "1 the archive does not have it", "3 it is no WAL name, or the output directory cannot be used",
			"126 it could not be read, or nothing can be said"),
		Args: func(cmd *cobra.Command, args []string) error {
			if o.test && len(args) == 1 {
				return nil
			}
			return exactly("SERVER", "NAME")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.getWAL(cmd.Context(), args[0], args[len(args)-1], o, cmd.Flags().Changed("peek"))
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.dir, "output-directory", "o", "", "put the file into this `directory`, under its name")
	f.BoolVarP(&o.partial, "partial", "P", false, "send an unfinished segment when there is no complete one; not for standbys")
	f.BoolVarP(&o.gzip, "gzip", "z", false, "compress what is sent with gzip")
	f.BoolVarP(&o.gzip, "gzip-too", "x", false, "the same as -z")
	_ = f.MarkHidden("gzip-too")
	f.BoolVarP(&o.bzip2, "bzip2", "j", false, "compress what is sent with bzip2")
	f.BoolVar(&o.stored, "keep-compression", false, "send the file as it is stored")
	f.IntVarP(&o.peek, "peek", "p", 0, "send nothing, and list up to `n` archived segments from NAME on, until one is missing")
	f.BoolVarP(&o.test, "test", "t", false, "send nothing, and say whether WAL could be sent; NAME may be left out")
	cmd.MarkFlagsMutuallyExclusive("gzip", "bzip2", "keep-compression")
	cmd.MarkFlagsMutuallyExclusive("gzip-too", "bzip2", "keep-compression")
	cmd.MarkFlagsMutuallyExclusive("peek", "test", "output-directory")
	return cmd
}

func (a *app) getWAL(ctx context.Context, server, name string, o getWALOptions, peek bool) error {
	if peek && o.peek < 1 {
		return fault.New(fault.Usage, "read", "--peek", "it is at least 1")
	}
	err := a.sendWAL(ctx, server, name, o)
	switch {
	case err == nil:
		return nil
	case fault.Is(err, fault.NotFound):
		a.fail(err)
		return exitError(fault.Internal.ExitCode())
	case fault.Is(err, fault.Usage):
		a.fail(err)
		return exitError(badRequest)
	case fault.Is(err, fault.Cancelled):
		return err
	}
	a.fail(err)
	return exitError(walcommand.StopsRecovery)
}

// badRequest is Barman's exit code of get-wal for a name or a directory that is wrong.
const badRequest = 3

func (a *app) sendWAL(ctx context.Context, server, name string, o getWALOptions) error {
	s, archive, err := a.archiveToRead(server, name)
	if err != nil {
		return err
	}
	switch {
	case o.test:
		a.say("Ready to retrieve WAL files from the server %s", s.Name)
		return nil
	case o.peek > 0:
		return a.peekWAL(ctx, s, archive, name, o.peek)
	}
	form := walarchive.Form{Partial: o.partial, AsStored: o.stored}
	for _, c := range []struct {
		wanted    bool
		algorithm codec.Algorithm
	}{{o.gzip, codec.Gzip}, {o.bzip2, codec.Bzip2}} {
		if !c.wanted {
			continue
		}
		z, err := codec.Configured(codec.Options{Compression: string(c.algorithm), PathPrefix: s.PathPrefix})
		if err != nil {
			return err
		}
		form.NewWriter = z.NewWriter
	}
	if o.dir == "" {
		a.json = nil // stdout belongs to the file
		return archive.Send(ctx, name, a.stdout, form)
	}
	return a.sendInto(ctx, archive, name, filepath.Join(o.dir, name), form)
}

func (a *app) sendInto(ctx context.Context, archive *walarchive.Archive, name, dest string, form walarchive.Form) error {
	if wal.Classify(name) == wal.Unknown {
		return fault.New(fault.Usage, "fetch", name, "it is neither a segment, a backup label, a partial segment nor a history file")
	}
	out, err := atomicfile.Create(dest, 0o600)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return fault.New(fault.Usage, "write", dest, "%w", err).WithHint("name a directory that exists and can be written to")
	}
	if err != nil {
		return err
	}
	defer out.Abort()
	if err := archive.Send(ctx, name, out, form); err != nil {
		return err
	}
	if err := out.Commit(); err != nil {
		return err
	}
	a.say("Sent WAL %s to %s", name, dest)
	return nil
}

func (a *app) peekWAL(ctx context.Context, s *config.Server, archive *walarchive.Archive, name string, n int) error {
	size, err := segmentSize(ctx, s, archive)
	if err != nil {
		return err
	}
	names, err := archive.Following(ctx, name, n, size)
	if err != nil {
		return err
	}
	for _, name := range names {
		a.say("%s", name)
	}
	return nil
}

// archiveToRead is the archive of a server that WAL is read from.
func (a *app) archiveToRead(server, name string) (*config.Server, *walarchive.Archive, error) {
	s, err := a.server(server)
	if err != nil {
		return nil, nil, walcommand.Unusable(name, err)
	}
	archive, err := archiveOf(s)
	if err != nil {
		return nil, nil, err
	}
	return s, archive, walcommand.CheckThere(s, name)
}

// segmentSize is that of a server's WAL: as its newest backup has it, else as
// the archive shows, else PostgreSQL's default.
func segmentSize(ctx context.Context, s *config.Server, archive *walarchive.Archive) (uint64, error) {
	size, err := walcommand.RecordedSegmentSize(s)
	if err != nil || size != 0 {
		return size, err
	}
	size, err = archive.SegmentSize(ctx)
	if size == 0 {
		size = wal.DefaultSegmentSize
	}
	return size, err
}
