package volumes

import (
	"context"
	"hash/fnv"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// SegmentSize is the size of the largest segment, in bytes.
const SegmentSize = 4 << 20

const (
	// largeFrom is the size from which on a file has segments of its own.
	largeFrom = 1 << 20
	// packed is how large segments of small files become, on average: large enough
	// to compress well, small enough that a changed file takes few others with it.
	packed = SegmentSize / 2
)

func (f File) large() bool { return f.Size >= largeFrom }

// Segment is a part of a volume's tar stream.
type Segment struct {
	Index int    // in the volume, from 0 on without a gap
	Size  int    // at least 1 byte and at most SegmentSize
	Data  []byte // the receiver's until it releases the segment; nil for one that was not read
	// Of what was not read, archive and index of the equal segment that is stored.
	Archive string
	Stored  int

	buffers *Buffers
}

// Release gives the memory back; Data may not be used any more. A segment is released once.
func (s Segment) Release() {
	if s.Data != nil {
		s.buffers.put(s.Data)
	}
}

// Buffers is the memory of segments, and the bound of how many there are at the same
// time. Several readers may share it.
type Buffers struct{ free chan []byte }

// NewBuffers has room for n segments, at least 2 for each reader; memory is taken
// when it is needed first.
func NewBuffers(n int) *Buffers {
	b := &Buffers{free: make(chan []byte, n)}
	for range n {
		b.free <- nil
	}
	return b
}

// get waits until there is room, for n bytes.
func (b *Buffers) get(ctx context.Context, n int) ([]byte, error) {
	select {
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Cancelled, "read", "the cluster's files", context.Cause(ctx))
	case buf := <-b.free:
		if cap(buf) < n {
			buf = make([]byte, 0, n)
		}
		return buf, nil
	}
}

func (b *Buffers) put(buf []byte) { b.free <- buf[:0] }

// stream cuts what is written to it.
type stream struct {
	ctx     context.Context
	buffers *Buffers
	emit    func(Segment) error
	full    func(data []byte) // is told of each segment that was read, before it is emitted
	buf     []byte            // of the segment that is being filled; nil when it is empty
	index   int
	bytes   int64
}

// reserve lets n bytes, at most SegmentSize, come into one segment.
func (s *stream) reserve(n int) error {
	if len(s.buf)+n > SegmentSize {
		if err := s.cut(); err != nil {
			return err
		}
	}
	return s.take(SegmentSize)
}

// begin lets n bytes come into a new segment.
func (s *stream) begin(n int) error {
	if err := s.cut(); err != nil {
		return err
	}
	return s.take(n)
}

// take sees to it that there is a buffer. One that is larger than its segments makes the runtime believe
// that more memory is in use, and lets as much garbage wait.
func (s *stream) take(n int) (err error) {
	if s.buf == nil {
		s.buf, err = s.buffers.get(s.ctx, n)
	}
	return err
}

// cut ends the segment, if it has anything.
func (s *stream) cut() error {
	if len(s.buf) == 0 {
		return nil
	}
	s.full(s.buf)
	out := Segment{Index: s.index, Size: len(s.buf), Data: s.buf, buffers: s.buffers}
	s.buf = nil
	return s.send(out)
}

func (s *stream) send(out Segment) error {
	s.index++
	s.bytes += int64(out.Size)
	return s.emit(out)
}

// drop gives back what an error has left.
func (s *stream) drop() {
	if s.buf != nil {
		s.buffers.put(s.buf)
		s.buf = nil
	}
}

// room is what a small member may need: its header, its content, and what fills up
// the last block.
func room(head []byte, size int) int { return len(head) + size + block }

// pad fills up the last block of a member.
func (s *stream) pad(size int64) {
	if n := int(size % block); n > 0 {
		s.buf = append(s.buf, trailer[:block-n]...)
	}
}

// endsAfter reports whether a segment of small files ends after one of them. It
// depends on that file alone, so that the segments fall into step again after a
// difference.
func endsAfter(name string, size int64) bool {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	// The upper bits of FNV change too little with the last bytes of a name.
	x := h.Sum64()
	x = (x ^ x>>32) * 0x9e3779b97f4a7c15
	return x>>32%packed < uint64(File{name, size}.takes())
}
