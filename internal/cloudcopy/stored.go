package cloudcopy

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"io"
	"path"
	"path/filepath"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/bundle"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/zstd"
)

// Stored is an archive as it was sent.
type Stored struct {
	Size    int64 // in bytes
	CRC32C  uint32
	Content int64 // what it expands to, in bytes
}

// Archives are all archives of a backup by the last part of their keys, as its stored
// records have them. base is the prefix of its keys, with a slash at its end. They are nil
// when it has no records: it is not complete, or not ours. Damaged records are Corrupt.
func Archives(ctx context.Context, store objstore.Store, base string) (map[string]Stored, error) {
	out := map[string]Stored{}
	there, err := eachStored(ctx, store, base, func(h *tar.Header, in io.Reader) error {
		if !strings.HasSuffix(h.Name, recordSuffix) {
			return nil
		}
		e, _, err := readHead(in, h.Name)
		if err != nil {
			return fault.Wrap(fault.Corrupt, "read", base+recordsKey, err)
		}
		out[path.Base(e.Record.Key)] = Stored{e.Record.Size, e.Record.CRC32C, cmp.Or(e.Content, e.Record.Content())}
		return nil
	})
	if err != nil || !there {
		return nil, err
	}
	return out, nil
}

// Records calls each for the archives of a backup, one after the other, with the last part of
// their keys and all that is known of them. There are none where Archives has none.
func Records(ctx context.Context, store objstore.Store, base string, each func(name string, r *bundle.Record) error) error {
	_, err := eachStored(ctx, store, base, func(h *tar.Header, in io.Reader) error {
		if !strings.HasSuffix(h.Name, recordSuffix) {
			return nil
		}
		e, rest, err := readHead(in, h.Name)
		if err == nil && e.Record.Segments == nil {
			e.Record.Segments, err = bundle.ReadSegments(rest)
		}
		if err != nil {
			return fault.Wrap(fault.Corrupt, "read", base+recordsKey, err)
		}
		return each(path.Base(e.Record.Key), e.Record)
	})
	return err
}

// eachStored calls each for the files of a backup's stored records; false when it has none.
func eachStored(ctx context.Context, store objstore.Store, base string, each func(*tar.Header, io.Reader) error) (bool, error) {
	key := base + recordsKey
	corrupt := func(err error) error { return fault.Wrap(fault.Corrupt, "read", key, err) }
	in, _, err := store.Get(ctx, key, wholeObject)
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer in.Close()
	z, err := zstd.NewReader(in)
	if err != nil {
		return true, corrupt(err)
	}
	defer z.Close()
	files := tar.NewReader(z)
	for n := 0; ; n++ {
		h, err := files.Next()
		if errors.Is(err, io.EOF) && n == 0 { // nothing at all expands to nothing
			return true, fault.New(fault.Corrupt, "read", key, "it is empty")
		}
		if errors.Is(err, io.EOF) {
			// The checksums are at the end.
			_, err := io.Copy(io.Discard, z)
			return true, corrupt(err)
		}
		if err != nil {
			return true, corrupt(err)
		}
		if h.Typeflag != tar.TypeReg || h.Name != filepath.Base(h.Name) {
			return true, fault.New(fault.Corrupt, "read", key, "it has a member %q", h.Name)
		}
		if err := each(h, files); err != nil {
			return true, err
		}
	}
}
