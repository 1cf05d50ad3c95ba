package replicas

import (
	"context"
	"io"
	"iter"

	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Broken is a store that cannot be opened, as one among others that can: every call
// fails with err, and no ability is missing.
func Broken(err error) objstore.Store { return broken{err} }

type broken struct{ err error }

// Put implements objstore.Store.
func (b broken) Put(context.Context, string, io.Reader, objstore.PutOptions) (objstore.Object, error) {
	return objstore.Object{}, b.err
}

// Get implements objstore.Store.
func (b broken) Get(context.Context, string, objstore.Range) (io.ReadCloser, objstore.Object, error) {
	return nil, objstore.Object{}, b.err
}

// Stat implements objstore.Store.
func (b broken) Stat(context.Context, string) (objstore.Object, error) {
	return objstore.Object{}, b.err
}

// List implements objstore.Store.
func (b broken) List(context.Context, string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) { yield(objstore.Object{}, b.err) }
}

// Delete implements objstore.Store.
func (b broken) Delete(context.Context, ...string) error { return b.err }

// Begin implements objstore.Multipart.
func (b broken) Begin(context.Context, string) (objstore.Upload, error) {
	return objstore.Upload{}, b.err
}

// BeginCopy implements objstore.RangeCopier.
func (b broken) BeginCopy(context.Context, string) (objstore.Upload, error) {
	return objstore.Upload{}, b.err
}

// PutPart implements objstore.Multipart.
func (b broken) PutPart(context.Context, objstore.Upload, int, []byte) (objstore.Part, error) {
	return objstore.Part{}, b.err
}

// CopyPart implements objstore.RangeCopier.
func (b broken) CopyPart(context.Context, objstore.Upload, int, string, objstore.Range) (objstore.Part, error) {
	return objstore.Part{}, b.err
}

// Complete implements objstore.Multipart.
func (b broken) Complete(context.Context, objstore.Upload, []objstore.Part, objstore.PutOptions) (objstore.Object, error) {
	return objstore.Object{}, b.err
}

// Abort implements objstore.Multipart.
func (b broken) Abort(context.Context, objstore.Upload) error { return b.err }

// Uploads implements objstore.Multipart.
func (b broken) Uploads(context.Context, string) iter.Seq2[objstore.Upload, error] {
	return func(yield func(objstore.Upload, error) bool) { yield(objstore.Upload{}, b.err) }
}

// Copy implements objstore.Copier.
func (b broken) Copy(context.Context, string, string) (objstore.Object, error) {
	return objstore.Object{}, b.err
}
