package doctor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Uploads are those of an object store that were begun and never finished.
type Uploads interface {
	Uploads(ctx context.Context, prefix string) iter.Seq2[objstore.Upload, error]
	// Abort gives one up; one that is not there is no error.
	Abort(ctx context.Context, u objstore.Upload) error
}

// settled is how old an upload must be of which no record here tells: another host may
// write to the same store.
const settled = 24 * time.Hour

// uploads looks for those of this server that nobody will finish, store by store.
func (c *chart) uploads(ctx context.Context) error {
	var errs []error
	for _, url := range slices.Sorted(maps.Keys(c.Stores)) {
		errs = append(errs, c.uploadsOf(ctx, url, c.Stores[url]))
	}
	return errors.Join(errs...)
}

func (c *chart) uploadsOf(ctx context.Context, url string, store Uploads) error {
	for u, err := range store.Uploads(ctx, c.Catalog.Server+"/") {
		if err != nil {
			return err
		}
		v, err := c.upload(u)
		if err != nil {
			return err
		}
		c.found(Upload, url+"/"+u.Key, v, func(ctx context.Context) error { return c.abortUpload(ctx, store, u) })
	}
	return nil
}

// upload judges one by the backup that its key names.
func (c *chart) upload(u objstore.Upload) (verdict, error) {
	if name, is := strings.CutPrefix(u.Key, c.Catalog.Server+"/base/"); is {
		name, _, _ = strings.Cut(name, "/")
		if id, err := backup.ParseID(name); err == nil {
			deleting, err := c.Catalog.Deleting(id)
			if err != nil || deleting {
				return verdict{owned: deleting}, err
			}
			if info := c.backups[id]; info != nil && (info.Status == backup.Empty || info.Status == backup.Started) {
				return verdict{owned: true}, nil // the maintenance gives it up first, when it is abandoned
			}
			if c.backups[id] != nil {
				return c.writer(id)
			}
		}
	}
	switch age := c.now.Sub(u.Begun); {
	case u.Begun.IsZero():
		return verdict{doubt: "it is of no backup here, and the store does not say when it was begun"}, nil
	case age < settled:
		return verdict{doubt: fmt.Sprintf("it is of no backup here, and was begun at %s: another host may be at work", u.Begun.UTC().Format(time.RFC3339))}, nil
	default:
		return verdict{proof: fmt.Sprintf("it is of no backup here, and was begun %d hours ago", int(age.Hours()))}, nil
	}
}

// abortUpload keeps everybody out who could begin a backup.
func (c *chart) abortUpload(ctx context.Context, store Uploads, u objstore.Upload) error {
	lock, err := c.Catalog.LockBackup()
	if err != nil {
		return err
	}
	defer lock.Release()
	v, err := c.upload(u)
	if err != nil || v.proof == "" {
		return orChanged(err, u.Key, v)
	}
	return store.Abort(ctx, u)
}
