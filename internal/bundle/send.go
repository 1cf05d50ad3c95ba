package bundle

import (
	"bytes"
	"context"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// abortTime bounds the giving up of an upload, also of one that was cancelled, and aborts how often that is tried.
const (
	abortTime = 30 * time.Second
	aborts    = 5
)

// Parts that the store makes take it long, and this process nothing: so many are made at a time, beside
// those that are sent. Each holds little of what is sent, in bytes.
const (
	insiders = 4
	little   = 1 << 20
)

// skipped is how many bytes between two pieces that are fetched are read for nothing, at most: a request takes longer.
const skipped = 512 << 10

// grace is how long a request whose effect must be known goes on after its cancellation.
const grace = 5 * time.Second

// lasting is a context that ends a grace later than another one: an upload whose number
// nobody has learned cannot be given up.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(grace, func() { cancel(context.Cause(ctx)) })
	})
	return longer, func() {
		stop()
		cancel(nil)
	}
}

// sender sends the parts of one object.
type sender struct {
	store  objstore.Store
	key    string
	old    *Record // nil when nothing is reused
	places *places // of old

	queue   chan part // to be sent
	inside  chan part // to be made in the store, of little that is sent
	buffers chan []byte
	upload  *objstore.Upload
	mu      sync.Mutex
	parts   []objstore.Part // by number
}

// put takes a part; it begins the upload.
func (s *sender) put(ctx context.Context, p part) error {
	if s.upload == nil {
		u, err := s.begin(ctx)
		if err != nil {
			return err
		}
		s.upload = &u
	}
	queue := s.queue
	if p.woven() && len(p.data) <= little {
		queue = s.inside
		if p.data != nil {
			data := slices.Clone(p.data)
			s.buffers <- p.data
			p.data = data
		}
	}
	select {
	case queue <- p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *sender) begin(ctx context.Context) (objstore.Upload, error) {
	ctx, cancel := lasting(ctx)
	defer cancel()
	if copier, is := s.store.(objstore.RangeCopier); is && s.old != nil {
		return copier.BeginCopy(ctx, s.key)
	}
	multipart, is := s.store.(objstore.Multipart)
	if !is {
		return objstore.Upload{}, fault.New(fault.Internal, "put", s.key, "the store takes no parts")
	}
	return multipart.Begin(ctx, s.key)
}

// buffer waits for one that is free.
func (s *sender) buffer(ctx context.Context) ([]byte, error) {
	select {
	case b := <-s.buffers:
		return b[:0], nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// run makes the parts of a queue until there are no more. Several may run.
func (s *sender) run(ctx context.Context, queue <-chan part, done func(part)) error {
	for p := range queue {
		made, err := s.send(ctx, p)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.parts = append(s.parts, made)
		s.mu.Unlock()
		done(p)
	}
	return nil
}

// giveBack gives the buffer of what was sent back.
func (s *sender) giveBack(p part) { s.buffers <- p.data }

func (s *sender) send(ctx context.Context, p part) (objstore.Part, error) {
	if len(p.strands) == 1 && p.woven() {
		return s.store.(objstore.RangeCopier).CopyPart(ctx, *s.upload, p.number, s.old.Key, p.strands[0].old)
	}
	if err := s.fetch(ctx, p.data, p.holes); err != nil {
		return objstore.Part{}, err
	}
	if len(p.strands) == 1 {
		return s.store.(objstore.Multipart).PutPart(ctx, *s.upload, p.number, p.data)
	}
	return s.weave(ctx, p)
}

// fetch fills the holes of a part.
func (s *sender) fetch(ctx context.Context, data []byte, holes []hole) error {
	for len(holes) > 0 {
		n := s.nearby(holes)
		if err := s.fill(ctx, data, holes[:n]); err != nil {
			return err
		}
		holes = holes[n:]
	}
	return nil
}

// nearby is how many holes one request fills.
func (s *sender) nearby(holes []hole) int {
	n := 1
	for n < len(holes) && holes[n].first >= holes[n-1].end {
		if _, between := s.places.span(holes[n-1].end, holes[n].first); between > skipped {
			break
		}
		n++
	}
	return n
}

// fill reads a range of the old object, and from it holes that lie there in order.
func (s *sender) fill(ctx context.Context, data []byte, holes []hole) error {
	at, length := s.places.span(holes[0].first, holes[len(holes)-1].end)
	if length == 0 {
		return nil
	}
	in, _, err := s.store.Get(ctx, s.old.Key, objstore.Range{Offset: at, Length: length})
	if err != nil {
		return err
	}
	defer in.Close()
	for _, h := range holes {
		offset, length := s.places.span(h.first, h.end)
		if _, err := io.CopyN(io.Discard, in, offset-at); err != nil {
			return short(s.old.Key, err)
		}
		buf := data[h.at:][:length]
		if _, err := io.ReadFull(in, buf); err != nil {
			return short(s.old.Key, err)
		}
		if err := s.compare(h, buf); err != nil {
			return err
		}
		at = offset + length
	}
	return nil
}

// compare refuses what is not the old pieces.
func (s *sender) compare(h hole, buf []byte) error {
	offset, _ := s.places.span(h.first, h.end)
	for piece := h.first; piece < h.end; piece++ {
		if piece == headPiece || piece == s.places.tailPiece() {
			continue // which run they belong to is checked with the whole
		}
		at, size := s.places.span(piece, piece+1)
		if crc32.Checksum(buf[at-offset:][:size], castagnoli) != s.old.Segments[piece-1].CRC32C {
			return damaged(s.old.Key, at)
		}
	}
	return nil
}

// complete makes the object. rest is what no part was made of.
func (s *sender) complete(ctx context.Context, r *Record, rest []byte, holes []hole) (objstore.Object, error) {
	o := objstore.PutOptions{CRC32C: &r.CRC32C}
	if s.upload != nil {
		return s.store.(objstore.Multipart).Complete(ctx, *s.upload, s.parts, o)
	}
	if err := s.fetch(ctx, rest, holes); err != nil {
		return objstore.Object{}, err
	}
	return s.store.Put(ctx, s.key, bytes.NewReader(rest), o)
}

// abort gives the upload up; the error that led to it says more than its own.
func (s *sender) abort(ctx context.Context) {
	if s.upload != nil {
		abort(ctx, s.store.(objstore.Multipart), *s.upload)
	}
}

// abort gives an upload up, and again while it is listed: a part whose request was cancelled may reach the store
// later (S3 API, AbortMultipartUpload).
func abort(ctx context.Context, store objstore.Multipart, u objstore.Upload) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	pause := 50 * time.Millisecond
	for try := range aborts {
		if try > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
				pause *= 2
			}
		}
		if err := store.Abort(ctx, u); err == nil && !listed(ctx, store, u) {
			return
		}
	}
}

func listed(ctx context.Context, store objstore.Multipart, u objstore.Upload) bool {
	for other, err := range store.Uploads(ctx, u.Key) {
		if err == nil && other.ID == u.ID {
			return true
		}
	}
	return false
}
