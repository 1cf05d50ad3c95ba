package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/walcommand"
	"github.com/holdfast-pg/holdfast/internal/walship"
)

func (a *app) cmdPutWAL() *cobra.Command {
	var test bool
	cmd := &cobra.Command{
		Use: "put-wal SERVER", Short: "Archive WAL that comes as a stream from another host, as Barman's put-wal",
		Long: `Reads a tar stream with WAL files and their checksums from stdin, and archives them. When
it ends with 0, they are durable; the same file may come again, another content under
its name is refused. "holdfast wal-archive --host" and Barman's barman-wal-archive on the
host of PostgreSQL call it through ssh.`,
		Example: "  holdfast put-wal main < stream.tar\n  holdfast put-wal --test main", Args: exactly("SERVER"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.putWAL(cmd.Context(), args[0], test) },
	}
	cmd.Flags().BoolVarP(&test, "test", "t", false, "read nothing, and say whether WAL could be archived")
	return cmd
}

func (a *app) putWAL(ctx context.Context, server string, test bool) error {
	s, err := a.server(server)
	if err != nil {
		return err
	}
	archive, err := archiveOf(s)
	if err != nil {
		return err
	}
	layout := catalog.LayoutOf(s)
	if err := walcommand.Ensure(layout, s); err != nil {
		return err
	}
	if test {
		a.say("Ready to accept WAL files for the server %s", s.Name)
		return nil
	}
	names, err := walship.Unpack(ctx, a.stdin, layout.IncomingDir, func(path, name string) error { return archive.Deliver(ctx, path, name, time.Now()) })
	a.json["archived"] = names
	return err
}
