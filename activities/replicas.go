package activities

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// CaughtUp is what destinations got of a backup that they lacked.
type CaughtUp struct {
	URLs []string `json:"urls,omitempty"`
}

// needsWAL reports whether a bucket is a replica that gets a copy of the WAL of its backups,
// which another bucket has.
func needsWAL(b *bucket.Bucket, main string, archive *bucket.Bucket) bool {
	return archive != nil && b.URL != main && b.URL != archive.URL
}

// CatchUpReplicas brings a backup to the destinations that lack something of it, out of one
// that lacks nothing. Any failure is worth another try: somebody may have mended the store.
func (c *Cloud) CatchUpReplicas(ctx context.Context, server string, id backup.ID) (CaughtUp, error) {
	var done, total atomic.Int64
	beating, stop := beat(ctx, func() Progress {
		return Progress{What: "copies the backup to the destinations that lack it", Done: done.Load(), Total: total.Load()}
	})
	defer stop()
	out, err := c.catchUp(beating, server, id, func(n, of int64) { done.Store(n); total.Store(of) })
	if err != nil && beating.Err() == nil {
		return out, typed(err, true)
	}
	return out, report(beating, err)
}

func (c *Cloud) catchUp(ctx context.Context, server string, id backup.ID, progress func(done, total int64)) (out CaughtUp, err error) {
	s, err := c.Servers.Server(server)
	if err != nil {
		return out, err
	}
	cat := catalog.Open(catalog.LayoutOf(s))
	lock, err := cat.AwaitID(ctx, id) // whoever deletes the backup waits, or has done it
	if err != nil {
		return out, err
	}
	defer lock.Release()
	info, d, err := lacking(cat, id)
	if err != nil || d == nil {
		return out, err
	}
	limit := objstore.NewLimit(int64(s.BandwidthLimit) * 1000)
	policy := func() *objstore.Policy {
		return &objstore.Policy{Patience: storePatience, PartSize: int64(s.CloudUploadMinChunkSize), Limit: limit}
	}
	all, err := bucket.All(ctx, s, c.Stores, policy)
	if err != nil {
		return out, err
	}
	archive, err := bucket.WALs(ctx, s, c.Stores, policy())
	if err != nil {
		return out, err
	}
	var failed error
	for _, b := range all {
		if !isLacking(d, b.URL) {
			continue
		}
		err := catchUpOne(ctx, all, b, d, info, progress)
		if err == nil && needsWAL(b, all[0].URL, archive) {
			err = b.TakeWAL(ctx, archive, info)
		}
		if err == nil {
			err = cat.SetBehind(id, b.URL, "", time.Time{})
		}
		if err == nil {
			out.URLs = append(out.URLs, b.URL)
		}
		if failed == nil {
			failed = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return out, failed // what else failed is told by the next try
}

func isLacking(d catalog.Destinations, url string) bool {
	for _, one := range d.Lacking() {
		if one.URL == url {
			return true
		}
	}
	return false
}

// catchUpOne copies from the first bucket that has the backup and answers.
func catchUpOne(ctx context.Context, all []*bucket.Bucket, b *bucket.Bucket, d catalog.Destinations, info *backupinfo.Info, progress func(done, total int64)) error {
	var failed error
	for _, from := range bucket.Holding(all, d) {
		err := b.CatchUp(ctx, from, info.ID, progress)
		if err == nil || ctx.Err() != nil {
			return err
		}
		failed = err
	}
	if failed == nil {
		failed = fault.New(fault.Refused, "copy", string(info.ID), "no configured destination has all of it").
			WithHint("name in holdfast_replicas, or in basebackups_directory, one that has it: holdfast show-backup %s %s", info.ServerName, info.ID)
	}
	return failed
}

// lacking are the destinations of a complete backup when one of them lacks something of it;
// none of another one.
func lacking(cat *catalog.Catalog, id backup.ID) (*backupinfo.Info, catalog.Destinations, error) {
	info, err := cat.Get(id)
	if fault.Is(err, fault.NotFound) {
		return nil, nil, nil
	}
	if err != nil || info.Status != backup.Done {
		return nil, nil, err
	}
	deleting, err := cat.Deleting(id)
	if err != nil || deleting {
		return nil, nil, err
	}
	d, err := cat.Destinations(id)
	if err != nil || len(d.Lacking()) == 0 {
		return nil, nil, err
	}
	return info, d, nil
}

// toCatchUp reports whether a destination that the configuration names lacks something of a
// complete backup.
func toCatchUp(s *config.Server, cat *catalog.Catalog, id backup.ID) (bool, error) {
	_, d, err := lacking(cat, id)
	if err != nil || d == nil {
		return false, err
	}
	named, err := bucket.Destinations(s)
	if err != nil {
		return false, err
	}
	for _, one := range d.Lacking() {
		if !named.Behind(one.URL) {
			return true, nil
		}
	}
	return false, nil
}

// BehindReplicas reports whether a backup that has just ended is to be brought to a
// destination that lacks something of it.
func (c *Catalogue) BehindReplicas(ctx context.Context, ref Ref) (bool, error) {
	var behind bool
	err := during(ctx, "looks whether a destination lacks the backup", func(context.Context) error {
		s, err := c.Servers.Server(ref.Server)
		if err == nil {
			behind, err = toCatchUp(s, catalog.Open(catalog.LayoutOf(s)), ref.ID)
		}
		return err
	})
	return behind, err
}
