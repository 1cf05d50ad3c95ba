package objstore

import (
	"bytes"
	"context"
	"errors"
	"hash"
	"hash/crc32"
	"io"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Castagnoli is the polynomial of CRC32C.
var Castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Opener is one request of a driver for the bytes of an object from an offset up to,
// and without, another one; to < 0 is the end. With an ETag it fails with Conflict
// when the object is another one. A range that begins behind the end is ErrRange.
type Opener func(ctx context.Context, from, to int64, etag string) (io.ReadCloser, Object, error)

// Read is the Get of every driver whose readers may break.
func Read(ctx context.Context, p *Policy, s Store, key string, r Range, open Opener) (io.ReadCloser, Object, error) {
	if err := CheckKey(key); err != nil {
		return nil, Object{}, err
	}
	if r.Offset < 0 {
		return nil, Object{}, fault.New(fault.Usage, "read", key, "the offset %d is negative", r.Offset)
	}
	empty := func() (io.ReadCloser, Object, error) {
		o, err := s.Stat(ctx, key)
		if err != nil {
			return nil, Object{}, err
		}
		return io.NopCloser(eof{}), o, nil
	}
	if r.Length == 0 {
		return empty()
	}
	b := &reader{ctx: ctx, p: p, key: key, open: open, at: r.Offset, end: -1}
	if r.Length > 0 {
		b.end = r.Offset + r.Length
	}
	err := p.Do(ctx, func(ctx context.Context, _ bool) (err error) {
		b.body, b.object, err = open(ctx, b.at, b.end, "")
		return err
	})
	switch {
	case errors.Is(err, ErrRange):
		return empty()
	case err != nil:
		return nil, Object{}, err
	}
	b.object.Key = key
	if b.end < 0 || b.end > b.object.Size {
		b.end = b.object.Size
	}
	b.whole = r.Offset == 0 && b.end == b.object.Size
	if b.whole && b.object.CRC32C == nil && b.object.Other != nil {
		b.other = b.object.Other.New()
	}
	return b, b.object, nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// reader goes on after an interruption.
type reader struct {
	ctx     context.Context
	p       *Policy
	key     string
	open    Opener
	object  Object
	body    io.ReadCloser
	at, end int64
	whole   bool
	crc     uint32
	other   hash.Hash // instead of crc
}

// verify compares the checksums of what was read, which is all of the object.
func (b *reader) verify() error {
	switch {
	case b.other != nil:
		if !bytes.Equal(b.other.Sum(nil), b.object.Other.Value) {
			return Mismatch("read", b.key)
		}
	case b.object.CRC32C != nil && *b.object.CRC32C != b.crc:
		return Mismatch("read", b.key)
	}
	return nil
}

// Read implements io.Reader.
func (b *reader) Read(buf []byte) (int, error) {
	if b.at >= b.end {
		if b.whole {
			if err := b.verify(); err != nil {
				return 0, err
			}
		}
		return 0, io.EOF
	}
	if len(buf) == 0 {
		return 0, nil
	}
	buf = buf[:min(int64(len(buf)), b.end-b.at)]
	n, err := b.body.Read(buf)
	if n == 0 && err != nil {
		n, err = b.resume(buf)
	} else {
		err = nil // it comes back when there is nothing left
	}
	b.at += int64(n)
	switch {
	case b.other != nil:
		b.other.Write(buf[:n])
	case b.whole:
		b.crc = crc32.Update(b.crc, Castagnoli, buf[:n])
	}
	return n, err
}

// resume asks for the rest, until some of it has come.
func (b *reader) resume(buf []byte) (n int, err error) {
	b.body.Close()
	err = b.p.Do(b.ctx, func(ctx context.Context, _ bool) error {
		body, _, err := b.open(ctx, b.at, b.end, b.object.ETag)
		if err != nil {
			return err
		}
		b.body = body
		for n == 0 && err == nil {
			n, err = body.Read(buf)
		}
		if n > 0 {
			return nil
		}
		body.Close()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Network("read", b.key, "", err)
	})
	return n, err
}

// Close implements io.Closer.
func (b *reader) Close() error { return b.body.Close() }

// Checked is an object that is read to its end, where its checksum is compared with crc.
func Checked(r io.ReadCloser, key string, crc uint32) io.ReadCloser {
	return &checked{ReadCloser: r, key: key, want: crc}
}

type checked struct {
	io.ReadCloser
	key       string
	want, got uint32
}

// Read implements io.Reader.
func (c *checked) Read(buf []byte) (int, error) {
	n, err := c.ReadCloser.Read(buf)
	c.got = crc32.Update(c.got, Castagnoli, buf[:n])
	if errors.Is(err, io.EOF) && c.got != c.want {
		err = Changed(c.key, "its content has another checksum")
	}
	return n, err
}
