// Package file is the driver for a directory, on a disk or a network file system.
//
// An object is a file; it appears whole under its name, by rename, or by a rename
// that refuses a name that is taken. What is in the making lies in a directory
// .holdfast-store beside the objects. It keeps no checksums: reading notices an
// error of the disk only when the file system does. Unlike a bucket it cannot keep
// both a and a/b. Only mains import it.
package file

import (
	"context"
	"crypto/rand"
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
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// making is the directory of what is not yet an object.
const making = ".holdfast-store"

// Store is a directory.
type Store struct {
	dir    string
	policy *objstore.Policy
}

var (
	_ objstore.Store       = (*Store)(nil)
	_ objstore.Levels      = (*Store)(nil)
	_ objstore.Copier      = (*Store)(nil)
	_ objstore.RangeCopier = (*Store)(nil)
)

// Open opens a directory, which must exist.
func Open(at objstore.Location, p *objstore.Policy) (*Store, error) {
	st, err := os.Stat(at.Bucket)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, objstore.NoBucket("open", at.Bucket)
	case err == nil && !st.IsDir():
		return nil, fault.New(fault.Config, "open", at.Bucket, "it is not a directory").WithHint("correct the URL")
	case err != nil:
		return nil, explain("open", at.Bucket, err)
	}
	return &Store{at.Bucket, p}, nil
}

func (s *Store) path(key string) string { return filepath.Join(s.dir, filepath.FromSlash(key)) }

// check refuses what is no key here.
func check(key string) error {
	if err := objstore.CheckKey(key); err != nil {
		return err
	}
	for element := range strings.SplitSeq(key, "/") {
		var why string
		switch {
		case len(element) > 255:
			why = "one of its elements is longer than the 255 bytes of a file's name"
		case element == making, strings.HasPrefix(element, atomicfile.TempPrefix):
			why = "it is where Holdfast keeps what is not complete"
		default:
			continue
		}
		return fault.New(fault.Usage, "use", key, "%s", why).WithHint("choose another name for the object")
	}
	return nil
}

// explain gives an error of the file system its meaning.
func explain(op, key string, err error) error {
	var ours *fault.Error
	var path *fs.PathError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ours):
		return err
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		return objstore.Absent(op, key)
	case errors.Is(err, fs.ErrExist):
		return objstore.Taken(key)
	case errors.Is(err, syscall.ESTALE), errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, syscall.EHOSTDOWN):
		return fault.New(fault.Connection, op, key, "%w", err).WithHint("see that the network file system answers")
	}
	if errors.As(err, &path) {
		err = path.Err
	}
	wrapped := fault.Wrap(fault.Internal, op, key, err)
	var f *fault.Error
	if errors.As(wrapped, &f) {
		switch f.Kind {
		case fault.Permission:
			return f.WithHint("let the user that runs holdfast read and write the directory of the store")
		case fault.Disk:
			return f.WithHint("make room, or see what the kernel says of the disk (dmesg)")
		}
	}
	return wrapped
}

// Put implements objstore.Store.
func (s *Store) Put(ctx context.Context, key string, r io.Reader, o objstore.PutOptions) (objstore.Object, error) {
	if err := check(key); err != nil {
		return objstore.Object{}, err
	}
	if o.IfAbsent {
		if _, err := os.Lstat(s.path(key)); err == nil {
			return objstore.Object{}, objstore.Taken(key) // before all of it is written
		}
	}
	s.policy.Counts.Requests.Add(1)
	return s.put(ctx, filepath.Join(s.dir, making), key, r, o)
}

// put makes an object in a directory.
func (s *Store) put(ctx context.Context, dir, key string, r io.Reader, o objstore.PutOptions) (objstore.Object, error) {
	var source error
	crc, err := s.publish(dir, key, o.IfAbsent, func(w io.Writer) (uint32, error) {
		in := &reading{Reader: r}
		crc, err := s.pour(ctx, w, in)
		source = in.failed
		if err == nil && o.CRC32C != nil && *o.CRC32C != crc {
			return 0, objstore.Mismatch("put", key)
		}
		return crc, err
	})
	switch {
	case source != nil:
		return objstore.Object{}, source
	case ctx.Err() != nil && err != nil:
		return objstore.Object{}, context.Cause(ctx)
	case err != nil:
		return objstore.Object{}, explain("put", key, err)
	}
	object, err := s.Stat(ctx, key)
	object.CRC32C = &crc
	return object, err
}

