package rsync

import (
	"bufio"
	"os"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// class is how a file comes into the backup.
type class byte

const (
	send     class = iota // rsync reads it
	check                 // rsync compares it with the previous backup's, because the times leave doubt
	reuse                 // the previous backup's is taken
	nClasses = iota
)

// key stands for a listed file: its size in pages, inverted so that the largest
// come first, and where the listing has it.
type key uint64

const (
	offsetBits = 40
	maxPages   = 1<<(64-offsetBits) - 1
	pageSize   = 8 << 10
)

func newKey(size, at int64) key {
	pages := min((size+pageSize-1)/pageSize, maxPages)
	return key(maxPages-pages)<<offsetBits | key(at)
}

func (k key) pages() int64 { return maxPages - int64(k>>offsetBits) }
func (k key) at() int64    { return int64(k & (1<<offsetBits - 1)) }

// listing is what is to be copied: in memory 8 bytes for each file, the rest
// in a file without a name.
type listing struct {
	file *os.File
	w    *bufio.Writer
	end  int64
	buf  []byte
	keys [][nClasses][]key // by tree and class
}

func newListing(dir string, fence Fence, trees int) (*listing, error) {
	f, err := nameless(dir, fence)
	if err != nil {
		return nil, err
	}
	return &listing{file: f, w: bufio.NewWriterSize(f, 256<<10), keys: make([][nClasses][]key, trees)}, nil
}

// nameless creates a file that vanishes with us.
func nameless(dir string, fence Fence) (f *os.File, err error) {
	err = fence.Do(func() error {
		if f, err = os.CreateTemp(dir, ".listing-*"); err != nil {
			return err
		}
		return os.Remove(f.Name())
	})
	return f, fault.Wrap(fault.Internal, "create a list in", dir, err)
}

func (l *listing) add(tree int, c class, e entry) error {
	l.buf = appendFrame(l.buf[:0], fileFrame, e.encode)
	l.keys[tree][c] = append(l.keys[tree][c], newKey(e.Source.Size, l.end))
	l.end += int64(len(l.buf))
	_, err := l.w.Write(l.buf)
	return fault.Wrap(fault.Internal, "write", l.file.Name(), err)
}

func (l *listing) flush() error {
	return fault.Wrap(fault.Internal, "write", l.file.Name(), l.w.Flush())
}

func (l *listing) close() { l.file.Close() }

// read returns the files that keys stand for.
func (l *listing) read(keys []key) ([]entry, error) {
	out := make([]entry, 0, len(keys))
	var buf []byte
	for _, k := range keys {
		_, content, err := frameAt(l.file, k.at(), &buf)
		var e entry
		if err == nil {
			e, err = decodeEntry(content)
		}
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "read", l.file.Name(), err)
		}
		out = append(out, e)
	}
	return out, nil
}
