package volumes

import (
	"context"
	"path"
	"time"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pagesum"
)

const (
	// mostBad is how many bad blocks of a file are named.
	mostBad = 100
	// A page that was read while it was written is whole a moment later. Many bad pages
	// in one file are no accident of timing.
	rereads     = 3
	patientFor  = 10
	rereadPause = 10 * time.Millisecond
)

// Pages is what the checksums of a file's pages say.
type Pages struct {
	Checked int64 // new and recent ones too
	Bad     int64
	Blocks  []uint32 // the first bad ones, by their number in the relation, not in the file
}

// pageCheck judges the pages of one file. One without a judge judges nothing.
type pageCheck struct {
	judge *pagesum.Judge
	first uint32
	page  []byte // to read one again
	found Pages
}

// checkPages has no judge for files without pages.
func (r *Reader) checkPages(rel string) pageCheck {
	relation, ok := datadir.ParseRelation(path.Base(rel))
	if r.Judge == nil || !ok || !datadir.IsRelation(rel) {
		return pageCheck{}
	}
	if r.page == nil {
		r.page = make([]byte, r.Judge.BlockSize)
	}
	return pageCheck{judge: r.Judge, first: r.Judge.First(relation.Segment), page: r.page}
}

// data judges what was read of a file at an offset, which begins a page.
func (c *pageCheck) data(ctx context.Context, file *source, data []byte, at int64) error {
	if c.judge == nil {
		return nil
	}
	size := c.judge.BlockSize
	number := c.first + uint32(at/int64(size))
	for ; len(data) >= size; data = data[size:] {
		if c.judge.Page(data[:size], number) == pagesum.Bad {
			bad, err := c.still(ctx, file, number)
			if err != nil {
				return err
			}
			if bad {
				c.found.Bad++
				if len(c.found.Blocks) < mostBad {
					c.found.Blocks = append(c.found.Blocks, number)
				}
			}
		}
		c.found.Checked++
		number++
	}
	return nil
}

// still reads a page again. One that was cut off meanwhile is not bad.
func (c *pageCheck) still(ctx context.Context, file *source, number uint32) (bool, error) {
	at := int64(number-c.first) * int64(c.judge.BlockSize)
	for range rereads {
		if c.found.Bad < patientFor {
			select {
			case <-ctx.Done():
				return false, fault.Wrap(fault.Cancelled, "read", file.path, context.Cause(ctx))
			case <-time.After(rereadPause):
			}
		}
		n, err := file.read(c.page, at)
		if err != nil || n < len(c.page) {
			return false, err
		}
		if c.judge.Page(c.page, number) != pagesum.Bad {
			return false, nil
		}
	}
	return true, nil
}
