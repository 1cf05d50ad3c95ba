package activities

import (
	"context"
	"os"
	"path/filepath"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/backuplabel"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/chain"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

// parentOf finds the backup to build on, and refuses one that does not fit.
func parentOf(ctx context.Context, s *config.Server, stores objstore.Stores, ref string, f postgres.Facts) (backup.ID, error) {
	if s.BackupMethod != config.MethodPostgres {
		return "", fault.New(fault.Config, "back up", s.Name, "backup_method = %s takes no incremental backups", s.BackupMethod).
			WithHint("use backup_method = postgres with PostgreSQL 17 or later; reuse_backup = link saves space with rsync")
	}
	cat := catalog.Open(catalog.LayoutOf(s))
	parent, err := cat.Resolve(ref)
	if err != nil {
		return "", err
	}
	archive, err := walarchive.ForServer(s, stores)
	if err != nil {
		return "", err
	}
	histories, err := archive.Histories(ctx)
	if err == nil {
		err = chain.CheckParent(parent, f, histories)
	}
	if err == nil {
		_, err = manifestOf(cat, parent.ID)
	}
	return parent.ID, err
}

// manifestOf is the manifest of a backup to build on, which must be there, and stay.
func manifestOf(cat *catalog.Catalog, id backup.ID) (string, error) {
	deleting, err := cat.Deleting(id)
	if err != nil {
		return "", err
	}
	if deleting {
		return "", fault.New(fault.Refused, "build on backup", string(id), "its deletion has begun").
			WithHint("take a full backup: holdfast backup %s", cat.Server)
	}
	path := filepath.Join(cat.DataDir(id), manifest.Name)
	if _, err := os.Stat(path); err != nil {
		return "", fault.New(fault.KindOf(err), "build on backup", string(id), "%w", err).
			WithHint("PostgreSQL needs the manifest of a backup to build on it; take a full backup: holdfast backup %s", cat.Server)
	}
	return path, nil
}

// checkParent makes sure that an incremental backup was built on its parent.
func checkParent(cat *catalog.Catalog, info *backupinfo.Info) error {
	if info.Parent == nil {
		return nil
	}
	parent, err := cat.Get(*info.Parent)
	if err != nil {
		return err
	}
	label, err := backuplabel.Parse(*info.BackupLabel)
	if err != nil {
		return err
	}
	return chain.CheckLabel(label, parent)
}
