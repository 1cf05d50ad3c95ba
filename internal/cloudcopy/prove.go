package cloudcopy

import (
	"context"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Proven is what the store has of a backup.
type Proven struct {
	Objects, Bytes int64
	// Checksums says that the store's own checksums were compared, too.
	Checksums bool
	Removed   []string // objects that were left by writers that were superseded
}

// Prove compares each object's size and the store's checksum of it with its record. What
// lies beside the archives and in no record is removed, and uploads are given up: of whoever
// was superseded, and comes late. keep says which other keys below the backup's stay.
func Prove(ctx context.Context, job Job, keep func(name string) bool) (Proven, error) {
	p := Proven{Checksums: true}
	c, err := open(job)
	if err != nil {
		return p, err
	}
	names, err := c.archives()
	if err != nil {
		return p, err
	}
	if err := AbortUploads(ctx, c.Store, c.Base); err != nil {
		return p, err
	}
	missing := map[string]*entry{}
	for _, name := range names {
		e, err := c.j.head(name)
		if err != nil {
			return p, err
		}
		if e == nil {
			return p, fault.New(fault.Corrupt, "check", name, "it has no record")
		}
		missing[e.Record.Key] = e
	}
	var foreign []string
	for o, err := range c.Store.List(ctx, c.Base) {
		if err != nil {
			return p, err
		}
		e := missing[o.Key]
		name := strings.TrimPrefix(o.Key, c.Base)
		switch {
		case e == nil && name != recordsKey && !keep(name):
			foreign = append(foreign, o.Key)
		case e != nil:
			if o, err = c.check(ctx, o, e); err != nil {
				return p, err
			}
			p.Checksums = p.Checksums && o.CRC32C != nil
			p.Objects, p.Bytes = p.Objects+1, p.Bytes+o.Size
			delete(missing, o.Key)
		}
	}
	for key := range missing {
		return p, fault.New(fault.Corrupt, "check", key, "the store has no such object any more").
			WithHint("somebody, or a rule of the bucket, has removed it; see its lifecycle rules and its log, and take another backup")
	}
	if err := c.Store.Delete(ctx, foreign...); err != nil {
		return p, err
	}
	p.Removed = foreign
	return p, nil
}

// check compares an object with its record. Lists tell no checksums.
func (c *copying) check(ctx context.Context, o objstore.Object, e *entry) (objstore.Object, error) {
	if o.CRC32C == nil {
		var err error
		if o, err = c.Store.Stat(ctx, o.Key); err != nil {
			return o, err
		}
	}
	if matches(o, e.Record) {
		return o, nil
	}
	return o, fault.New(fault.Corrupt, "check", o.Key, "it has %d bytes and is not what was stored", o.Size).
		WithHint("take another backup, and find out who else writes to the bucket")
}
