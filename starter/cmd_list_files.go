package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/spelling"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

func (a *app) cmdListFiles() *cobra.Command {
	var target string
	var empty bool
	cmd := &cobra.Command{
		Use: "list-files SERVER BACKUP", Short: "List the files of a backup",
		Long: `Lists the files of a backup with their full names, for another program that copies them.
The targets are data, the files of the backup alone; standalone, these and the WAL that
makes them consistent; wal, the WAL from the backup's begin up to the next one's end;
and full, data and wal together.
` + references,
		Example: "  holdfast list-files main latest\n  holdfast list-files main latest --target full | tar -c -T - -f backup.tar",
		Args:    exactly("SERVER", "BACKUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.listFiles(cmd.Context(), args[0], args[1], target, empty)
		},
	}
	cmd.Flags().StringVar(&target, "target", "standalone", "which `files`: standalone, data, wal or full")
	cmd.Flags().BoolVar(&empty, "list-empty-directories", false, "list empty directories too")
	offer(cmd, "target", fileTargets...)
	return cmd
}

var fileTargets = []string{"standalone", "data", "wal", "full"}

func (a *app) listFiles(ctx context.Context, server, ref, target string, empty bool) error {
	if !slices.Contains(fileTargets, target) {
		return fault.New(fault.Usage, "read", "--target "+target, "the targets are %s", join(fileTargets)).WithHint("%s", spelling.DidYouMean(target, fileTargets))
	}
	return a.read(server, ref, func(s *config.Server, cat *catalog.Catalog, info *backupinfo.Info) error {
		if target != "wal" {
			for _, dir := range append(tablespacesOf(cat, info), cat.DataDir(info.ID)) {
				if err := eachFile(ctx, dir, empty, func(path string) { a.say("%s", path) }); err != nil {
					return err
				}
			}
		}
		if target == "data" {
			return nil
		}
		return a.listWAL(ctx, s, cat, info, target == "standalone")
	})
}

// tablespacesOf are those whose images lie outside the data directory's.
func tablespacesOf(cat *catalog.Catalog, info *backupinfo.Info) []string {
	var dirs []string
	for _, t := range info.Tablespaces {
		dir := cat.TablespaceDir(info.ID, t.OID)
		if _, err := os.Lstat(dir); err == nil && filepath.Dir(dir) == cat.BackupDirOf(info.ID) {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	return dirs
}

// eachFile calls fn with everything below dir that is no directory, and with
// empty directories if they are wanted.
func eachFile(ctx context.Context, dir string, empty bool, fn func(path string)) error {
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		if !e.IsDir() {
			fn(path)
			return nil
		}
		if !empty {
			return nil
		}
		d, err := os.Open(path)
		if err != nil {
			return err
		}
		defer d.Close()
		if _, err := d.Readdirnames(1); errors.Is(err, io.EOF) {
			fn(path)
		}
		return nil
	})
	if ctx.Err() != nil {
		return fault.Wrap(fault.Cancelled, "list", dir, err)
	}
	return fault.Wrap(fault.Internal, "list", dir, err)
}

// listWAL lists the archived files from a backup's begin to its own end, or to
// the next one's. Like Barman, it compares names as text and leaves labels out.
func (a *app) listWAL(ctx context.Context, s *config.Server, cat *catalog.Catalog, info *backupinfo.Info, own bool) error {
	if info.BeginWAL == nil {
		return nil
	}
	bound := ""
	if own && info.EndWAL != nil {
		bound = *info.EndWAL
	} else if next, err := cat.Next(info.ID); err != nil {
		return err
	} else if next != nil && next.EndWAL != nil {
		bound = *next.EndWAL
	}
	archive, err := archiveOf(s)
	if err != nil {
		return err
	}
	var names []string
	places := map[string]string{}
	err = archive.Each(ctx, func(e walarchive.Entry) error {
		if e.Name >= *info.BeginWAL && (bound == "" || e.Name <= bound) && wal.Classify(e.Name) != wal.LabelFile {
			names = append(names, e.Name)
			places[e.Name] = archive.Where(e)
		}
		return nil
	})
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		a.say("%s", places[name])
	}
	return err
}
