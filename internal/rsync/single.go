package rsync

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/pgcontrol"
)

// copySingles copies the files that belong to no tree. They are few, and copied
// again by every run.
func (c *copier) copySingles(ctx context.Context) error {
	for _, s := range c.Singles {
		began := time.Now()
		there, err := c.copySingle(ctx, s)
		if err != nil {
			return err
		}
		c.clock.copied(s.Name, began)
		if !there && !s.Optional {
			return datadir.Unreadable(s.Source, unix.ENOENT)
		}
		if there {
			if err := c.sealSingle(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}

// copySingle replaces the destination; false when there is no source.
func (c *copier) copySingle(ctx context.Context, s Single) (bool, error) {
	if err := c.Fence.Do(func() error {
		err := os.Remove(s.Dest)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}); err != nil {
		return false, fault.Wrap(fault.Internal, "replace", s.Dest, err)
	}
	a, ok, err := c.from.look(ctx, s.Source)
	if err != nil || !ok {
		return false, err
	}
	if !a.IsRegular() {
		return false, fault.New(fault.Refused, "copy", s.Source, "it is not a regular file").
			WithHint("put a regular file in its place")
	}
	// Rsync gives a file the name that it has at the source.
	t := transfer{source: filepath.Dir(s.Source), dest: filepath.Dir(s.Dest)}
	there, err := c.transfer(ctx, t, []entry{{Rel: filepath.Base(s.Source)}})
	return len(there) == 1, err
}

func (c *copier) sealSingle(ctx context.Context, s Single) error {
	sum, st, err := newHasher().file(ctx, s.Dest)
	if err != nil {
		return fault.Wrap(fault.Internal, "hash", s.Dest, err)
	}
	c.singles = append(c.singles, manifest.File{Path: s.Path, Size: st.Size, Modified: time.Unix(st.Mtim.Unix()), Algorithm: manifest.SHA256, Checksum: sum[:]})
	c.count(st.Size, false)
	return nil
}

// The server rewrites pg_control in place; a copy that caught it doing so is
// made again.
const (
	controlTries = 100
	controlPause = 50 * time.Millisecond
)

// copyControl copies pg_control when everything else is there, and until what
// arrived is whole.
func (c *copier) copyControl(ctx context.Context) error {
	defer c.clock.copied(c.Control.Name, time.Now())
	for try := 1; ; try++ {
		there, err := c.copySingle(ctx, c.Control)
		if err == nil && !there {
			err = datadir.Unreadable(c.Control.Source, unix.ENOENT)
		}
		if err != nil {
			return err
		}
		control, err := pgcontrol.Read(c.Control.Dest)
		switch {
		case err == nil && control.SystemID != c.SystemID:
			return fault.New(fault.Refused, "copy", c.Control.Source, "it is of the cluster with system identifier %d, the backup is of %d", control.SystemID, c.SystemID).
				WithHint("the data directory that the server names is not its own on this host; use backup_method = postgres for a server elsewhere")
		case err == nil:
			return c.sealSingle(ctx, c.Control)
		case !fault.Is(err, fault.Corrupt) || try == controlTries:
			return err
		}
		if err := pause(ctx, controlPause); err != nil {
			return err
		}
	}
}
