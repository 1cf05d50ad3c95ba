package bundle

import (
	"slices"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// longestCopy is what is copied at once; every store can copy more.
const longestCopy = 1 << 30

// hole is a part's bytes that are to be fetched: pieces of the old object that follow each other.
type hole struct {
	at         int // in the part
	first, end int // pieces
}

// part is what is sent at once, or copied inside the store. One that is both is copied first:
// it is too short to be sent alone.
type part struct {
	number int
	data   []byte // nil when it is copied
	holes  []hole
	copied objstore.Range
}

// layout decides what is sent and what is copied. It sees the pieces of an object in their
// order: new ones, and ones that the old object has, too.
type layout struct {
	old     *places // nil when nothing can be reused
	copies  bool    // the store copies ranges
	joins   bool    // what is too short for a part can be joined with what is copied
	size    func(number int) int64
	buffer  func() ([]byte, error) // an empty one
	emit    func(part) error
	data    []byte
	holes   []hole
	filling bool // data is a buffer
	// The old pieces from first to end, whose fate is open.
	first, end int
	held       objstore.Range // copied, and not emitted; what follows may be too short
	number     int            // of parts that were emitted
}

// lacking is what a short part must lack, in bytes, to be joined in the store with what is
// copied, which takes six requests, rather than to be sent with unchanged neighbours.
const lacking = 1 << 20

// add takes a new piece.
func (l *layout) add(piece []byte) error {
	if len(piece) == 0 {
		return nil
	}
	if err := l.settle(false); err != nil {
		return err
	}
	if err := l.begin(); err != nil {
		return err
	}
	l.data = append(l.data, piece...)
	return l.sendFull()
}

// same takes a piece that is the old object's.
func (l *layout) same(piece int) error {
	if l.first < l.end && l.end == piece {
		l.end++
		return nil
	}
	if err := l.settle(false); err != nil {
		return err
	}
	l.first, l.end = piece, piece+1
	return nil
}

// whole reports whether the object is the old one.
func (l *layout) whole() bool {
	return l.old != nil && l.number == 0 && l.held.Length == 0 && !l.filling && l.first == headPiece && l.end == l.old.tailPiece()+1
}

// finish takes the end. What fits into one part is not emitted: it stays in data.
func (l *layout) finish() error {
	if err := l.settle(true); err != nil {
		return err
	}
	if err := l.release(); err != nil || l.number == 0 || len(l.data) == 0 {
		return err
	}
	return l.send()
}

// joinable reports whether the data can be sent, though it is too short.
func (l *layout) joinable() bool {
	return l.joins && l.held.Length > 0 && len(l.data) < objstore.MinPart-lacking
}

// release emits what is held.
func (l *layout) release() error {
	if l.held.Length == 0 {
		return nil
	}
	p := part{copied: l.held}
	l.held = objstore.Range{}
	return l.next(p)
}

// settle decides on the old pieces. A part in the making that is too small takes of
// them what it lacks; they are copied when the rest is long enough, or the last.
func (l *layout) settle(last bool) error {
	for l.first < l.end {
		_, rest := l.old.span(l.first, l.end)
		if rest == 0 { // there are formats without a head or a tail
			l.first = l.end
			return nil
		}
		if l.copies && (last || rest >= objstore.MinPart) && (len(l.data) == 0 || len(l.data) >= objstore.MinPart || l.joinable()) {
			return l.copy()
		}
		if err := l.fetch(); err != nil {
			return err
		}
	}
	return nil
}

// fetch has the first of the old pieces sent.
func (l *layout) fetch() error {
	_, size := l.old.span(l.first, l.first+1)
	if err := l.begin(); err != nil {
		return err
	}
	if n := len(l.holes) - 1; n >= 0 && l.holes[n].end == l.first && l.adjoins(l.holes[n]) {
		l.holes[n].end++
	} else {
		l.holes = append(l.holes, hole{len(l.data), l.first, l.first + 1})
	}
	l.data = slices.Grow(l.data, int(size))[:len(l.data)+int(size)]
	l.first++
	return l.sendFull()
}

// adjoins reports whether a hole reaches to the end of the data.
func (l *layout) adjoins(h hole) bool {
	_, size := l.old.span(h.first, h.end)
	return h.at+int(size) == len(l.data)
}

// copy emits the old pieces, in as few parts as are short enough.
func (l *layout) copy() error {
	if len(l.data) > 0 {
		if err := l.send(); err != nil {
			return err
		}
	}
	offset, length := l.old.span(l.first, l.end)
	l.first = l.end
	for n := (length + longestCopy - 1) / longestCopy; n > 0; n-- {
		size := length / n
		if err := l.release(); err != nil {
			return err
		}
		l.held = objstore.Range{Offset: offset, Length: size}
		offset, length = offset+size, length-size
	}
	return nil
}

func (l *layout) begin() (err error) {
	if !l.filling {
		l.data, err = l.buffer()
		l.filling = err == nil
	}
	return err
}

func (l *layout) sendFull() error {
	if int64(len(l.data)) < l.size(l.number+1) {
		return nil
	}
	return l.send()
}

func (l *layout) send() error {
	p := part{data: l.data, holes: l.holes}
	if l.joinable() {
		// No more is copied twice than the part lacks.
		if l.held.Length >= 2*objstore.MinPart {
			l.held.Length -= objstore.MinPart
			p.copied = objstore.Range{Offset: l.held.Offset + l.held.Length, Length: objstore.MinPart}
		} else {
			p.copied, l.held = l.held, objstore.Range{}
		}
	}
	if err := l.release(); err != nil {
		return err
	}
	l.data, l.holes, l.filling = nil, nil, false
	return l.next(p)
}

func (l *layout) next(p part) error {
	if l.number == objstore.MaxParts {
		return fault.New(fault.Config, "put", "an object", "it is larger than %d parts", objstore.MaxParts).
			WithHint("set a larger cloud_upload_min_chunk_size, or a smaller cloud_upload_max_archive_size")
	}
	l.number++
	p.number = l.number
	return l.emit(p)
}
