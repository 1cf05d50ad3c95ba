package volumes

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/lanes"
	"github.com/holdfast-pg/holdfast/internal/pagesum"
)

// wholeUpTo is the size up to which a file that WAL replay does not mend is read
// before its header is written.
const wholeUpTo = 16 << 20

// Reader reads volumes, one at a time. It needs the memory of its buffers, and up to
// 16 MiB for a file that is read whole.
type Reader struct {
	Buffers *Buffers
	Stride  int            // the plan's; 0 is SegmentSize
	Judge   *pagesum.Judge // nil where pages have no checksums
	// Known tells of files that provably are what a stored volume has, and which are
	// not read then (Member.Unchanged, in the same world). Nil knows nothing.
	Known func(path string, now datadir.Attributes) (Stored, bool)

	headers  *headers
	whole    []byte
	page     []byte
	messages []lanes.Message
}

// Result is what a volume consists of.
type Result struct {
	Members  []Member
	Vanished []string // paths of what was not there any more
	Segments int
	Bytes    int64 // of the tar stream
}

// Volume reads a volume's files and calls emit with its segments, in their order.
// emit may keep them and release them later, from any goroutine; its error ends the
// reading. A file that cannot be read is an error, one that is gone is not.
func (r *Reader) Volume(ctx context.Context, root string, v Volume, emit func(Segment) error) (Result, error) {
	return r.archive(ctx, emit, func(a *archive) error {
		a.knows = r.Known
		a.res.Members = slices.Grow(a.res.Members, len(v.Files))
		for _, f := range v.Files {
			there, err := a.file(f.Path, filepath.Join(root, f.Path))
			if err != nil {
				return err
			}
			if !there {
				a.res.Vanished = append(a.res.Vanished, f.Path)
			}
		}
		return nil
	})
}

// archive streams what fill puts into an archive.
func (r *Reader) archive(ctx context.Context, emit func(Segment) error, fill func(*archive) error) (Result, error) {
	if r.headers == nil {
		r.headers = newHeaders()
	}
	a := &archive{Reader: r, stride: cmp.Or(r.Stride, SegmentSize), stream: stream{ctx: ctx, buffers: r.Buffers, emit: emit}}
	a.full = a.sum
	defer a.drop()
	if err := fill(a); err != nil {
		return Result{}, err
	}
	if err := a.end(); err != nil {
		return Result{}, err
	}
	if err := a.begin(len(trailer)); err != nil {
		return Result{}, err
	}
	a.buf = append(a.buf, trailer[:]...)
	if err := a.cut(); err != nil {
		return Result{}, err
	}
	a.res.Segments, a.res.Bytes = a.index, a.bytes
	return a.res, nil
}

// archive is one in the making.
type archive struct {
	*Reader
	stream
	stride  int
	res     Result
	summed  int // members that have their checksum
	knows   func(string, datadir.Attributes) (Stored, bool)
	unread  []unread // small files that are known, in place of a segment that is being filled
	unreadN int      // bytes that they take
}

// file adds a file under a name; false when there is none.
func (a *archive) file(name, path string) (bool, error) {
	if a.ctx.Err() != nil {
		return false, fault.Wrap(fault.Cancelled, "read", path, context.Cause(a.ctx))
	}
	var st unix.Stat_t
	if a.knows != nil && unix.Stat(path, &st) == nil {
		if old, known := a.knows(name, datadir.AttributesOf(&st)); known && old.Size == st.Size && old.cutAlike(a.stride) {
			return true, a.stored(old, name, path, ownerOf(&st))
		}
	}
	var src source
	if there, err := src.open(path); !there {
		return false, err
	}
	defer src.close()
	return true, a.read(name, &src)
}

// read adds a file that is not known.
func (a *archive) read(name string, src *source) error {
	if err := a.readUnread(); err != nil {
		return err
	}
	m := Member{Path: name, Size: src.st.Size, Source: datadir.Identify(&src.st), Read: src.at}
	pages := a.checkPages(name)
	mended := datadir.IsRelation(name)
	ends := false
	var err error
	if src.st.Size >= largeFrom && (mended || src.st.Size > wholeUpTo) {
		err = a.large(&m, src, &pages)
		m.Resized = m.Resized && !mended
	} else {
		var content []byte
		if content, m.Resized, err = a.readWhole(src, mended); err == nil {
			if err = pages.data(a.ctx, src, content, 0); err == nil {
				ends, err = a.content(&m, content, ownerOf(&src.st))
			}
		}
	}
	if err != nil {
		return err
	}
	m.Pages = pages.found
	return a.add(m, ends)
}

// add adds a member whose content is there; ends when the segment ends after it.
func (a *archive) add(m Member, ends bool) error {
	a.res.Members = append(a.res.Members, m)
	if ends {
		return a.cut()
	}
	return nil
}

