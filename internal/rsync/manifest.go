package rsync

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
)

// writeManifest lists what the backup consists of. Where its WAL ends is not
// known yet.
func (c *copier) writeManifest(ctx context.Context) (manifest.Summary, error) {
	var f *atomicfile.File
	if err := c.Fence.Do(func() (err error) {
		f, err = atomicfile.Create(c.Manifest, 0o600)
		return err
	}); err != nil {
		return manifest.Summary{}, err
	}
	defer f.Abort()
	var id uint64
	if c.ManifestV2 {
		id = c.SystemID
	}
	w := manifest.NewWriter(f, id)
	slices.Sort(c.final)
	err := c.journal.each(c.final, func(r record) error {
		if ctx.Err() != nil {
			return fault.Wrap(fault.Cancelled, "write", c.Manifest, context.Cause(ctx))
		}
		return w.Add(manifest.File{Path: r.Path, Size: r.Size, Modified: time.Unix(0, r.Mtime), Algorithm: manifest.SHA256, Checksum: r.Sum[:]})
	})
	for _, s := range c.singles {
		if err == nil {
			err = w.Add(s)
		}
	}
	if err != nil {
		return manifest.Summary{}, fault.Wrap(fault.Internal, "write", c.Manifest, err)
	}
	sum, err := w.Close(nil)
	if err != nil {
		return sum, fault.Wrap(fault.Internal, "write", c.Manifest, err)
	}
	return sum, c.Fence.Do(f.Commit)
}
