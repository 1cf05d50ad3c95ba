package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/fence"
	"github.com/holdfast-pg/holdfast/internal/flock"
	"github.com/holdfast-pg/holdfast/internal/keeper"
)

// directories looks for files of backups that have no record.
func (c *chart) directories(context.Context) error {
	entries, err := os.ReadDir(c.Catalog.BaseDir)
	if err != nil {
		return gone("list", c.Catalog.BaseDir, err)
	}
	for _, e := range entries {
		id, err := backup.ParseID(e.Name())
		if err != nil || c.backups[id] != nil {
			continue
		}
		v, err := c.directory(id)
		if err != nil {
			return err
		}
		path := c.Catalog.BackupDirOf(id)
		c.found(Directory, path, v, func(context.Context) error { return c.removeDirectory(id) })
	}
	return nil
}

// directory judges files without a record. A copy ends with pg_control: where
// that is, the record may have been lost and not the backup.
func (c *chart) directory(id backup.ID) (verdict, error) {
	deleting, err := c.Catalog.Deleting(id)
	if err != nil || deleting {
		return verdict{owned: deleting}, err
	}
	_, err = c.Catalog.Get(id)
	if !fault.Is(err, fault.NotFound) {
		return verdict{owned: true}, err
	}
	control := filepath.Join(c.Catalog.DataDir(id), "global", "pg_control")
	if _, err := os.Lstat(control); err == nil {
		return verdict{doubt: "it has no record, but holds a whole copy: look what became of " + c.Catalog.InfoPath(id) + ", and delete it by hand if it is nothing"}, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return verdict{}, fault.Wrap(fault.Internal, "read", control, err)
	}
	// Who makes the directory first and the record second is given time.
	st, err := os.Lstat(c.Catalog.BackupDirOf(id))
	if err != nil || c.now.Sub(st.ModTime()) < quiet {
		return verdict{owned: true}, gone("read", c.Catalog.BackupDirOf(id), err)
	}
	by, err := c.backupLock()
	if err != nil {
		return verdict{}, err
	}
	if by != "" {
		return verdict{doubt: "it has no record yet, and somebody has the server's backup lock: " + by}, nil
	}
	return verdict{proof: fmt.Sprintf("it is older than %s and has no record, it holds no whole copy, and nobody has the server's backup lock", quiet)}, nil
}

// backupLock says who has the server's backup lock; "" for nobody.
func (d *Doctor) backupLock() (string, error) {
	all, err := d.Catalog.Locks()
	if err != nil || all["backup"] == "" {
		return "", err
	}
	return flock.Held(all["backup"])
}

// removeDirectory keeps everybody out who could begin to use the directory.
func (c *chart) removeDirectory(id backup.ID) error {
	path := c.Catalog.BackupDirOf(id)
	v, err := c.directory(id)
	if err != nil || v.proof == "" {
		return orChanged(err, path, v)
	}
	lock, err := c.Catalog.LockBackup()
	if err != nil {
		return err
	}
	defer lock.Release()
	for _, take := range []func(backup.ID) (*flock.Lock, error){c.Catalog.LockID, c.Catalog.LockSync} {
		l, err := take(id)
		if err != nil {
			return err
		}
		defer func() { _ = l.Discard() }()
	}
	if _, err := c.Catalog.Get(id); !fault.Is(err, fault.NotFound) {
		return orChanged(err, path, verdict{})
	}
	writers, err := fence.Marked(c.Catalog.WorkDir(id))
	if err != nil {
		return err
	}
	for pid := range writers {
		return changed(path, fmt.Sprintf("process %d writes there", pid))
	}
	return c.Catalog.RemoveFiles(id)
}

// deletions looks for backups whose deletion has begun and that nobody deletes.
func (c *chart) deletions(context.Context) error {
	marks, err := c.Catalog.Marks()
	if err != nil {
		return err
	}
	maps.DeleteFunc(marks, func(_ backup.ID, m catalog.Marks) bool { return !m.Deleting })
	if len(marks) == 0 {
		return nil
	}
	by, err := c.backupLock()
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(marks)) {
		v := verdict{owned: by != "", proof: "its deletion has begun, and nobody has the server's backup lock, which a deletion holds"}
		c.found(Deletion, "of backup "+string(id), v, func(ctx context.Context) error { return c.finish(ctx, id) })
	}
	return nil
}

// finish makes sure of what FinishDeletions leaves without an error: backups
// that somebody reads.
func (c *chart) finish(ctx context.Context, id backup.ID) error {
	if err := c.FinishDeletions(ctx); err != nil {
		return err
	}
	still, err := c.Catalog.Deleting(id)
	if err == nil && still {
		err = fault.New(fault.Refused, "finish the deletion of", string(id), "somebody reads the backup, or it is needed").WithHint("see holdfast retention %s --plan", c.Catalog.Server)
	}
	return err
}

// abandoned looks for backups that were begun and that nobody makes any more.
// Their records belong to the maintenance.
func (c *chart) abandoned(context.Context) error {
	for _, id := range slices.Sorted(maps.Keys(c.backups)) {
		status := c.backups[id].Status
		if status != backup.Empty && status != backup.Started {
			continue
		}
		extra, err := c.Catalog.Extra(id)
		if err != nil {
			return err
		}
		by, err := c.backupLock()
		if err != nil {
			return err
		}
		v := verdict{owned: by != "", proof: "nobody has the server's backup lock"}
		if !v.owned && extra.RunID != "" {
			v = c.stillRuns(keeper.Owner{WorkflowID: extra.WorkflowID, RunID: extra.RunID})
		}
		before := len(c.findings)
		c.found(Abandoned, fmt.Sprintf("%s (%s)", id, status), v, nil)
		if len(c.findings) > before && v.doubt == "" {
			c.findings[before].Way = "holdfast cron " + c.Catalog.Server
		}
	}
	return nil
}
