// Package basetar reads the tar archives that pg_basebackup writes: base.tar of
// the data directory and OID.tar of each tablespace, compressed or not, and
// encrypted or not; and those of a backup in an object store, which hold the same.
//
// It finds the files, and streams them and whatever else opens itself; what becomes
// of the members is the business of whoever reads. Package bucket finds the objects.
package basetar

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/gpg"
	"github.com/holdfast-pg/holdfast/internal/lazyregexp"
)

// suffixes are those of pg_basebackup(1).
var suffixes = map[string]codec.Algorithm{"": codec.None, ".gz": codec.Gzip, ".lz4": codec.LZ4, ".zst": codec.Zstd}

var archiveName = lazyregexp.New(`^(base|[1-9][0-9]{0,9})\.tar(|\.gz|\.lz4|\.zst)(|\.gpg)$`)

// Archive is one tar file, or one object.
type Archive struct {
	Path      string // of an object its name
	OID       uint32 // of the tablespace; 0 for the data directory
	Size      int64  // of an object, as it is stored
	Encrypted bool
	algorithm codec.Algorithm
	keys      *gpg.Keys
	copy      io.Writer
	open      Opener // of an object
}

// Opener begins to read an archive.
type Opener func(ctx context.Context) (io.ReadCloser, error)

// Stored is an archive that is no file here. It has to end with the mark that ends an
// archive, since nothing else tells that it is whole.
func Stored(name string, oid uint32, size int64, algorithm codec.Algorithm, open Opener) Archive {
	return Archive{Path: name, OID: oid, Size: size, algorithm: algorithm, open: open}
}

// Compression is the format that the name of the archive promises.
func (a Archive) Compression() codec.Algorithm { return a.algorithm }

// Set is a backup that is kept as tar files.
type Set struct {
	Base        Archive
	Tablespaces map[uint32]Archive
	Others      []string // names of files that belong to no archive
}

// Compression is what backup.info calls it.
func (s *Set) Compression() string {
	if s.Base.algorithm == codec.None {
		return "none"
	}
	return string(s.Base.algorithm)
}

// Encryption is what backup.info calls it.
func (s *Set) Encryption() string {
	if s.Base.Encrypted {
		return gpg.Name
	}
	return ""
}

// All are the archives of the tablespaces in no order, then the data directory's.
func (s *Set) All() []Archive {
	var out []Archive
	for _, a := range s.Tablespaces {
		out = append(out, a)
	}
	return append(out, s.Base)
}

// Find looks for archives in the place of a backup's data directory. It returns
// nil when the backup is kept as plain files. Encrypted ones are read with keys.
func Find(dir string, keys *gpg.Keys) (*Set, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "read directory", dir, err)
	}
	s := &Set{Tablespaces: map[uint32]Archive{}}
	for _, e := range entries {
		if e.Name() == "PG_VERSION" {
			return nil, nil
		}
		m := archiveName.FindStringSubmatch(e.Name())
		if m == nil || !e.Type().IsRegular() {
			s.Others = append(s.Others, e.Name())
			continue
		}
		a := Archive{Path: filepath.Join(dir, e.Name()), Encrypted: m[3] != "", algorithm: suffixes[m[2]], keys: keys}
		taken := s.Base
		if m[1] == "base" {
			s.Base = a
		} else {
			oid, err := strconv.ParseUint(m[1], 10, 32)
			if err != nil {
				s.Others = append(s.Others, e.Name())
				continue
			}
			a.OID = uint32(oid)
			taken = s.Tablespaces[a.OID]
			s.Tablespaces[a.OID] = a
		}
		if taken.Path != "" {
			return nil, fault.New(fault.Corrupt, "read", a.Path, "%s holds the same", filepath.Base(taken.Path)).
				WithHint("remove the one that does not belong to the backup")
		}
	}
	if s.Base.Path == "" {
		if len(s.Tablespaces) > 0 {
			return nil, fault.New(fault.Corrupt, "read backup", dir, "it has archives of tablespaces, but no base.tar")
		}
		return nil, nil
	}
	return s, nil
}

// Member is an entry of an archive. Its content is valid during the visit only.
type Member struct {
	*tar.Header
	Name string // clean, and below the archive's directory
	io.Reader
}

// Each visits the members of an archive in their order. It reads to the end of
// the file, so that damage behind the last member is found too, unless visit
// returns fs.SkipAll. Progress is called with the bytes of the file that were
// read; it may be nil.
func (a Archive) Each(ctx context.Context, progress func(int64), visit func(Member) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f, err := a.begin(ctx)
	if err != nil {
		return a.wrap(fault.Internal, err)
	}
	defer f.Close()
	var stored io.Reader = &counted{f, progress}
	if a.copy != nil {
		stored = io.TeeReader(stored, a.copy)
	}
	if a.Encrypted {
		clear, err := a.keys.NewReader(ctx, stored)
		if err != nil {
			return fault.Wrap(fault.Internal, "read", a.Path, err)
		}
		defer clear.Close()
		stored = clear
	}
	plain, found, err := codec.NewReader(stored)
	if err != nil {
		return a.corrupt(err)
	}
	defer plain.Close()
	if found != a.algorithm {
		return a.corrupt(errors.New("its content is not what its name says"))
	}
	ahead := readAhead(ctx, plain)
	defer func() {
		cancel() // what is stored elsewhere may be slow to come
		ahead.stop()
	}()
	return a.walk(tar.NewReader(ahead), ahead, visit)
}

