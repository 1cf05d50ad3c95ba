package walarchive

import (
	"context"
	"encoding/binary"
	"io"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Following lists the stored segments from name on, until one is missing, and
// n at most.
func (a *Archive) Following(ctx context.Context, name string, n int, size uint64) ([]string, error) {
	s, err := wal.ParseSegment(name, size)
	if err != nil {
		return nil, err
	}
	var out []string
	present := a.present(ctx)
	for ; len(out) < n; s = s.Next() {
		there, err := present(s.Name())
		if err != nil {
			return nil, err
		}
		if !there {
			break
		}
		out = append(out, s.Name())
	}
	return out, nil
}

// SegmentSize is what the first page of the newest stored segment says; 0 when
// none is stored.
func (a *Archive) SegmentSize(ctx context.Context) (uint64, error) {
	newest := ""
	if err := a.EachStored(ctx, func(name string) {
		if wal.Classify(name) == wal.SegmentFile {
			newest = name
		}
	}); err != nil || newest == "" {
		return 0, err
	}
	c, _, err := a.openStored(ctx, newest)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	head := make([]byte, wal.LongHeaderSize)
	if _, err := io.ReadFull(c, head); err != nil {
		return 0, fault.New(fault.Corrupt, "read", c.where, "it is too short: %w", err)
	}
	size := uint64(binary.LittleEndian.Uint32(head[segmentSizeAt:]))
	if !wal.ValidSegmentSize(size) {
		return 0, fault.New(fault.Corrupt, "read", c.where, "its first page says that segments have %d bytes", size)
	}
	return size, nil
}

// segmentSizeAt is the offset of xlp_seg_size in a segment's first page.
const segmentSizeAt = 32
