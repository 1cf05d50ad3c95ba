package walarchive

import (
	"cmp"
	"context"
	"io"
	"os"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Form is how a file is sent.
type Form struct {
	Partial  bool // what was written of an unfinished segment will do
	AsStored bool // not expanded
	// NewWriter compresses what was expanded; nil leaves it as it is.
	NewWriter func(io.Writer) (io.WriteCloser, error)
}

// Send writes one file to w, from the places where Fetch looks. It is read
// twice: of a file that turns out not to be whole nothing is sent.
func (a *Archive) Send(ctx context.Context, name string, w io.Writer, form Form) error {
	return a.search(ctx, name, form.Partial, func(where string, stored io.ReadCloser) error {
		defer stored.Close()
		if f, is := stored.(*os.File); is {
			return a.send(ctx, where, f, name, w, form)
		}
		f, err := spooled(&source{&interruptible{ctx, stored}, where})
		if err != nil {
			return fault.Wrap(fault.Internal, "fetch", name, err)
		}
		defer f.Close()
		return a.send(ctx, where, f, name, w, form)
	})
}

// spooled is what r yields as a file without a name.
func spooled(r io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "holdfast-wal-")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, r)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (a *Archive) send(ctx context.Context, path string, f *os.File, name string, w io.Writer, form Form) error {
	n, err := a.expandTo(ctx, io.Discard, path, f)
	if err == nil {
		err = a.checkSize(path, name, n)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	if form.AsStored {
		_, err = io.Copy(w, &interruptible{ctx, &source{f, path}})
		return fault.Wrap(fault.Internal, "send", name, err)
	}
	if form.NewWriter == nil {
		_, err = a.expandTo(ctx, w, path, f)
		return fault.Wrap(fault.Internal, "send", name, err)
	}
	z, err := form.NewWriter(w)
	if err != nil {
		return fault.Wrap(fault.Internal, "compress", name, err)
	}
	_, err = a.expandTo(ctx, z, path, f)
	err = cmp.Or(err, z.Close())
	return fault.Wrap(fault.Internal, "send", name, err)
}

// expandTo writes the content of f to w.
func (a *Archive) expandTo(ctx context.Context, w io.Writer, path string, f *os.File) (int64, error) {
	r, err := a.expand(ctx, f)
	if err != nil {
		return 0, fault.Wrap(fault.Corrupt, "read", path, err)
	}
	defer r.Close()
	return io.Copy(w, &source{&interruptible{ctx, r}, path})
}