// reading remembers that it was the source that failed.
type reading struct {
	io.Reader
	failed error
}

// Read implements io.Reader.
func (r *reading) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err != nil && err != io.EOF {
		r.failed = err
	}
	return n, err
}

// pour copies within the limit.
func (s *Store) pour(ctx context.Context, w io.Writer, r io.Reader) (crc uint32, err error) {
	buf := make([]byte, 256<<10)
	for {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n, err := r.Read(buf)
		crc = crc32.Update(crc, objstore.Castagnoli, buf[:n])
		if _, werr := w.Write(buf[:n]); werr != nil {
			return 0, werr
		}
		s.policy.Counts.Sent.Add(int64(n))
		if werr := s.policy.Limit.Wait(ctx, n); werr != nil {
			return 0, werr
		}
		switch {
		case err == io.EOF:
			return crc, nil
		case err != nil:
			return 0, err
		}
	}
}

// publish makes a file complete or absent. It is written in dir; the directory of its name may be removed
// meanwhile by a deletion that empties it.
func (s *Store) publish(dir, key string, ifAbsent bool, write func(io.Writer) (uint32, error)) (crc uint32, err error) {
	temp, err := s.temporary(dir)
	if err != nil {
		return 0, err
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	if crc, err = write(temp); err != nil {
		return 0, err
	}
	if err := temp.Sync(); err != nil {
		return 0, err
	}
	return crc, s.name(temp.Name(), key, ifAbsent)
}

// name gives a complete file its name.
func (s *Store) name(temp, key string, ifAbsent bool) (err error) {
	path := s.path(key)
	err = s.in(filepath.Dir(path), func() error {
		if !ifAbsent {
			return os.Rename(temp, path)
		}
		err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
			err = os.Link(temp, path) // refuses a name that is taken, too
		}
		return err
	})
	if err != nil {
		return clash(key, err)
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// clash tells of a name that is a directory of other objects, or below an object.
func clash(key string, err error) error {
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTEMPTY) {
		return fault.New(fault.Conflict, "put", key, "the directory cannot keep an object both under a name and below it").
			WithHint("choose another name for the object")
	}
	return err
}

// mkdirs makes directories durable. What is there is left alone.
func (s *Store) mkdirs(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if dir == s.dir {
		return objstore.NoBucket("put", dir)
	}
	if err := s.mkdirs(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(dir))
}

// temporary is a new file in the directory of what is in the making, or in that of an upload.
func (s *Store) temporary(dir string) (f *os.File, err error) {
	create := func() (err error) {
		f, err = os.OpenFile(filepath.Join(dir, atomicfile.TempPrefix+rand.Text()), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		return err
	}
	if dir != filepath.Join(s.dir, making) {
		err = create() // one that is gone was aborted
	} else {
		err = s.in(dir, create)
	}
	return f, err
}

// in makes a directory and does something there, again when a deletion removes the
// directory meanwhile because it is empty.
func (s *Store) in(dir string, do func() error) (err error) {
	for range 10 {
		if err = s.mkdirs(dir); err == nil {
			err = do()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, r objstore.Range) (io.ReadCloser, objstore.Object, error) {
	if err := check(key); err != nil {
		return nil, objstore.Object{}, err
	}
	return objstore.Read(ctx, s.policy, s, key, r, func(ctx context.Context, from, to int64, _ string) (io.ReadCloser, objstore.Object, error) {
		s.policy.Counts.Requests.Add(1)
		f, err := os.OpenFile(s.path(key), os.O_RDONLY|unix.O_NONBLOCK, 0) // or a pipe would make us wait
		if err != nil {
			return nil, objstore.Object{}, explain("read", key, err)
		}
		st, err := f.Stat()
		if err == nil && !st.Mode().IsRegular() {
			err = fs.ErrNotExist
		}
		if err == nil && from > 0 && from >= st.Size() {
			f.Close()
			return nil, objstore.Object{}, objstore.ErrRange
		}
		if err != nil {
			f.Close()
			return nil, objstore.Object{}, explain("read", key, err)
		}
		if to < 0 {
			to = st.Size()
		}
		return &body{f, io.NewSectionReader(f, from, to-from), s.policy, ctx}, object(key, st), nil
	})
}

// body is an open object within the limit.
type body struct {
	*os.File
	section *io.SectionReader
	policy  *objstore.Policy
	ctx     context.Context
}

// Read implements io.Reader.
func (b *body) Read(buf []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	n, err := b.section.Read(buf)
	b.policy.Counts.Received.Add(int64(n))
	if werr := b.policy.Limit.Wait(b.ctx, n); werr != nil {
		return n, werr
	}
	return n, err
}

func object(key string, st fs.FileInfo) objstore.Object {
	return objstore.Object{Key: key, Size: st.Size(), Modified: st.ModTime(), ETag: fmt.Sprintf("%x-%x", st.ModTime().UnixNano(), st.Size())}
}

// Stat implements objstore.Store.
func (s *Store) Stat(_ context.Context, key string) (objstore.Object, error) {
	if err := check(key); err != nil {
		return objstore.Object{}, err
	}
	s.policy.Counts.Requests.Add(1)
	st, err := os.Lstat(s.path(key))
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return objstore.Object{}, explain("stat", key, err)
	}
	return object(key, st), nil
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		s.policy.Counts.Requests.Add(1)
		if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
			yield(objstore.Object{}, objstore.NoBucket("list", s.dir))
			return
		}
		s.walk(ctx, "", prefix, false, yield)
	}
}

// ListLevel implements objstore.Levels.
func (s *Store) ListLevel(ctx context.Context, prefix string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		s.policy.Counts.Requests.Add(1)
		if _, err := os.Stat(s.dir); errors.Is(err, fs.ErrNotExist) {
			yield(objstore.Object{}, objstore.NoBucket("list", s.dir))
			return
		}
		s.walk(ctx, prefix, prefix, true, yield)
	}
}

