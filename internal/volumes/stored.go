package volumes

import "github.com/holdfast-pg/holdfast/internal/fault"

// Stored is a member of a volume that is stored.
type Stored struct {
	Member
	Archive string // that has it
	// SegmentSize is the size of the segment that has the beginning of the content.
	SegmentSize int
}

// cutAlike reports whether the segments of a large file are those that it would have now.
func (s Stored) cutAlike(stride int) bool {
	return s.Size < largeFrom || int64(s.SegmentSize) == padded(min(s.Size, int64(stride)))
}

// unread is a small file that is known.
type unread struct {
	Stored
	name, path string
	offset     int // in the segment that it would be in
}

// stored adds a file that is known.
func (a *archive) stored(old Stored, name, path string, o owner) error {
	head, err := a.headers.of(name, old.Size, o)
	if err != nil {
		return fault.Wrap(fault.Internal, "write header of", name, err)
	}
	if old.Size < largeFrom {
		return a.storedSmall(unread{Stored: old, name: name, path: path}, head)
	}
	if err := a.alone(head); err != nil {
		return err
	}
	m := old.Member
	m.Path, m.Segment, m.Offset = name, a.index, 0
	for left, i := old.Size, 0; left > 0; i++ {
		n := min(left, int64(a.stride))
		size := padded(n)
		if err := a.send(Segment{Index: a.index, Size: int(size), Archive: old.Archive, Stored: old.Segment + i}); err != nil {
			return err
		}
		left -= n
	}
	a.res.Members = append(a.res.Members, m)
	return nil
}

// storedSmall waits for the end of the segment, because another file of it may
// have changed. In one that has, the file is read.
func (a *archive) storedSmall(u unread, head []byte) error {
	size := int(u.Size)
	if len(a.buf)+a.unreadN+room(head, size) > SegmentSize {
		if err := a.end(); err != nil {
			return err
		}
	}
	if len(a.buf) > 0 {
		return a.readAgain(u)
	}
	u.offset = a.unreadN + len(head)
	a.unread = append(a.unread, u)
	a.unreadN += len(head) + int(padded(int64(size)))
	if endsAfter(u.name, u.Size) {
		return a.end()
	}
	return nil
}

// end ends a segment, whether it was read or is known.
func (a *archive) end() error {
	if len(a.unread) == 0 {
		return a.cut()
	}
	first := a.unread[0]
	same := a.unreadN == first.SegmentSize
	for _, u := range a.unread {
		same = same && u.Archive == first.Archive && u.Segment == first.Segment && u.Offset == u.offset
	}
	if !same {
		if err := a.readUnread(); err != nil {
			return err
		}
		return a.cut()
	}
	for _, u := range a.unread {
		m := u.Member
		m.Path, m.Segment, m.Offset = u.name, a.index, u.offset
		a.res.Members = append(a.res.Members, m)
	}
	size := a.unreadN
	a.unread, a.unreadN = a.unread[:0], 0
	return a.send(Segment{Index: a.index, Size: size, Archive: first.Archive, Stored: first.Segment})
}

// readUnread reads what was to be left out, because something else is in the same
// segment.
func (a *archive) readUnread() error {
	waiting := a.unread
	a.unread, a.unreadN = nil, 0
	for _, u := range waiting {
		if err := a.readAgain(u); err != nil {
			return err
		}
	}
	return nil
}

func (a *archive) readAgain(u unread) error {
	var src source
	there, err := src.open(u.path)
	if err != nil {
		return err
	}
	if !there {
		a.res.Vanished = append(a.res.Vanished, u.name)
		return nil
	}
	defer src.close()
	return a.read(u.name, &src)
}
