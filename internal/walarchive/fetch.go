package walarchive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// ForRecovery is the archive for a server that fetches its WAL itself: nobody waits for the disk.
// After a crash of the host PostgreSQL asks for the files again, and removes what lies under
// the name before; those that it keeps it makes durable itself.
func (a *Archive) ForRecovery() *Archive {
	hasty := *a
	hasty.show = (*atomicfile.File).Show
	return &hasty
}

// Fetch delivers one file, expanded, complete and durable, to dest: from the archive,
// or from where it waits to be archived. What is nowhere is fault.NotFound.
func (a *Archive) Fetch(ctx context.Context, name, dest string) error {
	return a.fetch(ctx, name, dest, false)
}

// FetchPartial is Fetch, but what was written of an unfinished segment will do
// when there is no complete one. A standby must not be given it: the segment
// may go on elsewhere.
func (a *Archive) FetchPartial(ctx context.Context, name, dest string) error {
	return a.fetch(ctx, name, dest, true)
}

func (a *Archive) fetch(ctx context.Context, name, dest string, partial bool) error {
	return a.search(ctx, name, partial, func(where string, stored io.ReadCloser) error { return a.deliver(ctx, where, stored, name, dest) })
}

// place is where a file may lie: in the archive, under a name, or elsewhere as a file.
type place struct{ name, file string }

func (a *Archive) openPlace(ctx context.Context, p place) (where string, stored io.ReadCloser, err error) {
	if p.file == "" {
		stored, e, err := a.shelf.get(ctx, p.name)
		return a.shelf.where(e), stored, err
	}
	f, err := os.Open(p.file)
	return p.file, f, fault.Wrap(fault.Internal, "read", p.file, err)
}

// search offers take each place where a file may lie, until it succeeds. take closes
// what it gets.
func (a *Archive) search(ctx context.Context, name string, partial bool, take func(where string, stored io.ReadCloser) error) error {
	if wal.Classify(name) == wal.Unknown {
		return fault.New(fault.Usage, "fetch", name, "it is neither a segment, a backup label, a partial segment nor a history file")
	}
	places := []place{{name: name}, {file: filepath.Join(a.layout.IncomingDir, name)}, {file: filepath.Join(a.layout.StreamingDir, name)}}
	if partial && wal.Classify(name) == wal.SegmentFile {
		p := name + ".partial"
		places = append(places, place{file: filepath.Join(a.layout.StreamingDir, p)}, place{name: p}, place{file: filepath.Join(a.layout.IncomingDir, p)})
	}
	// The archiver may move a file from incoming while we look; it then lies in the archive.
	places = append(places, place{name: name})
	var damaged error
	for i, p := range places {
		where, stored, err := a.openPlace(ctx, p)
		if err == nil {
			err = take(where, stored)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, fs.ErrNotExist):
		case i > 0 && fault.Is(err, fault.Corrupt):
			damaged = err // it may be half written
		default:
			return err
		}
	}
	if damaged != nil {
		return damaged
	}
	return fault.New(fault.NotFound, "fetch", name, "it is not in the archive of server %s", a.layout.Server)
}

func (a *Archive) deliver(ctx context.Context, where string, stored io.ReadCloser, name, dest string) error {
	c, err := a.open(ctx, where, stored)
	if err != nil {
		return err
	}
	defer c.Close()
	out, err := atomicfile.Create(dest, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Usage, "fetch", name, "there is no directory %s", filepath.Dir(dest))
	}
	if err != nil {
		return err
	}
	defer out.Abort()
	n, err := io.CopyBuffer(struct{ io.Writer }{out}, &source{c, where}, make([]byte, 256<<10)) // what files read by themselves is less
	if err != nil {
		return fault.Wrap(fault.Internal, "write", dest, err)
	}
	if err := a.checkSize(where, name, n); err != nil {
		return err
	}
	return a.show(out)
}

// checkSize refuses what expanded to n bytes and is no whole segment.
func (a *Archive) checkSize(path, name string, n int64) error {
	if wal.Classify(name) != wal.SegmentFile || a.rightSize(n) {
		return nil
	}
	return fault.New(fault.Corrupt, "read", path, "it has %d bytes after expansion, which is no whole segment", n).
		WithHint("if it was stored with Barman's custom compression, fetch it with barman get-wal; else look for an intact copy")
}

func (a *Archive) rightSize(n int64) bool {
	if a.opt.SegmentSize != 0 {
		return uint64(n) == a.opt.SegmentSize
	}
	return n > 0 && wal.ValidSegmentSize(uint64(n))
}

// source tells errors of reading from those of writing.
type source struct {
	r    io.Reader
	path string
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = unreadable(s.path, err)
	}
	return n, err
}
