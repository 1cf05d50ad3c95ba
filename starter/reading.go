package main

import (
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/chain"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/flock"
)

// reading keeps a backup from being deleted while it is read.
func reading(cat *catalog.Catalog, id backup.ID) (*flock.Lock, error) {
	lock, err := cat.ShareID(id)
	if err != nil {
		return nil, err
	}
	deleting, err := cat.Deleting(id)
	if err == nil && deleting {
		err = fault.New(fault.Refused, "read backup", string(id), "its deletion has begun").
			WithHint("choose another one: holdfast list-backups %s", cat.Server)
	}
	if err != nil {
		lock.Release()
		return nil, err
	}
	return lock, nil
}

// read resolves a backup and does something with it that its deletion must not
// disturb.
func (a *app) read(server, ref string, do func(*config.Server, *catalog.Catalog, *backupinfo.Info) error) error {
	s, cat, err := a.catalog(server)
	if err != nil {
		return err
	}
	info, err := cat.Resolve(ref)
	if err != nil {
		return err
	}
	lock, err := reading(cat, info.ID)
	if err != nil {
		return err
	}
	defer lock.Release()
	return do(s, cat, info)
}

// readingChain is reading for a backup and all that it builds on, the full one
// first. Its record is read again: only under the lock it stays as it is.
func readingChain(cat *catalog.Catalog, info *backupinfo.Info) (parts []*backupinfo.Info, release func(), err error) {
	var locks []*flock.Lock
	release = func() {
		for _, l := range locks {
			l.Release()
		}
	}
	get := func(id backup.ID) (*backupinfo.Info, error) {
		if _, err := cat.Get(id); err != nil {
			return nil, err
		}
		lock, err := reading(cat, id)
		if err != nil {
			return nil, err
		}
		locks = append(locks, lock)
		return cat.Get(id)
	}
	if info, err = get(info.ID); err == nil {
		parts, err = chain.Of(info, get)
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	return parts, release, nil
}
