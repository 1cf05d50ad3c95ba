package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/disposal"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

// WAL has the activities that work on the WAL archive.
type WAL struct {
	Servers   Servers
	Stores    objstore.Stores
	Connect   Connect
	Snapshots snapshot.Open
}

func (w *WAL) open(ref Ref) (*config.Server, *walarchive.Archive, *backupinfo.Info, error) {
	s, err := w.Servers.Server(ref.Server)
	if err != nil {
		return nil, nil, nil, err
	}
	info, err := catalog.Open(catalog.LayoutOf(s)).Get(ref.ID)
	if err != nil {
		return nil, nil, nil, err
	}
	archive, err := walarchive.ForServer(s, w.Stores)
	return s, archive, info, err
}

// WaitForWAL archives what arrives until everything from the backup's begin to
// its end is there; false when that took longer than within.
func (w *WAL) WaitForWAL(ctx context.Context, ref Ref, within time.Duration) (bool, error) {
	var said saying
	said.set("waits for the WAL of the backup", "")
	beating, stop := beat(ctx, said.progress)
	defer stop()
	s, archive, info, err := w.open(ref)
	if err != nil {
		return false, report(beating, err)
	}
	w.markEnd(beating, s, info)
	waits := fmt.Sprintf("waits for WAL segments %s to %s", *info.BeginWAL, *info.EndWAL)
	said.set(waits, "")
	deadline := time.Now().Add(within)
	end := ender{connect: w.Connect, settings: s, began: time.Now()}
	for pause := 50 * time.Millisecond; ; pause = min(pause+pause/2, 2*time.Second) {
		// Another archiver may be at work: then it delivers.
		if _, err := archive.ArchiveArrived(beating, time.Now()); err != nil && !fault.Is(err, fault.Refused) {
			return false, report(beating, err)
		}
		missing, err := archive.Missing(beating, *info.BeginWAL, *info.EndWAL, *info.SegmentSize)
		if err != nil || len(missing) == 0 {
			return err == nil, report(beating, err)
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		said.set(waits, end.ask(beating, time.Now(), *info.EndWAL))
		select {
		case <-beating.Done():
			return false, report(beating, context.Cause(beating))
		case <-time.After(pause):
		}
	}
}

// markEnd makes the restore point that Barman makes behind a backup, once. A
// backup without one is as good.
func (w *WAL) markEnd(ctx context.Context, s *config.Server, info *backupinfo.Info) {
	cat := catalog.Open(catalog.LayoutOf(s))
	extra, err := cat.Extra(info.ID)
	if err != nil || extra.RestorePoint != "" {
		return
	}
	name := "barman_" + string(info.ID)
	ctx, cancel := context.WithTimeout(ctx, askEvery)
	defer cancel()
	c, err := w.Connect(ctx, s.Conninfo.Reveal())
	if err != nil {
		return
	}
	defer c.Close()
	if standby, err := c.EndSegment(ctx, *info.EndWAL); err != nil || standby || c.CreateRestorePoint(ctx, name) != nil {
		return
	}
	extra.RestorePoint = name
	_ = cat.SaveExtra(info.ID, extra)
}

// PurgeWAL removes WAL that no backup can use, when ref is the first good
// backup of its server. It returns the first and the last name removed.
func (w *WAL) PurgeWAL(ctx context.Context, ref Ref) ([]string, error) {
	var removed []string
	err := during(ctx, "removes WAL that no backup needs", func(ctx context.Context) (err error) {
		removed, err = w.purge(ctx, ref)
		return err
	})
	if len(removed) > 2 {
		removed = []string{removed[0], removed[len(removed)-1]}
	}
	return removed, err
}

func (w *WAL) purge(ctx context.Context, ref Ref) ([]string, error) {
	s, err := w.Servers.Server(ref.Server)
	if err != nil {
		return nil, err
	}
	d, err := disposal.Of(ctx, s, w.Stores, w.Snapshots)
	if err != nil {
		return nil, err
	}
	return d.PurgeAfterFirst(ctx, ref.ID, time.Now())
}
