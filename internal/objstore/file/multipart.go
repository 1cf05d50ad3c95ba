package file

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// keyName holds the key of an upload, in its directory beside its parts.
const keyName = "key"

const uploadPrefix = "upload-"

func (s *Store) upload(id string) string { return filepath.Join(s.dir, making, uploadPrefix+id) }

// Begin implements objstore.Multipart. The upload appears with its key, so that whatever is killed can be listed.
func (s *Store) Begin(_ context.Context, key string) (objstore.Upload, error) {
	u := objstore.Upload{Key: key, ID: rand.Text()}
	if err := check(key); err != nil {
		return u, err
	}
	s.policy.Counts.Requests.Add(1)
	dir := filepath.Join(s.dir, making)
	temp := filepath.Join(dir, atomicfile.TempPrefix+u.ID)
	err := s.in(dir, func() error {
		if err := os.Mkdir(temp, 0o777); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(temp, keyName), []byte(key), 0o666); err != nil {
			return err
		}
		return os.Rename(temp, s.upload(u.ID))
	})
	if err != nil {
		os.RemoveAll(temp)
	}
	return u, explain("put", key, err)
}

// BeginCopy implements objstore.RangeCopier.
func (s *Store) BeginCopy(ctx context.Context, key string) (objstore.Upload, error) {
	u, err := s.Begin(ctx, key)
	u.Copies = true
	return u, err
}

// part begins a part; number and id are checked, because they become a name.
func (s *Store) part(u objstore.Upload, number int) (*atomicfile.File, error) {
	if number < 1 || number > objstore.MaxParts || !isID(u.ID) {
		return nil, fault.New(fault.Usage, "put", u.Key, "there is no part %d of an upload %q", number, u.ID)
	}
	return atomicfile.Create(filepath.Join(s.upload(u.ID), partName(number)), 0o600)
}

func isID(id string) bool {
	return id != "" && !strings.ContainsFunc(id, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < '2' || r > '7') })
}

func partName(number int) string { return fmt.Sprintf("part-%05d", number) }

// PutPart implements objstore.Multipart.
func (s *Store) PutPart(ctx context.Context, u objstore.Upload, number int, data []byte) (objstore.Part, error) {
	s.policy.Counts.Requests.Add(1)
	if err := s.policy.Limit.Wait(ctx, len(data)); err != nil {
		return objstore.Part{}, err
	}
	f, err := s.part(u, number)
	if err != nil {
		return objstore.Part{}, explain("put", u.Key, err)
	}
	defer f.Abort()
	if _, err = f.Write(data); err == nil {
		err = f.Commit()
	}
	s.policy.Counts.Sent.Add(int64(len(data)))
	return confirmed(number, int64(len(data)), crc32.Checksum(data, objstore.Castagnoli)), explain("put", u.Key, err)
}

func confirmed(number int, size int64, crc uint32) objstore.Part {
	return objstore.Part{Number: number, Size: size, CRC32C: &crc, ETag: hex.EncodeToString([]byte{byte(crc >> 24), byte(crc >> 16), byte(crc >> 8), byte(crc)})}
}

// CopyPart implements objstore.RangeCopier.
func (s *Store) CopyPart(ctx context.Context, u objstore.Upload, number int, from string, r objstore.Range) (objstore.Part, error) {
	if r.Length <= 0 || r.Offset < 0 {
		return objstore.Part{}, fault.New(fault.Usage, "copy", from, "a range of %d bytes at %d cannot be copied", r.Length, r.Offset)
	}
	in, _, err := s.Get(ctx, from, r)
	if err != nil {
		return objstore.Part{}, err
	}
	defer in.Close()
	f, err := s.part(u, number)
	if err != nil {
		return objstore.Part{}, explain("copy", from, err)
	}
	defer f.Abort()
	sum := crc32.New(objstore.Castagnoli)
	n, err := io.Copy(io.MultiWriter(f, sum), in)
	if err == nil && n != r.Length {
		return objstore.Part{}, fault.New(fault.Usage, "copy", from, "it ends before byte %d", r.Offset+r.Length).WithHint("give a range inside the object")
	}
	if err == nil {
		err = f.Commit()
	}
	return confirmed(number, n, sum.Sum32()), explain("copy", from, err)
}

