package catalog

import (
	"slices"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// An incremental backup names its parent, and the parent's record lists its
// children, which is what Barman deletes by. The first is the truth; the list is
// made to agree with it.

// Adopt lists a backup among the children of its parent.
func (c *Catalog) Adopt(info *backupinfo.Info) error {
	return c.changeParent(info, func(ids []backup.ID) []backup.ID {
		ids = append(ids, info.ID)
		slices.Sort(ids)
		return slices.Compact(ids)
	})
}

// Disown takes a backup from the children of its parent.
func (c *Catalog) Disown(info *backupinfo.Info) error {
	return c.changeParent(info, func(ids []backup.ID) []backup.ID {
		return slices.DeleteFunc(ids, func(id backup.ID) bool { return id == info.ID })
	})
}

// changeParent changes the list of a parent; one that is gone has none. Who was
// killed while he did the same before has left the file that he wrote.
func (c *Catalog) changeParent(info *backupinfo.Info, change func([]backup.ID) []backup.ID) error {
	if info.Parent == nil {
		return nil
	}
	parent, err := c.Get(*info.Parent)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err == nil {
		err = atomicfile.SweepFile(c.InfoPath(parent.ID))
	}
	if err != nil {
		return err
	}
	return c.saveChildren(parent, change(slices.Clone(parent.Children)))
}

// MendChildren makes every list of children agree with the children's records,
// after somebody died between the two. Failed backups are no children. The
// caller holds the backup lock.
func (c *Catalog) MendChildren() error {
	all, err := c.All()
	if err != nil {
		return err
	}
	children := map[backup.ID][]backup.ID{}
	for _, info := range all {
		if info.Parent != nil && info.Status != backup.Failed {
			children[*info.Parent] = append(children[*info.Parent], info.ID)
		}
	}
	for _, info := range all {
		if err := c.saveChildren(info, children[info.ID]); err != nil {
			return err
		}
	}
	return nil
}

func (c *Catalog) saveChildren(parent *backupinfo.Info, ids []backup.ID) error {
	if slices.Equal(parent.Children, ids) {
		return nil
	}
	parent.Children = ids
	return c.Save(parent)
}
