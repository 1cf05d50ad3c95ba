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
	return a.search(name, form.Partial, func(path string) error { return a.send(ctx, path, name, w, form) })
}

func (a *Archive) send(ctx context.Context, path, name string, w io.Writer, form Form) error {
	f, err := os.Open(path)
	if err != nil {
		return fault.Wrap(fault.Internal, "read", path, err)
	}
	defer f.Close()
	n, err := a.expandTo(ctx, io.Discard, f)
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
		_, err = a.expandTo(ctx, w, f)
		return fault.Wrap(fault.Internal, "send", name, err)
	}
	z, err := form.NewWriter(w)
	if err != nil {
		return fault.Wrap(fault.Internal, "compress", name, err)
	}
	_, err = a.expandTo(ctx, z, f)
	err = cmp.Or(err, z.Close())
	return fault.Wrap(fault.Internal, "send", name, err)
}

// expandTo writes the content of f to w.
func (a *Archive) expandTo(ctx context.Context, w io.Writer, f *os.File) (int64, error) {
	r, err := a.expand(ctx, f)
	if err != nil {
		return 0, fault.Wrap(fault.Corrupt, "read", f.Name(), err)
	}
	defer r.Close()
	return io.Copy(w, &source{&interruptible{ctx, r}, f.Name()})
}