// sum gives the members of a segment of small files their checksums, which takes a third of the time when
// many are made at once.
func (a *archive) sum(data []byte) {
	messages := a.messages[:0]
	for i := a.summed; i < len(a.res.Members); i++ {
		if m := &a.res.Members[i]; m.Segment == a.index && m.Size < largeFrom {
			messages = append(messages, lanes.Message{Data: data[m.Offset:][:m.Size], Sum: &m.Sum})
		}
	}
	lanes.Each(messages)
	clear(messages)
	a.messages, a.summed = messages[:0], len(a.res.Members)
}

// readWhole reads a small file; one that WAL replay mends ends where it ended when
// it was opened.
func (a *archive) readWhole(src *source, mended bool) (content []byte, cutOff bool, err error) {
	most := int64(wholeUpTo)
	if mended {
		most = src.st.Size
	}
	n := 0
	// One byte more tells that nothing has been added.
	for want := min(most, src.st.Size+1); ; want = min(most, 2*want+block) {
		if int64(len(a.whole)) < want {
			grown := make([]byte, min(wholeUpTo, max(want, 64<<10)))
			copy(grown, a.whole[:n])
			a.whole = grown
		}
		k, err := src.read(a.whole[n:want], int64(n))
		n += k
		if err != nil || int64(n) < want {
			return a.whole[:n], false, err
		}
		if want == most {
			break
		}
	}
	if mended {
		return a.whole[:n], false, nil
	}
	size, err := src.size()
	return a.whole[:n], size > int64(n), err
}

// content puts what is in memory into the archive, and says whether the segment ends after it.
func (a *archive) content(m *Member, content []byte, o owner) (ends bool, err error) {
	m.Size = int64(len(content))
	head, err := a.headers.of(m.Path, m.Size, o)
	if err != nil {
		return false, fault.Wrap(fault.Internal, "write header of", m.Path, err)
	}
	if m.Size < largeFrom {
		if err := a.reserve(room(head, len(content))); err != nil {
			return false, err
		}
		a.buf = append(a.buf, head...)
		m.Segment, m.Offset = a.index, len(a.buf)
		a.buf = append(a.buf, content...)
		a.pad(m.Size)
		return endsAfter(m.Path, m.Size), nil
	}
	if err := a.alone(head); err != nil {
		return false, err
	}
	m.Segment = a.index
	for len(content) > 0 {
		n := min(len(content), a.stride)
		if err := a.begin(n); err != nil {
			return false, err
		}
		a.buf = append(a.buf, content[:n]...)
		if content = content[n:]; len(content) == 0 {
			a.pad(m.Size)
		}
		if err := a.cut(); err != nil {
			return false, err
		}
	}
	return false, nil
}

// alone puts a header into a segment of its own.
func (a *archive) alone(head []byte) error {
	if err := a.end(); err != nil {
		return err
	}
	if err := a.begin(len(head)); err != nil {
		return err
	}
	a.buf = append(a.buf, head...)
	return a.cut()
}

// large streams a file with the size that it had when it was opened.
func (a *archive) large(m *Member, src *source, pages *pageCheck) error {
	head, err := a.headers.of(m.Path, m.Size, ownerOf(&src.st))
	if err != nil {
		return fault.Wrap(fault.Internal, "write header of", m.Path, err)
	}
	if err := a.alone(head); err != nil {
		return err
	}
	m.Segment = a.index
	for at := int64(0); at < m.Size; {
		if a.ctx.Err() != nil {
			return fault.Wrap(fault.Cancelled, "read", src.path, context.Cause(a.ctx))
		}
		want := int(min(m.Size-at, int64(a.stride)))
		if err := a.begin(want); err != nil {
			return err
		}
		a.buf = a.buf[:want]
		n, err := src.read(a.buf, at)
		if err != nil {
			return err
		}
		if n < want {
			m.Resized = true
			clear(a.buf[n:])
		}
		if err := pages.data(a.ctx, src, a.buf[:n], at); err != nil {
			return err
		}
		if at += int64(want); at == m.Size {
			a.pad(m.Size)
		}
		if err := a.cut(); err != nil {
			return err
		}
	}
	if !m.Resized {
		size, err := src.size()
		if err != nil {
			return err
		}
		m.Resized = size != m.Size
	}
	return nil
}

// directory adds a directory, whose name ends with a slash; false when there is none.
func (a *archive) directory(name, path string) (bool, error) {
	at, there, err := stat(path)
	if err != nil || !there {
		return false, err
	}
	head, err := a.headers.of(name, 0, ownerOf(at))
	if err != nil {
		return true, fault.Wrap(fault.Internal, "write header of", name, err)
	}
	if err := a.reserve(len(head)); err != nil {
		return true, err
	}
	a.buf = append(a.buf, head...)
	if endsAfter(name, 0) {
		return true, a.cut()
	}
	return true, nil
}

func stat(path string) (*unix.Stat_t, bool, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	switch {
	case err == nil:
		return &st, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
	case datadir.Vanished(path):
		return nil, false, nil
	}
	return nil, false, datadir.Unreadable(path, err)
}
