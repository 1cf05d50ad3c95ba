package command

import (
	"context"
	"io"
)

// Writer feeds a program that consumes what is written.
type Writer struct {
	*io.PipeWriter
	done chan error
}

// NewWriter runs consume beside its writer.
func NewWriter(consume func(r io.Reader) error) *Writer {
	r, pipe := io.Pipe()
	w := &Writer{pipe, make(chan error, 1)}
	go func() {
		err := consume(r)
		r.CloseWithError(err)
		w.done <- err
	}()
	return w
}

// Close waits until the program has consumed everything. It must be called, also
// when what was written is not wanted.
func (w *Writer) Close() error {
	if err := w.PipeWriter.Close(); err != nil {
		return err
	}
	return <-w.done
}

// Reader is what a program produces.
type Reader struct {
	*io.PipeReader
	end  context.CancelFunc
	done chan struct{}
}

// NewReader runs produce beside its reader, until that closes or ctx ends.
func NewReader(ctx context.Context, produce func(ctx context.Context, w io.Writer) error) *Reader {
	ctx, cancel := context.WithCancel(ctx)
	out, pipe := io.Pipe()
	r := &Reader{out, cancel, make(chan struct{})}
	go func() {
		defer close(r.done)
		pipe.CloseWithError(produce(ctx, pipe))
	}()
	return r
}

// Close ends the program, if it has not ended by itself.
func (r *Reader) Close() error {
	r.end()
	err := r.PipeReader.Close()
	<-r.done
	return err
}