// walk yields what lies below a directory, whose name ends with a slash, in the order of the keys; of one
// level only the names of the directories.
func (s *Store) walk(ctx context.Context, dir, prefix string, level bool, yield func(objstore.Object, error) bool) bool {
	if ctx.Err() != nil {
		yield(objstore.Object{}, context.Cause(ctx))
		return false
	}
	entries, err := os.ReadDir(s.path(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		yield(objstore.Object{}, explain("list", s.path(dir), err))
		return false
	}
	name := func(e fs.DirEntry) string {
		if e.IsDir() {
			return dir + e.Name() + "/"
		}
		return dir + e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(name(a), name(b)) })
	for _, e := range entries {
		key := name(e)
		switch {
		case e.Name() == making:
		case e.IsDir() && level:
			if !yield(objstore.Object{Key: key}, nil) {
				return false
			}
		case e.IsDir():
			if strings.HasPrefix(key, prefix) || strings.HasPrefix(prefix, key) {
				if !s.walk(ctx, key, prefix, false, yield) {
					return false
				}
			}
		case e.Type().IsRegular() && strings.HasPrefix(key, prefix):
			st, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // deleted meanwhile
			}
			if err != nil {
				yield(objstore.Object{}, explain("list", key, err))
				return false
			}
			if !yield(object(key, st), nil) {
				return false
			}
		}
	}
	return true
}

// Delete implements objstore.Store. Directories that it empties go, too.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	dirs := map[string]bool{}
	for _, key := range keys {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := check(key); err != nil {
			return err
		}
		s.policy.Counts.Requests.Add(1)
		path := s.path(key)
		if st, err := os.Lstat(path); err != nil || st.IsDir() {
			if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
				continue
			}
			return explain("delete", key, err)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return explain("delete", key, err)
		}
		dirs[filepath.Dir(path)] = true
	}
	for dir := range dirs {
		for dir != s.dir && os.Remove(dir) == nil {
			dir = filepath.Dir(dir)
		}
		if err := atomicfile.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return explain("delete", dir, err)
		}
	}
	os.Remove(filepath.Join(s.dir, making)) // when nothing is in the making
	return nil
}
