package catalog

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Survey is what the directories of a catalogue held when it was made. What it tells
// it reads then: what was deleted meanwhile is not there, what was added is overlooked.
type Survey struct {
	c          *Catalog
	meta, base []string
}

// RecordsSnapshots reports whether a record of ours names the snapshots that a backup
// consists of. Barman keeps none.
func (s *Survey) RecordsSnapshots(id backup.ID) (bool, error) {
	extra, err := s.c.Extra(id)
	return err == nil && extra.Snapshots != nil, err
}

// Survey lists the catalogue's directories. Who asks more than one question of a large
// catalogue asks one survey.
func (c *Catalog) Survey() (*Survey, error) {
	s := &Survey{c: c}
	var g errgroup.Group
	g.Go(func() (err error) {
		s.meta, err = namesIn(c.MetaDir)
		return err
	})
	g.Go(func() (err error) {
		s.base, err = namesIn(c.BaseDir)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return s, nil
}

// List is Survey.List of now.
func (c *Catalog) List() ([]*backupinfo.Info, []string, error) {
	s, err := c.Survey()
	if err != nil {
		return nil, nil, err
	}
	backups, warnings := s.List()
	return backups, warnings, nil
}

// All is Survey.All of now.
func (c *Catalog) All() ([]*backupinfo.Info, error) {
	s, err := c.Survey()
	if err != nil {
		return nil, err
	}
	return s.All()
}

// List returns all backups, oldest first. An entry that cannot be read becomes
// a warning and hides no other.
func (s *Survey) List() ([]*backupinfo.Info, []string) {
	ids := s.ids()
	out := make([]*backupinfo.Info, 0, len(ids))
	var warnings []string
	for _, r := range s.c.readAll(ids) {
		warnings = append(warnings, r.warnings...)
		switch {
		case errors.Is(r.err, fs.ErrNotExist): // it was deleted meanwhile
		case r.err != nil:
			warnings = append(warnings, r.err.Error())
		default:
			out = append(out, r.info)
		}
	}
	return out, warnings
}

// All returns all backups, oldest first, and fails when one cannot be read:
// for decisions that must not overlook any. Unknown keys do not matter to it.
func (s *Survey) All() ([]*backupinfo.Info, error) {
	ids := s.ids()
	out := make([]*backupinfo.Info, 0, len(ids))
	for _, r := range s.c.readAll(ids) {
		if errors.Is(r.err, fs.ErrNotExist) {
			continue // it was deleted meanwhile
		}
		if r.err != nil {
			return nil, &fault.Error{Op: "read", Subject: "the catalogue of " + s.c.Server, Kind: fault.Corrupt, Err: r.err,
				Hint: "mend or remove that entry; nothing is deleted before"}
		}
		out = append(out, r.info)
	}
	return out, nil
}

// ids lists what has a backup.info, in either place.
func (s *Survey) ids() []backup.ID {
	var out []backup.ID
	for _, name := range s.meta {
		name, ok := strings.CutSuffix(name, infoSuffix)
		if id, err := backup.ParseID(name); ok && err == nil {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	recorded := len(out)
	for _, name := range s.base {
		if _, found := slices.BinarySearch(out[:recorded], backup.ID(name)); found {
			continue
		}
		if id, err := backup.ParseID(name); err == nil && exists(s.c.legacyPath(id)) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// exists is asked for thousands of files, most of which are not there.
func exists(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil
}

// namesIn lists a directory; one that does not exist is empty.
func namesIn(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "list backups in", dir, err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	return names, fault.Wrap(fault.Internal, "list backups in", dir, err)
}

// record is a backup's record, or why it cannot be read.
type record struct {
	info     *backupinfo.Info
	warnings []string
	err      error
}

// readAll reads records in the order of ids.
func (c *Catalog) readAll(ids []backup.ID) []record {
	out := make([]record, len(ids))
	meta := opened(c.MetaDir)
	defer meta.close()
	atOnce(len(ids), func(i int) {
		r := &out[i]
		r.info, r.warnings, r.err = c.readIn(meta, ids[i])
	})
	return out
}

// readers is how many files are read at the same time: a disk or a network
// that is slow to answer is asked for several.
const readers = 8

// atOnce calls do with 0 to n-1, several at the same time.
func atOnce(n int, do func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, readers) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
}

func (c *Catalog) read(id backup.ID) (*backupinfo.Info, []string, error) {
	meta := opened(c.MetaDir)
	defer meta.close()
	return c.readIn(meta, id)
}

func (c *Catalog) readIn(meta directory, id backup.ID) (*backupinfo.Info, []string, error) {
	path := c.InfoPath(id)
	data, err := meta.content(string(id) + infoSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		path = c.legacyPath(id)
		data, err = directory{unix.AT_FDCWD, ""}.content(path)
	}
	if err != nil {
		return nil, nil, fault.Wrap(fault.Internal, "read", c.InfoPath(id), err)
	}
	info, warnings, err := backupinfo.Parse(id, data)
	if err != nil {
		return nil, warnings, fault.Wrap(fault.Corrupt, "read", path, err)
	}
	if info.ServerName == "" {
		info.ServerName = c.Server
	}
	return info, warnings, nil
}

// Records are a few thousand bytes long; what is larger than the bound is none.
const (
	usualRecord = 4 << 10
	mostRecord  = 64 << 20
)

// buffers are read into, and kept for the next record.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, usualRecord); return &b }}

// directory is one in which thousands of names are looked up, without its own path each time.
type directory struct {
	fd   int
	path string
}

// opened is a directory until it is closed. In one that cannot be opened names are looked up by their whole path,
// whose errors say why.
func opened(path string) directory {
	fd, err := retried(func() (int, error) { return unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		fd = -1
	}
	return directory{fd, path}
}

func (d directory) close() { _ = unix.Close(d.fd) }

// at is where a system call finds a name.
func (d directory) at(name string) (int, string) {
	if d.fd < 0 && d.path != "" {
		return unix.AT_FDCWD, filepath.Join(d.path, name)
	}
	return d.fd, name
}

// has is asked for thousands of files, most of which are not there.
func (d directory) has(name string) bool {
	var st unix.Stat_t
	fd, name := d.at(name)
	return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// content is os.ReadFile without the six system calls that make a file fit
// for polling, which are most of the cost of thousands of small ones.
func (d directory) content(name string) (string, error) {
	at, path := d.at(name)
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	fd, err := retried(func() (int, error) { return unix.Openat(at, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0) })
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	buf := (*pooled)[:0]
	for {
		n, err := retried(func() (int, error) { return unix.Read(fd, buf[len(buf):cap(buf)]) })
		switch {
		case err != nil:
		case len(buf)+n > mostRecord:
			err = unix.EFBIG
		case len(buf)+n == 0:
			err = regular(fd)
		}
		if err != nil {
			return "", &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return string(buf), nil
		}
		if buf = buf[:len(buf)+n]; len(buf) == cap(buf) {
			buf = slices.Grow(buf, len(buf))
		}
	}
}

// regular refuses what only looks like an empty file, as a pipe does to which nobody writes.
func regular(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("it is no regular file")
	}
	return nil
}

func retried(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
