package walarchive

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

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
	for ; len(out) < n; s = s.Next() {
		if ctx.Err() != nil {
			return nil, fault.Wrap(fault.Cancelled, "look for", s.Name(), context.Cause(ctx))
		}
		_, err := os.Stat(a.Path(s.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "look for", a.Path(s.Name()), err)
		}
		out = append(out, s.Name())
	}
	return out, nil
}

// SegmentSize is what the first page of the newest stored segment says; 0 when
// none is stored.
func (a *Archive) SegmentSize(ctx context.Context) (uint64, error) {
	newest := ""
	err := a.scan(ctx, func(path string) error {
		if wal.Classify(filepath.Base(path)) == wal.SegmentFile {
			newest = path
		}
		return nil
	})
	if err != nil || newest == "" {
		return 0, err
	}
	c, err := a.open(ctx, newest)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	head := make([]byte, wal.LongHeaderSize)
	if _, err := io.ReadFull(c, head); err != nil {
		return 0, fault.New(fault.Corrupt, "read", newest, "it is too short: %w", err)
	}
	size := uint64(binary.LittleEndian.Uint32(head[segmentSizeAt:]))
	if !wal.ValidSegmentSize(size) {
		return 0, fault.New(fault.Corrupt, "read", newest, "its first page says that segments have %d bytes", size)
	}
	return size, nil
}

// segmentSizeAt is the offset of xlp_seg_size in a segment's first page.
const segmentSizeAt = 32
