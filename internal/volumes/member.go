package volumes

import (
	"context"
	"crypto/sha256"
	"path/filepath"
	"time"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Member is a plain file as it is in a volume.
type Member struct {
	Path string // in the archive, and below the tree's root
	Size int64  // in the archive
	// Sum is the SHA-256 of the content; for a file with segments of its own see SumUp.
	Sum    [32]byte
	Source datadir.Identity // before the first read; zero when it was no file
	Read   time.Time        // before that
	// Segment has the content's beginning, at Offset of its data. What does not fit goes
	// on at the beginning of the next one.
	Segment, Offset int
	// Resized says that the size changed while the file was read, and that WAL replay
	// may not mend what is missing.
	Resized bool
	Pages   Pages
}

// SumUp completes the checksum of a file that has segments of its own: the SHA-256 of
// those of its segments, which whoever stores them makes anyway. The last segment
// has the content and the zeros that fill up the last block.
func (m *Member) SumUp(segment func(index int) (sum [32]byte, size int64)) {
	if m.Size < largeFrom {
		return
	}
	all := sha256.New()
	for left, i := m.Size, m.Segment; left > 0; i++ {
		sum, size := segment(i)
		all.Write(sum[:])
		left -= size
	}
	all.Sum(m.Sum[:0])
}

// Unchanged reports whether a file of the same world is still what was read. A
// member of the attempt that is still running needs no such proof: WAL replay
// mends it.
func (m Member) Unchanged(now datadir.Attributes) bool {
	return now.IsRegular() && now.Identity == m.Source && m.Source.SettledAt(m.Read) && !m.Resized
}

// Changed are the paths of the members that are below root no longer as they were
// read. The caller has compared the worlds, and a new session has begun before.
func Changed(ctx context.Context, root string, members []Member) ([]string, error) {
	var out []string
	for _, m := range members {
		if ctx.Err() != nil {
			return nil, fault.Wrap(fault.Cancelled, "look at", root, context.Cause(ctx))
		}
		now, there, err := datadir.Look(filepath.Join(root, m.Path))
		if err != nil {
			return nil, err
		}
		if !there || !m.Unchanged(now) {
			out = append(out, m.Path)
		}
	}
	return out, nil
}
