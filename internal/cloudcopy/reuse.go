package cloudcopy

import (
	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/frame"
	"github.com/holdfast-pg/holdfast/internal/volumes"
)

// known tells which files are unchanged since the counterpart was made: the same file
// of the same boot, with times that no writer can set back (the time of the last
// change of the inode is the kernel's), settled before it was read.
func (c *counterpart) known(now datadir.World, codec frame.Codec) (func(string, datadir.Attributes) (volumes.Stored, bool), error) {
	if c == nil || c.world != now || !c.e.Record.Reusable(codec) {
		return nil, nil
	}
	members := map[string]volumes.Member{}
	if err := c.j.members(c.archive, func(m volumes.Member) error {
		members[m.Path] = m
		return nil
	}); err != nil {
		return nil, err
	}
	return func(path string, now datadir.Attributes) (volumes.Stored, bool) {
		m, is := members[path]
		// A damaged page is read again: it may have been mended in place.
		if !is || m.Pages.Bad > 0 || !m.Unchanged(now) || m.Segment >= len(c.e.Record.Segments) {
			return volumes.Stored{}, false
		}
		return volumes.Stored{Member: m, Archive: c.archive, SegmentSize: int(c.e.Record.Segments[m.Segment].Sum.Size)}, true
	}, nil
}
