package cloudcopy

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// packed are the stored records of a backup, in one file that has no name: it is gone with
// its process. A file for each of ten thousand would take longer to make than to read.
type packed struct {
	records
	file *os.File
	at   map[string]span
	end  int64
}

// span is a part of a file, in bytes.
type span struct{ from, length int64 }

// fetchRecords fetches the records of a backup; nil when there are none.
func fetchRecords(ctx context.Context, job Job, base string) (*packed, error) {
	p, err := newPacked(job.WorkDir, base+recordsKey)
	if err != nil {
		return nil, err
	}
	there, err := eachStored(ctx, job.Store, base, p.add)
	if err != nil || !there {
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

// add appends a file.
func (p *packed) add(h *tar.Header, in io.Reader) error {
	n, err := io.Copy(p.file, in)
	var ours *fs.PathError
	if errors.As(err, &ours) {
		return fault.Wrap(fault.Internal, "write", ours.Path, err)
	}
	if err != nil {
		return fault.Wrap(fault.Corrupt, "read", p.place, err)
	}
	p.at[h.Name] = span{p.end, n}
	p.end += n
	return nil
}
