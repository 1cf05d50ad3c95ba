package rsync

import (
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// hasher is what one goroutine needs to hash files.
type hasher struct {
	sum hash.Hash
	buf []byte
}

func newHasher() *hasher { return &hasher{sum: sha256.New(), buf: make([]byte, 1<<20)} }

// file hashes a file and starts writing it to disk, so that little is left to
// do when everything must be durable.
func (h *hasher) file(ctx context.Context, path string) (sum [32]byte, st unix.Stat_t, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return sum, st, err
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return sum, st, err
	}
	h.sum.Reset()
	var size int64
	for {
		if ctx.Err() != nil {
			return sum, st, fault.Wrap(fault.Cancelled, "hash", path, context.Cause(ctx))
		}
		n, err := f.Read(h.buf)
		h.sum.Write(h.buf[:n])
		size += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return sum, st, err
		}
	}
	if size != st.Size {
		return sum, st, fault.New(fault.Corrupt, "hash", path, "%d bytes were read of %d: something else writes into the backup", size, st.Size)
	}
	if st.Nlink == 1 && size > 0 {
		// Only a hint: what does not know it writes later.
		_ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	}
	h.sum.Sum(sum[:0])
	return sum, st, nil
}

// seal hashes and records a batch; from then on it need not be copied again.
func (c *copier) seal(ctx context.Context, h *hasher, a arrived) error {
	recs := make([]record, 0, len(a.entries))
	shared := make([]bool, 0, len(a.entries))
	for i, e := range a.entries {
		rec := record{Path: datadir.Join(a.tree.Path, e.Rel), Source: e.Source}
		path := filepath.Join(a.tree.Dest, e.Rel)
		var st unix.Stat_t
		var sum [32]byte
		taken := false
		err := error(nil)
		if a.linked != nil && a.linked[i] {
			if err = unix.Lstat(path, &st); err == nil {
				sum, taken, err = c.known.sum(rec.Path, st.Size)
			}
		}
		if !taken && err == nil {
			sum, st, err = h.file(ctx, path)
		}
		if err != nil {
			return fault.Wrap(fault.Internal, "hash", path, err)
		}
		rec.Sum, rec.Size, rec.Mtime = sum, st.Size, st.Mtim.Nano()
		recs = append(recs, rec)
		shared = append(shared, st.Nlink > 1)
	}
	at, err := c.journal.append(recs)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.final = append(c.final, at...)
	c.mu.Unlock()
	for i, r := range recs {
		c.count(r.Size, shared[i])
	}
	return nil
}