func (a Archive) begin(ctx context.Context) (io.ReadCloser, error) {
	if a.open != nil {
		return a.open(ctx)
	}
	return os.Open(a.Path)
}

// CopyTo is the archive, whose file Each writes to w while it reads it.
func (a Archive) CopyTo(w io.Writer) Archive {
	a.copy = w
	return a
}

func (a Archive) walk(members *tar.Reader, rest *ahead, visit func(Member) error) error {
	end := int64(0) // of the last member
	for {
		if err := rest.interruption(); err != nil {
			return err
		}
		h, err := members.Next()
		if errors.Is(err, io.EOF) {
			if a.open != nil && rest.taken < end+endMark {
				return a.corrupt(errors.New("it lacks its end"))
			}
			_, err = io.Copy(io.Discard, rest)
			return a.corrupt(err)
		}
		if err != nil {
			return a.corrupt(err)
		}
		end = rest.taken + occupied(h)
		name := path.Clean(h.Name)
		if name == "." {
			continue
		}
		if !filepath.IsLocal(name) || strings.ContainsRune(name, 0) {
			return a.corrupt(errors.New("it has the member " + strconv.Quote(h.Name) + ", which is no path below a directory"))
		}
		switch err := visit(Member{h, name, content{members, a}}); {
		case errors.Is(err, fs.SkipAll):
			return nil
		case err != nil:
			return err
		}
	}
}

// tarBlock is the unit of an archive, endMark the two blocks of zeros that end one (POSIX, pax).
const (
	tarBlock = 512
	endMark  = 2 * tarBlock
)

// occupied is what the content of a member takes in the archive; of a sparse one it is not known, and 0.
func occupied(h *tar.Header) int64 {
	if h.Typeflag != tar.TypeReg {
		return 0
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return 0
		}
	}
	return (h.Size + tarBlock - 1) / tarBlock * tarBlock
}

// wrap names the archive, unless the error does.
func (a Archive) wrap(kind fault.Kind, err error) error {
	var f *fault.Error
	if errors.As(err, &f) && f.Subject == a.Path {
		return err
	}
	return fault.Wrap(kind, "read", a.Path, err)
}

// corrupt says which archive is damaged; an interruption stays one, and so does a store that fails.
func (a Archive) corrupt(err error) error {
	if err == nil || errors.As(err, new(*interrupted)) {
		return err
	}
	err = a.wrap(fault.Corrupt, err)
	var f *fault.Error
	if errors.As(err, &f) && f.Kind == fault.Corrupt && f.Hint == "" {
		return f.WithHint("it is damaged or was replaced; restore another backup, or another copy of this one")
	}
	return err
}

// content is a member's content; its errors name the archive.
type content struct {
	r *tar.Reader
	a Archive
}

func (c content) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if errors.Is(err, io.EOF) {
		return n, io.EOF
	}
	return n, c.a.corrupt(err)
}

type counted struct {
	r    io.Reader
	tell func(int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.tell != nil && n > 0 {
		c.tell(int64(n))
	}
	return n, err
}

// ofTablespace is what everything in a tablespace lies below.
var ofTablespace = lazyregexp.New(`^PG_[0-9.]+_[0-9]+(/|$)`)

// Misplaced reports whether a member belongs to another directory than the archive says:
// its content is then that of another archive.
func (a Archive) Misplaced(m Member) bool {
	if a.OID == 0 {
		return ofTablespace.MatchString(m.Name)
	}
	return m.Name == "PG_VERSION" || m.Name == "global/pg_control"
}

const labelName = "backup_label"

// maxSmall bounds the content of members that are read into memory.
const maxSmall = 64 << 10

// Label reads backup_label, which PostgreSQL sends first.
func (s *Set) Label(ctx context.Context) (string, error) {
	var label []byte
	err := s.Base.Each(ctx, nil, func(m Member) (err error) {
		if m.Name != labelName {
			return nil
		}
		if label, err = m.Small(); err != nil {
			return err
		}
		return fs.SkipAll
	})
	if err == nil && label == nil {
		err = fault.New(fault.Corrupt, "read", s.Base.Path, "it has no backup_label")
	}
	return string(label), err
}

// Small reads the whole content of a member that is small by its nature.
func (m Member) Small() ([]byte, error) {
	if m.Size > maxSmall {
		return nil, fault.New(fault.Corrupt, "read", m.Name, "it has %d bytes, far more than such a file ever has", m.Size)
	}
	b := make([]byte, m.Size)
	_, err := io.ReadFull(m.Reader, b)
	return b, err
}