// Complete implements objstore.Multipart.
func (s *Store) Complete(ctx context.Context, u objstore.Upload, parts []objstore.Part, o objstore.PutOptions) (objstore.Object, error) {
	if !isID(u.ID) {
		return objstore.Object{}, objstore.Absent("put", u.Key)
	}
	if _, err := os.Stat(s.upload(u.ID)); err != nil {
		return objstore.Object{}, explain("put", u.Key, err)
	}
	parts = slices.SortedFunc(slices.Values(parts), func(a, b objstore.Part) int { return a.Number - b.Number })
	crc, err := s.publish(s.upload(u.ID), u.Key, o.IfAbsent, func(w io.Writer) (uint32, error) {
		sum := crc32.New(objstore.Castagnoli)
		for _, p := range parts {
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			if err := s.append(w, sum, u, p); err != nil {
				return 0, err
			}
		}
		if o.CRC32C != nil && *o.CRC32C != sum.Sum32() {
			return 0, objstore.Mismatch("put", u.Key)
		}
		return sum.Sum32(), nil
	})
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return objstore.Object{}, explain("put", u.Key, err)
	}
	if err := s.Abort(ctx, u); err != nil {
		return objstore.Object{}, err
	}
	object, err := s.Stat(ctx, u.Key)
	object.CRC32C = &crc
	return object, err
}

// append adds a part to an object.
func (s *Store) append(w io.Writer, whole io.Writer, u objstore.Upload, p objstore.Part) error {
	f, err := os.Open(filepath.Join(s.upload(u.ID), partName(p.Number)))
	if err != nil {
		return err
	}
	defer f.Close()
	own := crc32.New(objstore.Castagnoli)
	n, err := io.Copy(io.MultiWriter(w, whole, own), f)
	if err == nil && (n != p.Size || p.CRC32C != nil && *p.CRC32C != own.Sum32()) {
		return objstore.Mismatch("put", u.Key)
	}
	return err
}

// Abort implements objstore.Multipart. The key goes last: one that is killed can be aborted again.
func (s *Store) Abort(_ context.Context, u objstore.Upload) error {
	if !isID(u.ID) {
		return nil
	}
	dir := s.upload(u.ID)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain("abort", u.Key, err)
	}
	for _, e := range entries {
		if e.Name() == keyName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return explain("abort", u.Key, err)
		}
	}
	return explain("abort", u.Key, os.RemoveAll(dir))
}

// forgotten is the age from which on nobody writes what has no key.
const forgotten = 24 * time.Hour

// sweep removes what was killed before it had a key, or, of an upload, after it.
func sweep(path string, e fs.DirEntry) {
	if strings.HasPrefix(e.Name(), uploadPrefix) {
		_ = os.Remove(path) // unless there is something in it
	}
	if st, err := e.Info(); err == nil && time.Since(st.ModTime()) > forgotten {
		_ = os.RemoveAll(path)
	}
}

// Uploads implements objstore.Multipart.
func (s *Store) Uploads(_ context.Context, prefix string) iter.Seq2[objstore.Upload, error] {
	return func(yield func(objstore.Upload, error) bool) {
		s.policy.Counts.Requests.Add(1)
		entries, err := os.ReadDir(filepath.Join(s.dir, making))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			yield(objstore.Upload{}, explain("list", s.dir, err))
			return
		}
		for _, e := range entries {
			dir := filepath.Join(s.dir, making, e.Name())
			id, is := strings.CutPrefix(e.Name(), uploadPrefix)
			if !is {
				if strings.HasPrefix(e.Name(), atomicfile.TempPrefix) {
					sweep(dir, e)
				}
				continue
			}
			path := filepath.Join(dir, keyName)
			key, err := os.ReadFile(path)
			st, serr := os.Stat(path)
			if err = errors.Join(err, serr); errors.Is(err, fs.ErrNotExist) || err == nil && len(key) == 0 {
				sweep(dir, e) // it was completed or aborted, or the host crashed
				continue
			}
			if err != nil {
				yield(objstore.Upload{}, explain("list", path, err))
				return
			}
			if strings.HasPrefix(string(key), prefix) && !yield(objstore.Upload{Key: string(key), ID: id, Begun: st.ModTime()}, nil) {
				return
			}
		}
	}
}

// Copy implements objstore.Copier. It is an upload of one piece: a killed one is found by its key.
func (s *Store) Copy(ctx context.Context, from, to string) (objstore.Object, error) {
	in, _, err := s.Get(ctx, from, objstore.Whole())
	if err != nil {
		return objstore.Object{}, err
	}
	defer in.Close()
	u, err := s.Begin(ctx, to)
	if err != nil {
		return objstore.Object{}, err
	}
	object, err := s.put(ctx, s.upload(u.ID), to, in, objstore.PutOptions{})
	return object, errors.Join(err, s.Abort(ctx, u))
}
