package basetar

import (
	"context"
	"io"
)

// blocks and blockSize bound what is expanded before it is asked for.
const (
	blocks    = 4
	blockSize = 256 << 10
)

// ahead expands in a goroutine of its own while its reader uses what came before.
type ahead struct {
	ctx  context.Context
	end  context.CancelFunc
	full chan []byte
	free chan []byte
	err  error // why full was closed
	all  []byte
	left []byte

	taken int64 // bytes that were read
}

// interrupted is the end of the context while an archive is read.
type interrupted struct{ cause error }

func (i *interrupted) Error() string { return i.cause.Error() }
func (i *interrupted) Unwrap() error { return i.cause }

func readAhead(ctx context.Context, r io.Reader) *ahead {
	a := &ahead{full: make(chan []byte, blocks), free: make(chan []byte, blocks)}
	a.ctx, a.end = context.WithCancel(ctx)
	go a.fill(r)
	return a
}

func (a *ahead) fill(r io.Reader) {
	defer close(a.full)
	for made := 0; ; {
		if made < blocks && len(a.free) == 0 { // a small archive needs one
			a.free <- make([]byte, blockSize)
			made++
		}
		select {
		case <-a.ctx.Done():
			a.err = a.interruption()
			return
		case block := <-a.free:
			n, err := fillBlock(r, block[:blockSize])
			if n > 0 {
				a.full <- block[:n]
			}
			if err != nil {
				if a.err = a.interruption(); a.err == nil {
					a.err = err
				}
				return
			}
		}
	}
}

// interruption is an error once the context has ended.
func (a *ahead) interruption() error {
	if a.ctx.Err() == nil {
		return nil
	}
	return &interrupted{context.Cause(a.ctx)}
}

// fillBlock is io.ReadFull that keeps apart the end of a stream and a stream that
// was cut off.
func fillBlock(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var more int
		more, err = r.Read(b[n:])
		n += more
	}
	return n, err
}

func (a *ahead) Read(p []byte) (int, error) {
	if len(a.left) == 0 {
		if a.all != nil {
			a.free <- a.all
			a.all = nil
		}
		block, ok := <-a.full
		if !ok {
			return 0, a.err
		}
		a.all, a.left = block, block
	}
	n := copy(p, a.left)
	a.left = a.left[n:]
	a.taken += int64(n)
	return n, nil
}

// stop waits for the goroutine's end.
func (a *ahead) stop() {
	a.end()
	for range a.full {
	}
}
