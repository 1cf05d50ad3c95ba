package objstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
)

// rangeSize is how much of a large object is asked for by one request, in bytes.
const rangeSize = 8 << 20

// GetRanges reads an object of a known size by n requests at a time, because a store sends only so
// fast to each. It keeps up to n+1 ranges of 8 MiB. The object is not compared with the store's
// checksum, which no range has; one that is replaced meanwhile is Corrupt.
func GetRanges(ctx context.Context, s Store, key string, size int64, n int) io.ReadCloser {
	ctx, cancel := context.WithCancelCause(ctx)
	r := &ranges{ctx: ctx, cancel: cancel, key: key, size: size, coming: make(chan chan fetched, n-1), free: make(chan []byte, n+1)}
	for range n + 1 {
		r.free <- nil
	}
	r.requests.Go(func() { r.ask(s) })
	return r
}

// fetched is a range that has come, or why it has not.
type fetched struct {
	data []byte
	etag string
	err  error
}

type ranges struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	key      string
	size     int64
	coming   chan chan fetched // in the order of their offsets
	free     chan []byte
	requests sync.WaitGroup

	read int64 // has been, in bytes
	now  fetched
	rest bytes.Reader // of now
}

// ask makes the requests, each when there is room for what it brings.
func (r *ranges) ask(s Store) {
	for from := int64(0); from < r.size; from += rangeSize {
		part := make(chan fetched, 1)
		select {
		case r.coming <- part:
		case <-r.ctx.Done():
			return
		}
		select {
		case buf := <-r.free:
			r.requests.Go(func() { part <- r.get(s, buf, Range{Offset: from, Length: min(rangeSize, r.size-from)}) })
		case <-r.ctx.Done():
			return
		}
	}
}

func (r *ranges) get(s Store, buf []byte, part Range) fetched {
	in, o, err := s.Get(r.ctx, r.key, part)
	if err != nil {
		return fetched{err: err}
	}
	defer in.Close()
	if o.Size != r.size {
		return fetched{err: Changed(r.key, fmt.Sprintf("it has %d bytes, not %d", o.Size, r.size))}
	}
	if buf == nil {
		buf = make([]byte, rangeSize)
	}
	_, err = io.ReadFull(in, buf[:part.Length])
	return fetched{buf[:part.Length], o.ETag, err}
}

// Read implements io.Reader.
func (r *ranges) Read(p []byte) (int, error) {
	for r.rest.Len() == 0 {
		switch {
		case r.now.err != nil:
			return 0, r.now.err
		case r.read == r.size:
			return 0, io.EOF
		}
		r.next()
	}
	n, err := r.rest.Read(p)
	r.read += int64(n)
	return n, err
}

// next waits for the next range.
func (r *ranges) next() {
	before := r.now
	if before.data != nil {
		r.free <- before.data[:cap(before.data)]
	}
	select {
	case part := <-r.coming:
		select {
		case r.now = <-part:
		case <-r.ctx.Done():
			r.now = fetched{err: context.Cause(r.ctx)}
		}
	case <-r.ctx.Done():
		r.now = fetched{err: context.Cause(r.ctx)}
	}
	if r.now.err == nil && before.data != nil && r.now.etag != before.etag {
		r.now.err = Changed(r.key, "it was replaced while it was read")
	}
	if r.now.err == nil {
		r.rest.Reset(r.now.data)
	}
}

// Close ends the requests.
func (r *ranges) Close() error {
	r.cancel(nil)
	r.requests.Wait()
	return nil
}
