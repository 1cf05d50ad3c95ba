package bundle

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// abortTime bounds the giving up of an upload, also of one that was cancelled.
const abortTime = 30 * time.Second

// sender sends the parts of one object.
type sender struct {
	store  objstore.Store
	key    string
	old    *Record // nil when nothing is reused
	places *places // of old

	queue   chan part
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
	select {
	case s.queue <- p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *sender) begin(ctx context.Context) (objstore.Upload, error) {
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

// run sends parts until there are no more. Several may run.
func (s *sender) run(ctx context.Context) error {
	for p := range s.queue {
		done, err := s.send(ctx, p)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.parts = append(s.parts, done)
		s.mu.Unlock()
		if p.data != nil {
			s.buffers <- p.data
		}
	}
	return nil
}

func (s *sender) send(ctx context.Context, p part) (objstore.Part, error) {
	if p.data != nil && p.copied.Length > 0 {
		return s.join(ctx, p)
	}
	if p.data == nil {
		return s.store.(objstore.RangeCopier).CopyPart(ctx, *s.upload, p.number, s.old.Key, p.copied)
	}
	if err := s.fetch(ctx, p.data, p.holes); err != nil {
		return objstore.Part{}, err
	}
	return s.store.(objstore.Multipart).PutPart(ctx, *s.upload, p.number, p.data)
}

// join makes a part of what is copied and what is sent behind it: an object of its own, whose
// last part may be short, and which is copied. After a kill it is one that is unknown.
func (s *sender) join(ctx context.Context, p part) (objstore.Part, error) {
	store := s.store.(objstore.Joiner)
	if err := s.fetch(ctx, p.data, p.holes); err != nil {
		return objstore.Part{}, err
	}
	key := fmt.Sprintf("%s.part-%d", s.key, p.number)
	u, err := store.BeginCopy(ctx, key)
	if err != nil {
		return objstore.Part{}, err
	}
	copied, err := store.CopyPart(ctx, u, 1, s.old.Key, p.copied)
	if err == nil {
		var sent objstore.Part
		if sent, err = store.PutPart(ctx, u, 2, p.data); err == nil {
			_, err = store.Complete(ctx, u, []objstore.Part{copied, sent}, objstore.PutOptions{})
		}
	}
	if err != nil {
		abort(ctx, store, u)
		return objstore.Part{}, err
	}
	done, err := store.CopyPart(ctx, *s.upload, p.number, key, objstore.Range{Length: p.copied.Length + int64(len(p.data))})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	return done, cmp.Or(err, s.store.Delete(ctx, key))
}

// fetch fills the holes of a part.
func (s *sender) fetch(ctx context.Context, data []byte, holes []hole) error {
	for _, h := range holes {
		offset, length := s.places.span(h.first, h.end)
		if err := fetch(ctx, s.store, s.old.Key, offset, data[h.at:h.at+int(length)]); err != nil {
			return err
		}
		for piece := h.first; piece < h.end; piece++ {
			if piece == headPiece || piece == s.places.tailPiece() {
				continue // which run they belong to is checked with the whole
			}
			at, size := s.places.span(piece, piece+1)
			run := data[h.at+int(at-offset):][:size]
			if crc32.Checksum(run, castagnoli) != s.old.Segments[piece-1].CRC32C {
				return damaged(s.old.Key, at)
			}
		}
	}
	return nil
}

// fetch fills buf from an object.
func fetch(ctx context.Context, store objstore.Store, key string, offset int64, buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	in, _, err := store.Get(ctx, key, objstore.Range{Offset: offset, Length: int64(len(buf))})
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := io.ReadFull(in, buf); err != nil {
		return short(key, err)
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

func abort(ctx context.Context, store objstore.Multipart, u objstore.Upload) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
	defer cancel()
	_ = store.Abort(ctx, u)
}
