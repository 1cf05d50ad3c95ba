package bucket

import (
	"context"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

func (b *Bucket) keepKey(id backup.ID) string { return b.dir(id) + "annotations/keep" }

// Keep is the target of a kept backup, "" when it may be deleted.
func (b *Bucket) Keep(ctx context.Context, id backup.ID) (catalog.KeepTarget, error) {
	text, err := b.text(ctx, b.keepKey(id))
	switch t := catalog.KeepTarget(text); {
	case fault.Is(err, fault.NotFound):
		return "", nil
	case err != nil:
		return "", err
	case t != catalog.KeepFull && t != catalog.KeepStandalone:
		return "", fault.New(fault.Corrupt, "read", b.keepKey(id), "%q is neither full nor standalone", text).
			WithHint("set it anew: holdfast keep %s %s --target full --from %s", b.Server, id, b.URL)
	default:
		return t, nil
	}
}

// Kept are the targets of the backups that are kept.
func (b *Bucket) Kept(ctx context.Context, backups []*backupinfo.Info) (map[backup.ID]catalog.KeepTarget, error) {
	targets := make([]catalog.KeepTarget, len(backups))
	err := each(ctx, len(backups), func(ctx context.Context, i int) (err error) {
		targets[i], err = b.Keep(ctx, backups[i].ID)
		return err
	})
	out := map[backup.ID]catalog.KeepTarget{}
	for i, t := range targets {
		if t != "" {
			out[backups[i].ID] = t
		}
	}
	return out, err
}

// SetKeep protects a backup from deletion.
func (b *Bucket) SetKeep(ctx context.Context, id backup.ID, target catalog.KeepTarget) error {
	info, err := b.Get(ctx, id)
	if err == nil {
		err = catalog.Keepable(info)
	}
	if err == nil {
		_, err = b.store.Put(ctx, b.keepKey(id), strings.NewReader(string(target)), objstore.PutOptions{})
	}
	return err
}

// Release takes the protection away.
func (b *Bucket) Release(ctx context.Context, id backup.ID) error {
	return b.store.Delete(ctx, b.keepKey(id))
}
