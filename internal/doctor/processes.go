package doctor

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fence"
)

// processes looks for programs of this host that write into a backup for which
// nobody works any more.
func (c *chart) processes(context.Context) error {
	children, err := fence.MarkedBelow(c.Catalog.BaseDir)
	if err != nil {
		return err
	}
	for _, child := range children {
		id, err := backup.ParseID(filepath.Base(filepath.Dir(child.Dir)))
		if err != nil || c.Catalog.WorkDir(id) != child.Dir {
			continue
		}
		v, err := c.writer(id)
		if err != nil {
			return err
		}
		subject := fmt.Sprintf("%d (%s), which writes backup %s", child.PID, child.Name, id)
		c.found(Process, subject, v, func(context.Context) error {
			if v, err := c.writer(id); err != nil || v.proof == "" {
				return orChanged(err, subject, v)
			}
			return child.Kill()
		})
	}
	return nil
}

// farProcesses looks on the host of the cluster for programs that send the files
// of a backup for which nobody works any more.
func (c *chart) farProcesses(ctx context.Context) error {
	if c.Host == nil {
		return nil
	}
	strays, err := c.Host.Strays(ctx)
	if err != nil {
		return err
	}
	for _, dir := range slices.Sorted(maps.Keys(strays)) {
		id, err := backup.ParseID(filepath.Base(filepath.Dir(dir)))
		if err != nil || c.Catalog.WorkDir(id) != dir {
			continue
		}
		v, err := c.writer(id)
		if err != nil {
			return err
		}
		subject := fmt.Sprintf("on the host of the cluster, %d of them, for backup %s", strays[dir], id)
		c.found(Process, subject, v, func(ctx context.Context) error {
			if v, err := c.writer(id); err != nil || v.proof == "" {
				return orChanged(err, subject, v)
			}
			return c.Host.End(ctx, dir)
		})
	}
	return nil
}

func orChanged(err error, subject string, v verdict) error {
	if err != nil {
		return err
	}
	if v.doubt != "" {
		return changed(subject, v.doubt)
	}
	return changed(subject, "somebody owns it")
}
