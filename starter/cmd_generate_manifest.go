package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/report"
)

func (a *app) cmdGenerateManifest() *cobra.Command {
	return &cobra.Command{
		Use: "generate-manifest SERVER BACKUP", Short: "Write the backup_manifest of an rsync backup",
		Long: `Reads the data directory of a backup that has no backup_manifest, and writes one in
PostgreSQL's format, with SHA-256, so that verify-backup and pg_verifybackup can tell
later damage. Tablespaces outside the data directory are not in it, as with Barman. With
autogenerate_manifest every new rsync backup has one.
` + references,
		Example:     "  holdfast generate-manifest main latest",
		Args:        exactly("SERVER", "BACKUP"),
		Annotations: exitCodes("0 the manifest is written", "1 failed, nothing was written", "3 no such server or backup", "4 the backup has a manifest, or cannot have one"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.read(args[0], args[1], func(s *config.Server, cat *catalog.Catalog, info *backupinfo.Info) error {
				return a.generateManifest(cmd.Context(), s, cat, info)
			})
		},
	}
}

func (a *app) generateManifest(ctx context.Context, s *config.Server, cat *catalog.Catalog, info *backupinfo.Info) error {
	data := cat.DataDir(info.ID)
	if err := mayHaveManifest(info, data); err != nil {
		return err
	}
	systemID, err := manifestSystemID(info)
	if err != nil {
		return err
	}
	path := filepath.Join(data, manifest.Name)
	f, err := atomicfile.Create(path, 0o600)
	if err != nil {
		return err
	}
	defer f.Abort()
	sum, err := manifest.Generate(ctx, data, systemID, f, nil)
	if err != nil {
		return err
	}
	if err := f.CommitNew(); errors.Is(err, fs.ErrExist) {
		return hasManifest(info, path)
	} else if err != nil {
		return fault.Wrap(fault.Internal, "write", path, err)
	}
	a.json[s.Name] = report.Object{"backup_id": info.ID, "manifest": path, "files": sum.Files, "bytes": sum.Bytes}
	a.say("The manifest of backup %s of server %s lists %s, %s: %s", info.ID, s.Name, count(int(sum.Files), "file"), report.Size(sum.Bytes), path)
	return nil
}

// mayHaveManifest refuses a backup for which no manifest can be made.
func mayHaveManifest(info *backupinfo.Info, data string) error {
	refuse := func(why, hint string) error {
		return fault.New(fault.Refused, "write the manifest of backup", string(info.ID), "%s", why).WithHint("%s", hint)
	}
	if !info.Status.CopyDone() {
		return refuse("it is "+string(info.Status)+": its copy is not complete", "name another one: holdfast list-backups "+info.ServerName)
	}
	if _, err := os.Lstat(filepath.Join(data, manifest.Name)); err == nil {
		return hasManifest(info, filepath.Join(data, manifest.Name))
	}
	tars, err := basetar.Find(data, nil)
	if err == nil && tars != nil {
		return refuse("it is kept as tar archives, whose manifest comes from PostgreSQL alone", "take another backup")
	}
	return err
}

func hasManifest(info *backupinfo.Info, path string) error {
	return fault.New(fault.Refused, "write the manifest of backup", string(info.ID), "%s exists", path).
		WithHint("verify the backup against it: holdfast verify-backup %s %s", info.ServerName, info.ID)
}

// manifestSystemID is what a manifest of version 2 names, which PostgreSQL reads
// from version 17 on.
func manifestSystemID(info *backupinfo.Info) (uint64, error) {
	if info.Version == nil || *info.Version < 170000 || info.SystemID == nil {
		return 0, nil
	}
	id, err := strconv.ParseUint(*info.SystemID, 10, 64)
	return id, fault.Wrap(fault.Corrupt, "read", "systemid of backup "+string(info.ID), err)
}
