package walarchive

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/gpg"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Missing lists the segments from begin to end that are not stored. The files
// decide, not xlog.db.
func (a *Archive) Missing(ctx context.Context, begin, end string, size uint64) ([]string, error) {
	segments, err := a.between(ctx, begin, end, size)
	if err != nil {
		return nil, err
	}
	var out []string
	present := a.present(ctx)
	for s := range segments {
		there, err := present(s.Name())
		if err != nil {
			return nil, err
		}
		if !there {
			out = append(out, s.Name())
		}
	}
	return out, nil
}

// Verified is what Verify has read.
type Verified struct {
	Segments int
	Locked   int   // of them: encrypted, and not opened for want of the secret key
	Bytes    int64 // after expansion, of those that were opened
}

// Verify reads every segment from begin to end: it must be there, be whole
// after expansion, and show on its first page that it is this segment of this
// cluster (0: any). The timeline may change between the two only as the end's
// history says. An encrypted segment without its secret key must be there.
func (a *Archive) Verify(ctx context.Context, begin, end string, size, systemID uint64) (Verified, error) {
	var v Verified
	segments, err := a.between(ctx, begin, end, size)
	if err != nil {
		return v, err
	}
	for s := range segments {
		err := a.verifySegment(ctx, s, systemID)
		switch {
		case gpg.IsLocked(err):
			v.Locked++
		case err != nil:
			return v, err
		default:
			v.Bytes += int64(size)
		}
		v.Segments++
	}
	return v, nil
}

func (a *Archive) verifySegment(ctx context.Context, s wal.Segment, systemID uint64) error {
	c, _, err := a.openStored(ctx, s.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.NotFound, "verify WAL", s.Name(), "it is not archived").
			WithHint("see that archive_command of server %s works, or that the segment waits in %s", a.layout.Server, a.layout.IncomingDir)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	path := c.where
	head := make([]byte, wal.LongHeaderSize)
	if n, err := io.ReadFull(c, head); gpg.IsLocked(err) {
		return err
	} else if err != nil {
		return fault.New(fault.Corrupt, "verify WAL", path, "it ends after %d bytes: %w", n, err)
	}
	if err := wal.CheckPage(head, s, systemID); err != nil {
		return fault.Wrap(fault.Corrupt, "verify WAL", path, err)
	}
	rest, err := io.Copy(io.Discard, c)
	if err != nil {
		return unreadable(path, err)
	}
	if got := uint64(rest) + uint64(len(head)); got != s.Size {
		return fault.New(fault.Corrupt, "verify WAL", path, "it has %d bytes, a whole segment has %d", got, s.Size)
	}
	return nil
}

// between yields the segments that recovery reads from begin to end.
func (a *Archive) between(ctx context.Context, begin, end string, size uint64) (func(yield func(wal.Segment) bool), error) {
	b, err := wal.ParseSegment(begin, size)
	if err != nil {
		return nil, err
	}
	e, err := wal.ParseSegment(end, size)
	if err != nil {
		return nil, err
	}
	if e.No < b.No || e.TLI < b.TLI {
		return nil, fault.New(fault.Corrupt, "list WAL", begin+".."+end, "the end lies before the beginning")
	}
	if b.TLI == e.TLI {
		return func(yield func(wal.Segment) bool) {
			for s := b; s.No <= e.No && yield(s); s = s.Next() {
			}
		}, nil
	}
	h, err := a.History(ctx, e.TLI)
	if err != nil {
		return nil, err
	}
	if !h.Contains(b.TLI, b.Start()) {
		return nil, fault.New(fault.Corrupt, "list WAL", begin+".."+end, "timeline %d does not descend from %d at %s", e.TLI, b.TLI, b.Start())
	}
	return func(yield func(wal.Segment) bool) {
		for s := b; s.No <= e.No; s = s.Next() {
			// The segment with the switch is complete on the new timeline only.
			for !h.Contains(s.TLI, s.End()-1) && s.TLI < e.TLI {
				s.TLI++
			}
			if !yield(s) {
				return
			}
		}
	}, nil
}

// History reads a timeline's history from the archive. Timeline 1 has none.
func (a *Archive) History(ctx context.Context, tli uint32) (wal.History, error) {
	if tli == 1 {
		return wal.History{TLI: 1}, nil
	}
	name := wal.HistoryName(tli)
	c, _, err := a.openStored(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return wal.History{}, fault.New(fault.NotFound, "read timeline history", name, "it is not archived").
			WithHint("copy it from pg_wal of the server: holdfast wal-archive %s pg_wal/%s", a.layout.Server, name)
	}
	if err != nil {
		return wal.History{}, err
	}
	defer c.Close()
	h, err := wal.ParseHistory(tli, io.LimitReader(c, 16<<20))
	return h, fault.Wrap(fault.Corrupt, "read timeline history", c.where, err)
}
