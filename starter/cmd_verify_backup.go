package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/pgtool"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/report"
)

func (a *app) cmdVerifyBackup() *cobra.Command {
	var o from
	var jobs int
	cmd := &cobra.Command{
		Use: "verify-backup SERVER BACKUP", Aliases: []string{"verify"}, Short: "Read a backup back and compare it with its manifest",
		Long: `Runs pg_verifybackup of the backup's version: every file must be there, and be as the
backup_manifest says. Tar archives need PostgreSQL 18. A backup by rsync without a
backup_manifest is compared with the list that was made during its copy; another one
needs generate-manifest first. WAL is the business of check-backup. A backup in object stores
is read back from each of its destinations.
` + references + "\n" + fromHelp + `
Every object of the backup is then read to its end, each is as its format, the store's
checksum and what Holdfast wrote down when it sent it say, nothing is missing, and the files
are those of the manifest where the backup has one. What nothing could be compared with is said.`,
		Example:     "  holdfast verify-backup main latest\n  holdfast verify-backup main latest --from s3://bucket/path",
		Args:        exactly("SERVER", "BACKUP"),
		Annotations: exitCodes("0 everything is as the manifest says", "1 files differ, are missing or are too many; or it could not be done", "3 no such server or backup", "4 the backup cannot be verified"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.given() {
				return a.verifyFrom(cmd.Context(), args[0], args[1], jobs, o)
			}
			if jobs != 0 {
				return fault.New(fault.Usage, "", "", "--jobs belongs to --from").WithHint("add --from URL, or leave it out")
			}
			return a.read(args[0], args[1], func(s *config.Server, cat *catalog.Catalog, info *backupinfo.Info) error {
				return a.verifyBackup(cmd.Context(), s, cat, info)
			})
		},
	}
	cmd.Flags().IntVarP(&jobs, "jobs", "j", 0, "with --from: `number` of objects read at once (4 unless given)")
	a.fromFlags(cmd, &o)
	return cmd
}

func (a *app) verifyBackup(ctx context.Context, s *config.Server, cat *catalog.Catalog, info *backupinfo.Info) error {
	if err := verifiable(info); err != nil {
		return err
	}
	all, err := bucket.All(ctx, s, drivers.Open, func() *objstore.Policy { return &objstore.Policy{Patience: transferPatience} })
	if err != nil {
		return err
	}
	if len(all) == 1 {
		return a.verifyObjects(ctx, all[0], info, 0)
	}
	if all != nil {
		return a.verifyDestinations(ctx, all, cat, info)
	}
	by, err := verifyFiles(ctx, s, cat, info)
	if ctx.Err() != nil {
		return fault.New(fault.Cancelled, "verify backup", string(info.ID), "it was interrupted")
	}
	if err != nil {
		return err
	}
	a.json[s.Name] = map[string]any{"backup_id": info.ID, "verified_with": by}
	a.say("Backup %s of server %s is as its manifest says (%s).", info.ID, s.Name, by)
	return nil
}

func verifiable(info *backupinfo.Info) error {
	refuse := func(why, hint string) error {
		return fault.New(fault.Refused, "verify backup", string(info.ID), "%s", why).WithHint("%s", hint)
	}
	another := "name another one: holdfast list-backups " + info.ServerName
	switch {
	case !info.Status.CopyDone():
		return refuse("it is "+string(info.Status)+": its copy is not complete", another)
	case info.Encryption != nil && *info.Encryption != "none":
		return refuse("it is encrypted, and pg_verifybackup reads clear files only", "restore it and look at the result, or "+another)
	case report.TypeOf(info) == backup.Snapshot:
		return refuse("it consists of disk snapshots, whose files have no list to be compared with", "its WAL and pg_control were read when it was taken; restore it and run pg_amcheck, or "+another)
	case info.Version == nil:
		return refuse("its record does not say of which version of PostgreSQL it is", another)
	}
	return nil
}

// verifyFiles returns what the files were compared by.
func verifyFiles(ctx context.Context, s *config.Server, cat *catalog.Catalog, info *backupinfo.Info) (by string, err error) {
	data := cat.DataDir(info.ID)
	tars, err := basetar.Find(data, nil)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(data, manifest.Name)); err != nil {
		return "the list of its copy", verifyCopy(ctx, cat, info)
	}
	major := postgres.Major(*info.Version)
	if tars != nil && major < 18 {
		return "", fault.New(fault.Refused, "verify backup", string(info.ID), "it is kept as tar archives, which pg_verifybackup reads from PostgreSQL 18 on, and it is of version %d", major).
			WithHint("it was read back when it was taken; restore it to read it again")
	}
	program, err := pgtool.Find(ctx, "pg_verifybackup", s.PathPrefix, major)
	if err != nil {
		return "", err
	}
	// WAL lies in the archive, not in the backup.
	err = command.Run(ctx, command.Spec{Path: program, Args: []string{"--no-parse-wal", data}, Stdout: io.Discard})
	var exit *command.ExitError
	if errors.As(err, &exit) && exit.Signal == "" {
		return "", differs(info, exit.Stderr)
	}
	return program, fault.Wrap(fault.Tool, "run", program, err)
}

// differs tells what pg_verifybackup has found.
func differs(info *backupinfo.Info, stderr string) error {
	var found []string
	for line := range strings.Lines(stderr) {
		if _, text, is := strings.Cut(line, "error: "); is {
			found = append(found, strings.TrimSpace(text))
		}
	}
	if len(found) == 0 {
		found = []string{strings.TrimSpace(stderr)}
	}
	return fault.New(fault.Corrupt, "verify backup", string(info.ID), "pg_verifybackup: %s", some(found)).
		WithHint("do not rely on this backup; take another one, and look for the cause in the storage that holds it")
}

// verifyCopy compares a backup by rsync with the list that our copy has made.
func verifyCopy(ctx context.Context, cat *catalog.Catalog, info *backupinfo.Info) error {
	list := filepath.Join(cat.WorkDir(info.ID), manifest.Name)
	if _, err := os.Stat(list); err != nil {
		return fault.New(fault.Refused, "verify backup", string(info.ID), "it has no backup_manifest").
			WithHint("holdfast generate-manifest %s %s makes one of its files as they are now", info.ServerName, info.ID)
	}
	dirs := manifest.Dirs{Data: cat.DataDir(info.ID), Tablespaces: map[uint32]string{}}
	for _, t := range info.Tablespaces {
		dirs.Tablespaces[t.OID] = cat.TablespaceDir(info.ID, t.OID)
	}
	found, err := manifest.Verify(ctx, list, dirs, manifest.Options{Jobs: 2, Ignore: []string{"backup_label"}})
	if err != nil {
		return err
	}
	return found.Err(string(info.ID))
}
