package rsync

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
)

// known are the checksums of the previous backup, in a file without a name. A
// nil known knows nothing.
type known struct {
	file  *os.File
	index *index
	bufs  sync.Pool
}

// know reads the previous backup's manifest, when it can save reading files. A
// manifest that is missing or damaged only costs time.
func (c *copier) know(ctx context.Context) error {
	linked := 0
	for _, classes := range c.listing.keys {
		linked += len(classes[reuse])
	}
	if c.Reuse != ReuseLink || linked == 0 || c.PreviousManifest == "" {
		return nil
	}
	in, err := os.Open(c.PreviousManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "read", c.PreviousManifest, err)
	}
	defer in.Close()
	f, err := nameless(c.WorkDir, c.Fence)
	if err != nil {
		return err
	}
	k := &known{file: f, index: newIndex(), bufs: sync.Pool{New: func() any { return new([]byte) }}}
	w := bufio.NewWriterSize(f, 256<<10)
	var at int64
	var buf []byte
	_, err = manifest.Read(in, c.PreviousManifest, func(m manifest.File) error {
		if ctx.Err() != nil {
			return fault.Wrap(fault.Cancelled, "read", c.PreviousManifest, context.Cause(ctx))
		}
		rec := record{Path: m.Path, Size: m.Size}
		if m.Algorithm != manifest.SHA256 || copy(rec.Sum[:], m.Checksum) != len(rec.Sum) {
			return nil
		}
		k.index.add(rec.Path, at)
		buf = appendFrame(buf[:0], fileFrame, rec.encode)
		at += int64(len(buf))
		_, err := w.Write(buf)
		return err
	})
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		f.Close()
		if fault.Is(err, fault.Corrupt) {
			return nil
		}
		return fault.Wrap(fault.Internal, "read", c.PreviousManifest, err)
	}
	k.index.seal()
	c.known = k
	return nil
}

func (k *known) close() {
	if k != nil {
		k.file.Close()
	}
}

// sum is the checksum of a file of the previous backup, if it is known.
func (k *known) sum(path string, size int64) (sum [32]byte, ok bool, err error) {
	if k == nil {
		return sum, false, nil
	}
	buf, _ := k.bufs.Get().(*[]byte)
	defer k.bufs.Put(buf)
	rec, _, ok, err := k.index.find(k.file, path, buf)
	if err != nil {
		return sum, false, fault.Wrap(fault.Internal, "read", k.file.Name(), err)
	}
	return rec.Sum, ok && rec.Size == size, nil
}
