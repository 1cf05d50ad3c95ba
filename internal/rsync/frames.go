package rsync

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"io"
	"slices"
)

// A frame is a piece of a file of ours: length, checksum, kind, content.
const frameHead = 9

const maxFrame = 64 << 10

func appendFrame(b []byte, kind byte, fill func([]byte) []byte) []byte {
	at := len(b)
	b = fill(append(b, 0, 0, 0, 0, 0, 0, 0, 0, kind))
	body := b[at+frameHead-1:]
	binary.LittleEndian.PutUint32(b[at:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[at+4:], crc32.ChecksumIEEE(body))
	return b
}

var errTorn = errors.New("an incomplete record")

// readFrames calls each with the frames up to the first torn one, and returns
// where that begins.
func readFrames(r io.Reader, each func(at int64, kind byte, content []byte) error) (int64, error) {
	in := bufio.NewReaderSize(r, 1<<20)
	var at int64
	var body []byte
	for {
		var head [frameHead - 1]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return at, torn(err)
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n == 0 || n > maxFrame {
			return at, nil
		}
		body = slices.Grow(body[:0], int(n))[:n]
		if _, err := io.ReadFull(in, body); err != nil {
			return at, torn(err)
		}
		if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(head[4:]) {
			return at, nil
		}
		if err := each(at, body[0], body[1:]); err != nil {
			return at, err
		}
		at += int64(len(head)) + int64(n)
	}
}

func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// frameAt reads one frame. Its content is valid until buf is used again.
func frameAt(r io.ReaderAt, at int64, buf *[]byte) (kind byte, content []byte, err error) {
	const usual = 512
	b := slices.Grow((*buf)[:0], usual)[:usual]
	n, err := r.ReadAt(b, at)
	if n < frameHead {
		return 0, nil, fmt.Errorf("read a record at %d: %w", at, errors.Join(errTorn, err))
	}
	size := int(binary.LittleEndian.Uint32(b)) + frameHead - 1
	if size < frameHead || size > maxFrame+frameHead {
		return 0, nil, fmt.Errorf("read a record at %d: %w", at, errTorn)
	}
	if size > n {
		b = slices.Grow(b[:0], size)[:size]
		if _, err := r.ReadAt(b, at); err != nil {
			return 0, nil, fmt.Errorf("read a record at %d: %w", at, err)
		}
	}
	*buf = b
	body := b[frameHead-1 : size]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(b[4:]) {
		return 0, nil, fmt.Errorf("read a record at %d: %w", at, errTorn)
	}
	return body[0], body[1:], nil
}

// index finds records of a file by their path, with 16 bytes for each.
type index struct {
	seed maphash.Seed
	refs []ref
}

type ref struct {
	hash uint64
	at   int64
}

func newIndex() *index { return &index{seed: maphash.MakeSeed()} }

func (x *index) add(path string, at int64) {
	x.refs = append(x.refs, ref{maphash.String(x.seed, path), at})
}

// seal ends adding.
func (x *index) seal() {
	slices.SortFunc(x.refs, func(a, b ref) int {
		switch {
		case a.hash != b.hash:
			if a.hash < b.hash {
				return -1
			}
			return 1
		case a.at > b.at:
			return -1
		case a.at < b.at:
			return 1
		}
		return 0
	})
}

// candidates are where a path may be recorded, the newest first.
func (x *index) candidates(path string) []ref {
	h := maphash.String(x.seed, path)
	from, ok := slices.BinarySearchFunc(x.refs, h, func(r ref, h uint64) int {
		switch {
		case r.hash < h:
			return -1
		case r.hash > h:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	to := from
	for to < len(x.refs) && x.refs[to].hash == h {
		to++
	}
	return x.refs[from:to]
}

// find returns the newest record of a path.
func (x *index) find(r io.ReaderAt, path string, buf *[]byte) (rec record, at int64, ok bool, err error) {
	for _, c := range x.candidates(path) {
		_, content, err := frameAt(r, c.at, buf)
		if err != nil {
			return rec, 0, false, err
		}
		if rec, err = decodeRecord(content); err != nil {
			return rec, 0, false, err
		}
		if rec.Path == path {
			return rec, c.at, true, nil
		}
	}
	return rec, 0, false, nil
}
