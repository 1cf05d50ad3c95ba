package cloudcopy

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/zstd"
)

// packed are the stored records of a backup, in one file that has no name: it is gone with
// its process. A file for each of ten thousand would take longer to make than to read.
type packed struct {
	records
	file *os.File
	at   map[string]span
}

// span is a part of a file, in bytes.
type span struct{ from, length int64 }

// fetchRecords fetches the records of a backup; nil when there are none.
func fetchRecords(ctx context.Context, job Job, base string) (_ *packed, err error) {
	key := base + recordsKey
	in, _, err := job.Store.Get(ctx, key, wholeObject)
	if fault.Is(err, fault.NotFound) {
		return nil, nil //nolint:nilnil // as said
	}
	if err != nil {
		return nil, err
	}
	defer in.Close()
	z, err := zstd.NewReader(in)
	if err != nil {
		return nil, fault.Wrap(fault.Corrupt, "read", key, err)
	}
	defer z.Close()
	p, err := newPacked(job.WorkDir, key)
	if err != nil {
		return nil, err
	}
	if err := p.fill(tar.NewReader(z), key); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func newPacked(dir, key string) (*packed, error) {
	f, err := os.CreateTemp(dir, "run-previous-")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "create a file in", dir, err)
	}
	p := &packed{file: f, at: map[string]span{}}
	p.records = records{key, p.section}
	if err := os.Remove(f.Name()); err != nil {
		p.close()
		return nil, fault.Wrap(fault.Internal, "remove", f.Name(), err)
	}
	return p, nil
}

func (p *packed) close() { p.file.Close() }

func (p *packed) section(name string) (io.ReadCloser, error) {
	s, is := p.at[name]
	if !is {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(io.NewSectionReader(p.file, s.from, s.length)), nil
}

func (p *packed) fill(in *tar.Reader, key string) error {
	for at := int64(0); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault.Wrap(fault.Corrupt, "read", key, err)
		}
		if h.Typeflag != tar.TypeReg || h.Name != filepath.Base(h.Name) {
			return fault.New(fault.Corrupt, "read", key, "it has a member %q", h.Name)
		}
		n, err := io.Copy(p.file, in)
		var ours *fs.PathError
		if errors.As(err, &ours) {
			return fault.Wrap(fault.Internal, "write", ours.Path, err)
		}
		if err != nil {
			return fault.Wrap(fault.Corrupt, "read", key, err)
		}
		p.at[h.Name] = span{at, n}
		at += n
	}
}
