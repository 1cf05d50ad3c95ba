package doctor

import (
	"context"
	"fmt"
	"path/filepath"

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

func orChanged(err error, subject string, v verdict) error {
	if err != nil {
		return err
	}
	if v.doubt != "" {
		return changed(subject, v.doubt)
	}
	return changed(subject, "somebody owns it")
}
