package bundle

import (
	"slices"
	"sync/atomic"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/frame"
	"github.com/holdfast-pg/holdfast/internal/largepages"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// longestCopy is what is copied at once; every store can copy more.
const longestCopy = 1 << 30

// hole is a part's bytes that are to be fetched: pieces of the old object that follow each other.
type hole struct {
	at         int // in the data
	first, end int // pieces
}

// strand is a stretch of a part: a range of the old object, or so many bytes of the part's data.
type strand struct {
	old  objstore.Range // of no length when it is data
	data int
}

// part is what is sent at once, or copied inside the store; one of several strands is woven there.
type part struct {
	number  int
	strands []strand
	data    []byte // nil when there is none
	holes   []hole
}

// woven reports whether it has something of the old object that is not sent.
func (p part) woven() bool {
	return len(p.strands) > 1 || len(p.strands) == 1 && p.strands[0].data == 0
}

// layout decides what is sent and what is copied. It sees the pieces of an object in their
// order: new ones, and ones that the old object has, too.
type layout struct {
	old       *places // nil when nothing can be reused
	copies    bool    // the store copies ranges
	weaves    bool    // and makes parts of what is too short for one
	allowance *Allowance
	size      func(number int) int64
	buffer    func() ([]byte, error) // an empty one
	emit      func(part) error
	// The part in the making.
	strands []strand
	length  int64
	data    []byte
	holes   []hole
	filling bool // data is a buffer
	// The old pieces from first to end, whose fate is open.
	first, end int
	held       objstore.Range // copied, and not emitted; what follows may be too short
	number     int            // of parts that were emitted
}

// Joining two strands takes the store some six requests, in which it copies a short part twice. What that
// saves, in bytes, is fetched and sent again when it is less than the Allowance says.
const (
	muchSaved   = 2 << 20 // takes as long to fetch and to send as to join
	littleSaved = 512 << 10
	leastSaved  = 128 << 10
	// mostShort is how many strands shorter than muchSaved are woven of what shares an Allowance, about: a
	// database that has changed all over has so many that it takes longer than to send all of it.
	mostShort = 128
)

// Allowance is what objects may have sent again of what the store has, so that it has less to do. It is a
// quarter of what is new in all of them, and 6 MiB in pieces of less than muchSaved, up to 8 MiB in those of less than
// littleSaved. Beyond that it is what would save less than leastSaved, and less than muchSaved when mostShort
// are woven. Several may share one.
type Allowance struct{ fresh, again, short atomic.Int64 }

// saved is what a join must save instead of having n bytes sent again.
func (a *Allowance) saved(n int64) int64 {
	beyond := a.again.Load() + n - a.fresh.Load()/4
	switch {
	case beyond <= 6<<20 || a.short.Load() >= mostShort:
		return muchSaved
	case beyond <= 8<<20:
		return littleSaved
	default:
		return leastSaved
	}
}

// add takes a new piece.
func (l *layout) add(piece []byte) error {
	if len(piece) == 0 {
		return nil
	}
	if err := l.settle(false); err != nil {
		return err
	}
	if err := l.grow(int64(len(piece))); err != nil {
		return err
	}
	l.allowance.fresh.Add(int64(len(piece)))
	l.data = append(l.room(len(piece)), piece...)
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
	return l.old != nil && l.number == 0 && l.held.Length == 0 && l.length == 0 && l.first == headPiece && l.end == l.old.tailPiece()+1
}

// finish takes the end. Data that fits into one part is not emitted: it stays.
func (l *layout) finish() error {
	if err := l.settle(true); err != nil {
		return err
	}
	if err := l.release(); err != nil || l.length == 0 || l.number == 0 && !l.part().woven() {
		return err
	}
	return l.send(false)
}

// least is the size of the part that is made: more and more of one of many, so that they do not become too many.
func (l *layout) least() int64 { return objstore.PartSize(objstore.MinPart, l.number+1) }

// lacks is what the part needs to be one, in bytes.
func (l *layout) lacks() int64 { return l.least() - l.length }

// leans reports whether the part, though it is too short, can be one with the end of what is held.
func (l *layout) leans() bool { return l.weaves && l.held.Length > 0 && l.worth(l.lacks(), 1) }

// worth reports whether so many joins are worth it that so many bytes are not sent.
func (l *layout) worth(saved, joins int64) bool {
	return saved >= joins*l.allowance.saved(saved)
}

// joins is how many weaving old pieces into the part takes. It takes one more where the object
// begins: data there has nothing before it that makes it long enough.
func (l *layout) joins() int64 {
	if l.number == 0 && l.held.Length == 0 && len(l.strands) == 1 && l.strands[0].data > 0 {
		return 2
	}
	return 1
}

// release emits what is held.
func (l *layout) release() error {
	if l.held.Length == 0 {
		return nil
	}
	p := part{strands: []strand{{old: l.held}}}
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
		leans := l.length > 0 && l.leans()
		complete := l.length > 0 && l.lacks() <= 0 || leans
		weave := l.weaves && l.worth(rest, l.joins())
		var err error
		switch {
		case l.copies && (last || rest >= l.least()) && (complete || l.length == 0):
			return l.copy(leans)
		case weave && complete:
			err = l.send(leans)
		case weave && l.worth(l.lacks(), 1):
			l.weave()
		default:
			err = l.fetch()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// weave gives the part a strand of the old pieces: what it lacks, or all when the rest would be short.
func (l *layout) weave() {
	first := l.first
	for _, rest := l.old.span(l.first, l.end); l.first < l.end && (l.lacks() > 0 || rest < muchSaved); l.first++ {
		_, size := l.old.span(l.first, l.first+1)
		l.length, rest = l.length+size, rest-size
	}
	offset, length := l.old.span(first, l.first)
	if length < muchSaved {
		l.allowance.short.Add(1)
	}
	l.strands = append(l.strands, strand{old: objstore.Range{Offset: offset, Length: length}})
}

// fetch has the first of the old pieces sent.
func (l *layout) fetch() error {
	_, size := l.old.span(l.first, l.first+1)
	if err := l.grow(size); err != nil {
		return err
	}
	l.allowance.again.Add(size)
	if n := len(l.holes) - 1; n >= 0 && l.holes[n].end == l.first && l.adjoins(l.holes[n]) {
		l.holes[n].end++
	} else {
		l.holes = append(l.holes, hole{len(l.data), l.first, l.first + 1})
	}
	l.data = l.room(int(size))[:len(l.data)+int(size)]
	l.first++
	return l.sendFull()
}

// adjoins reports whether a hole reaches to the end of the data.
func (l *layout) adjoins(h hole) bool {
	_, size := l.old.span(h.first, h.end)
	return h.at+int(size) == len(l.data)
}

// copy emits the old pieces, in as few parts as are short enough.
func (l *layout) copy(leans bool) error {
	if l.length > 0 {
		if err := l.send(leans); err != nil {
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

// grow makes room in the part for data.
func (l *layout) grow(size int64) (err error) {
	if !l.filling {
		if l.data, err = l.buffer(); err != nil {
			return err
		}
		l.filling = true
	}
	if n := len(l.strands) - 1; n < 0 || l.strands[n].data == 0 {
		l.strands = append(l.strands, strand{})
	}
	l.strands[len(l.strands)-1].data += int(size)
	l.length += size
	return nil
}

// room is the data with room for n bytes more. It doubles, up to the longest part if what follows is
// not much longer, because each growth copies all of it into memory that the kernel must clear.
func (l *layout) room(n int) []byte {
	if cap(l.data)-len(l.data) >= n {
		return l.data
	}
	most := int(l.size(l.number+1)) + min(2*n, frame.MaxRun)
	return append(largepages.Buffer(max(len(l.data)+n, min(2*cap(l.data), most))), l.data...)
}

func (l *layout) sendFull() error {
	if int64(len(l.data)) < l.size(l.number+1) {
		return nil
	}
	return l.send(false)
}

func (l *layout) part() part { return part{strands: l.strands, data: l.data, holes: l.holes} }

// send emits the part; one that leans begins with the end of what is held.
func (l *layout) send(leans bool) error {
	p := l.part()
	if leans {
		// No more is copied twice than the part lacks.
		base := l.held
		if least := l.least(); base.Length >= 2*least {
			base = objstore.Range{Offset: base.Offset + base.Length - least, Length: least}
		}
		l.held.Length -= base.Length
		p.strands = slices.Insert(p.strands, 0, strand{old: base})
	}
	if err := l.release(); err != nil {
		return err
	}
	l.strands, l.length, l.data, l.holes, l.filling = nil, 0, nil, nil, false
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
