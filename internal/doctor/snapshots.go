package doctor

import (
	"context"
	"fmt"
	"slices"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// snapshots looks for those that carry our tags and belong to no backup.
func (c *chart) snapshots(ctx context.Context) error {
	if c.Snapshots == nil {
		return nil
	}
	all, err := c.Snapshots.List(ctx, c.Owner)
	if err != nil {
		return err
	}
	for _, s := range all {
		v, err := c.cut(s)
		if err != nil {
			return err
		}
		c.found(Snapshot, s.Name+" ("+s.ID+")", v, func(ctx context.Context) error { return c.removeSnapshot(ctx, s) })
	}
	return nil
}

// cut judges a snapshot. The maintenance removes those of backups that it gives up.
func (c *chart) cut(s snapshot.Snapshot) (verdict, error) {
	deleting, err := c.Catalog.Deleting(s.Tag.ID)
	if err != nil || deleting {
		return verdict{owned: deleting}, err
	}
	v, err := c.writer(s.Tag.ID)
	if err != nil || v.proof == "" {
		return v, err
	}
	extra, err := c.Catalog.Extra(s.Tag.ID)
	if err != nil {
		return verdict{}, err
	}
	info := c.backups[s.Tag.ID]
	if info == nil {
		return v, nil
	}
	if info.Status == backup.Empty || info.Status == backup.Started {
		return verdict{owned: true}, nil
	}
	if extra.Snapshots != nil && slices.ContainsFunc(extra.Snapshots.Snapshots, func(r snapshot.RecordedDisk) bool { return r.Provider.ID == s.ID }) {
		return verdict{owned: true}, nil
	}
	if info.Status == backup.WaitingForWALs {
		return verdict{owned: true}, nil // its proof removes it
	}
	return verdict{proof: fmt.Sprintf("backup %s is %s, and does not name it", s.Tag.ID, info.Status)}, nil
}

// removeSnapshot keeps everybody out who could begin to use it.
func (c *chart) removeSnapshot(ctx context.Context, s snapshot.Snapshot) error {
	lock, err := c.Catalog.LockBackup()
	if err != nil {
		return err
	}
	defer lock.Release()
	v, err := c.cut(s)
	if err != nil || v.proof == "" {
		return orChanged(err, s.Name, v)
	}
	return snapshot.Remove(ctx, c.Snapshots, s.Tag.ID, s)
}
