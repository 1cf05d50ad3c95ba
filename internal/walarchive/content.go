package walarchive

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/gpg"
)

// content is a file's bytes after expansion.
type content struct {
	io.Reader
	where  string
	stored io.Closer
	dec    io.Closer
}

// openFile opens a file that lies beside the archive.
func (a *Archive) openFile(ctx context.Context, path string) (*content, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "read", path, err)
	}
	return a.open(ctx, path, f)
}

// openStored opens a file of the archive; fs.ErrNotExist when there is none.
func (a *Archive) openStored(ctx context.Context, name string) (*content, Entry, error) {
	raw, e, err := a.shelf.get(ctx, name)
	if err != nil {
		return nil, e, err
	}
	c, err := a.open(ctx, a.shelf.where(e), raw)
	return c, e, err
}

// open takes over what is stored.
func (a *Archive) open(ctx context.Context, where string, stored io.ReadCloser) (*content, error) {
	r, err := a.expand(ctx, stored)
	if err != nil {
		stored.Close()
		return nil, fault.Wrap(fault.Corrupt, "read", where, err)
	}
	return &content{&interruptible{ctx, r}, where, stored, r}, nil
}

// expand decrypts and expands what is stored, as its content asks for.
func (a *Archive) expand(ctx context.Context, stored io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(stored, 64<<10)
	head, err := b.Peek(gpg.HeadSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !gpg.Detect(head) {
		r, _, err := a.opt.Compression.NewReader(b)
		return r, err
	}
	clear, err := a.opt.Keys.NewReader(ctx, b)
	if err != nil {
		return nil, err
	}
	r, _, err := a.opt.Compression.NewReader(clear)
	if err != nil {
		return nil, cmp.Or(err, clear.Close())
	}
	return &decrypted{r, clear}, nil
}

// decrypted ends gpg together with what reads from it.
type decrypted struct {
	io.ReadCloser
	clear io.Closer
}

func (d *decrypted) Close() error { return cmp.Or(d.ReadCloser.Close(), d.clear.Close()) }

func (c *content) Close() { c.dec.Close(); c.stored.Close() }

// unreadable keeps the kind that the operating system gives an error, and
// calls everything else damage.
func unreadable(path string, err error) error {
	if k := fault.KindOf(err); k != fault.Internal {
		return fault.Wrap(k, "read", path, err)
	}
	return fault.Wrap(fault.Corrupt, "read", path, err)
}

// sameContent compares a file with one that is stored.
func (a *Archive) sameContent(ctx context.Context, path string, stored *content) (bool, error) {
	x, err := a.openFile(ctx, path)
	if err != nil {
		return false, err
	}
	defer x.Close()
	bufA, bufB := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		n, errA := io.ReadFull(x, bufA)
		m, errB := io.ReadFull(stored, bufB)
		for where, err := range map[string]error{path: errA, stored.where: errB} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return false, unreadable(where, err)
			}
		}
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return errA != nil && errB != nil, nil
		}
	}
}

func hashContent(c *content) (sum [sha256.Size]byte, size int64, err error) {
	h := sha256.New()
	if size, err = io.Copy(h, c); err != nil {
		return sum, 0, unreadable(c.where, err)
	}
	return [sha256.Size]byte(h.Sum(nil)), size, nil
}
