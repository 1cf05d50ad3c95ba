package bucket

import (
	"context"
	"io"
	"iter"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Bucket is what a store holds of one server.
type Bucket struct {
	Server string
	URL    string // of the store, for people
	// Disks deletes the snapshots that a backup consists of. Nil: such a backup is not deleted.
	Disks Disks
	store objstore.Store
}

// Disks is the way to the snapshots of disks that records name.
type Disks interface {
	// Unlocked is fault.Refused while the snapshots of a backup cannot be deleted.
	Unlocked(ctx context.Context, info *backupinfo.Info) error
	// Delete deletes them; one that is not there is fine.
	Delete(ctx context.Context, info *backupinfo.Info) error
}

// Open names the part of a store that belongs to a server; it reads nothing.
func Open(store objstore.Store, url, server string) (*Bucket, error) {
	if err := CheckServer(server); err != nil {
		return nil, err
	}
	return &Bucket{Server: server, URL: url, store: store}, nil
}

// CheckServer refuses what is no name below a URL.
func CheckServer(server string) error {
	if err := objstore.CheckKey(server); err != nil || strings.Contains(server, "/") {
		return fault.New(fault.Usage, "read", "SERVER "+server, "it is no name below a URL").
			WithHint("SERVER is what follows the URL: the backups of SERVER lie below URL/SERVER/base")
	}
	return nil
}

func (b *Bucket) base() string                  { return b.Server + "/base/" }
func (b *Bucket) dir(id backup.ID) string       { return b.base() + string(id) + "/" }
func (b *Bucket) recordKey(id backup.ID) string { return b.dir(id) + "backup.info" }
func (b *Bucket) wals() string                  { return b.Server + "/wals/" }

// atOnce is how many small requests are made at the same time.
const atOnce = 16

// each calls do with 0 to n-1, several at the same time, until one fails.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i := range n {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return do(ctx, i)
		})
	}
	return g.Wait()
}

// level lists one level of keys. A store without that ability is asked for everything.
func (b *Bucket) level(ctx context.Context, prefix string) iter.Seq2[objstore.Object, error] {
	if by, is := b.store.(objstore.Levels); is {
		return by.ListLevel(ctx, prefix)
	}
	return func(yield func(objstore.Object, error) bool) {
		last := ""
		for o, err := range b.store.List(ctx, prefix) {
			if i := strings.IndexByte(strings.TrimPrefix(o.Key, prefix), '/'); err == nil && i >= 0 {
				o = objstore.Object{Key: o.Key[:len(prefix)+i+1]}
				if o.Key == last {
					continue
				}
				last = o.Key
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

// list collects what a prefix has, without the empty objects that stand for folders.
func (b *Bucket) list(ctx context.Context, prefix string) ([]objstore.Object, error) {
	var out []objstore.Object
	for o, err := range b.store.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		if !strings.HasSuffix(o.Key, "/") {
			out = append(out, o)
		}
	}
	return out, nil
}

// mostText bounds the objects that are read into memory: records, annotations, histories.
const mostText = 16 << 20

// text reads a small object.
func (b *Bucket) text(ctx context.Context, key string) (string, error) {
	r, o, err := b.store.Get(ctx, key, objstore.Whole())
	if err != nil {
		return "", err
	}
	defer r.Close()
	if o.Size > mostText {
		return "", fault.New(fault.Corrupt, "read", key, "it has %d bytes, far more than such an object ever has", o.Size)
	}
	data, err := io.ReadAll(r)
	return string(data), err
}
