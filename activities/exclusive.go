package activities

import (
	"context"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/exclusive"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/keeper"
)

// ExclusiveServer is what is asked of a server that may be in exclusive backup mode.
type ExclusiveServer interface {
	exclusive.Server
	Close()
}

// ConnectExclusive opens a connection to the server that conninfo names.
type ConnectExclusive func(ctx context.Context, conninfo string) (ExclusiveServer, error)

// leave ends the exclusive backup that a server is in when it is one of ours and
// abandoned says so.
func (connect ConnectExclusive) leave(ctx context.Context, s *config.Server, abandoned func(*exclusive.Backup) bool) error {
	c, err := connect(ctx, s.Conninfo.Reveal())
	if err != nil {
		return err
	}
	defer c.Close()
	b, err := exclusive.Find(ctx, c, catalog.Open(catalog.LayoutOf(s)))
	if err != nil || b == nil || b.ID == "" || !abandoned(b) {
		return err
	}
	_, err = c.StopExclusive(ctx, b.Label)
	return err
}

// unowned reports whether no workflow works for a backup.
func unowned(running func(keeper.Owner) (bool, error)) func(*exclusive.Backup) bool {
	return func(b *exclusive.Backup) bool {
		busy, err := running(b.Owner)
		return err == nil && !busy
	}
}

// EndExclusive makes sure that a backup that has failed leaves no server in
// exclusive backup mode.
func (k *Keeper) EndExclusive(ctx context.Context, ref Ref) error {
	return during(ctx, "makes sure that PostgreSQL has left backup mode", func(ctx context.Context) error {
		s, err := k.Servers.Server(ref.Server)
		if err != nil {
			return err
		}
		return k.Exclusive.leave(ctx, s, func(b *exclusive.Backup) bool { return b.ID == ref.ID })
	})
}

// leaveBackupMode ends an exclusive backup that nobody works for, unless a
// backup of the server runs. A server that does not answer is left to the next
// maintenance.
func (m *Maintenance) leaveBackupMode(ctx context.Context, server string) error {
	s, err := m.Servers.Server(server)
	if err != nil {
		return err
	}
	cat := catalog.Open(catalog.LayoutOf(s))
	all, _, err := cat.List()
	if err != nil || !s.Exclusive && !anyExclusive(all) {
		return err
	}
	lock, err := cat.LockBackup()
	if fault.Is(err, fault.Refused) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Release()
	if err := m.Exclusive.leave(ctx, s, unowned(m.Running)); !fault.Is(err, fault.Connection) {
		return err
	}
	return nil
}

// anyExclusive reports whether a backup may have left its server in exclusive
// backup mode.
func anyExclusive(all []*backupinfo.Info) bool {
	for _, b := range all {
		if b.Mode != nil && strings.HasSuffix(*b.Mode, "-"+Exclusive) && (unfinished(b) || b.Status == backup.Failed) {
			return true
		}
	}
	return false
}
