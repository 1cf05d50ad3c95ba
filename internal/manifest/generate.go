package manifest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Generate writes the manifest of a directory, whose files it reads to their
// ends, with SHA-256. Links are not followed: what they lead to is not below the
// directory. Progress is called with every piece that was read; it may be nil.
func Generate(ctx context.Context, dir string, systemID uint64, out io.Writer, progress func(bytes int64)) (Summary, error) {
	g := generator{dir: dir, w: NewWriter(out, systemID), buf: make([]byte, 1<<20), progress: progress}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return g.file(ctx, path)
	})
	if ctx.Err() != nil {
		return Summary{}, fault.Wrap(fault.Cancelled, "read", dir, context.Cause(ctx))
	}
	if err != nil {
		return Summary{}, fault.Wrap(fault.Internal, "read", dir, err)
	}
	return g.w.Close(nil)
}

type generator struct {
	dir      string
	w        *Writer
	buf      []byte
	progress func(int64)
}

func (g *generator) file(ctx context.Context, path string) error {
	rel, err := filepath.Rel(g.dir, path)
	if err != nil || rel == Name || strings.HasPrefix(rel, atomicfile.TempPrefix) {
		return err // what is being written, perhaps this manifest
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	entry := File{Path: rel, Modified: st.ModTime(), Algorithm: SHA256}
	h := SHA256.New()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := f.Read(g.buf)
		h.Write(g.buf[:n])
		entry.Size += int64(n)
		if g.progress != nil && n > 0 {
			g.progress(int64(n))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	entry.Checksum = h.Sum(nil)
	return g.w.Add(entry)
}
