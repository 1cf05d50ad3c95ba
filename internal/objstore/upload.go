package objstore

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/largepages"
)

// abortTime bounds the giving up of an upload, also of one that was cancelled.
const abortTime = 30 * time.Second

// Parts is what a driver does with a stream that was cut.
type Parts interface {
	Multipart
	// PutBytes stores a whole object in one request.
	PutBytes(ctx context.Context, key string, data []byte, o PutOptions) (Object, error)
}

// PutStream is the Put of every driver with parts. What fits into one part is one
// request. It holds one part in memory.
func PutStream(ctx context.Context, p *Policy, s Parts, key string, r io.Reader, o PutOptions) (Object, error) {
	if err := CheckKey(key); err != nil {
		return Object{}, err
	}
	part := p.partSize(1)
	first, last, err := fill(largepages.Buffer(int(min(max(o.Size, 64<<10), part))), r, part)
	if err != nil {
		return Object{}, err
	}
	if last {
		if o.CRC32C != nil && *o.CRC32C != crc32.Checksum(first, Castagnoli) {
			return Object{}, Mismatch("put", key)
		}
		return s.PutBytes(ctx, key, first, o)
	}
	u, err := s.Begin(ctx, key)
	if err != nil {
		return Object{}, err
	}
	object, err := putParts(ctx, p, s, u, first, r, o)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
		defer cancel()
		_ = s.Abort(ctx, u) // the first error says more
	}
	return object, err
}

func putParts(ctx context.Context, p *Policy, s Parts, u Upload, data []byte, r io.Reader, o PutOptions) (Object, error) {
	var parts []Part
	var crc uint32
	for last := false; ; {
		if len(parts) == MaxParts {
			return Object{}, fault.New(fault.Config, "put", u.Key, "it is larger than %d parts", MaxParts).
				WithHint("set a larger cloud_upload_min_chunk_size, or a smaller cloud_upload_max_archive_size")
		}
		part, err := s.PutPart(ctx, u, len(parts)+1, data)
		if err != nil {
			return Object{}, err
		}
		parts, crc = append(parts, part), crc32.Update(crc, Castagnoli, data)
		if last {
			break
		}
		if data, last, err = fill(data[:0], r, p.partSize(len(parts)+1)); err != nil {
			return Object{}, err
		}
		if len(data) == 0 {
			break
		}
	}
	if o.CRC32C != nil && *o.CRC32C != crc {
		return Object{}, Mismatch("put", u.Key)
	}
	o.CRC32C = &crc
	return s.Complete(ctx, u, parts, o)
}

// fill reads up to size bytes into buf, which grows as they come; last says that r has ended.
func fill(buf []byte, r io.Reader, size int64) (data []byte, last bool, err error) {
	var probe [512]byte // a stream that ends where the buffer is full needs no larger one
	for int64(len(buf)) < size {
		if len(buf) == cap(buf) {
			n, err := r.Read(probe[:min(int64(len(probe)), size-int64(len(buf)))])
			if n > 0 {
				buf = append(largepages.Buffer(int(min(size, 4*int64(cap(buf))))), buf...)
				buf = append(buf, probe[:n]...)
			}
			if errors.Is(err, io.EOF) {
				return buf, true, nil
			}
			if err != nil {
				return nil, false, err
			}
			continue
		}
		n, err := r.Read(buf[len(buf):min(int64(cap(buf)), size)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, true, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
	return buf, false, nil
}

// Size is the sum of the parts.
func Size(parts []Part) (n int64) {
	for _, p := range parts {
		n += p.Size
	}
	return n
}

// Same reports whether an object that is there is the one that was sent: after a
// lost answer it is not somebody else's. Without checksums it is not known to be.
func Same(o Object, size int64, crc *uint32) bool {
	return o.Size == size && crc != nil && o.CRC32C != nil && *o.CRC32C == *crc
}

// CopyParts copies an object range by range; piece is the length of each but the last.
func CopyParts(ctx context.Context, s RangeCopier, from Object, to string, piece int64) (Object, error) {
	u, err := s.BeginCopy(ctx, to)
	if err != nil {
		return Object{}, err
	}
	var parts []Part
	for at := int64(0); at < from.Size && err == nil; at += piece {
		var part Part
		part, err = s.CopyPart(ctx, u, len(parts)+1, from.Key, Range{at, min(piece, from.Size-at)})
		parts = append(parts, part)
	}
	var o Object
	if err == nil {
		o, err = s.Complete(ctx, u, parts, PutOptions{})
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTime)
		defer cancel()
		_ = s.Abort(ctx, u) // the first error says more
	}
	return o, err
}
