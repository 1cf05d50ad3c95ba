package codec

import (
	"context"
	"io"
	"os"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// through is a shell command that content flows through.
func through(ctx context.Context, script, pathPrefix string, in io.Reader, out io.Writer) error {
	spec := command.Spec{Path: "/bin/sh", Args: []string{"-c", script}, Stdin: in, Stdout: out}
	if pathPrefix != "" {
		spec.Env = []string{"PATH=" + pathPrefix + string(os.PathListSeparator) + os.Getenv("PATH")}
	}
	return fault.Wrap(fault.Tool, "run", script, command.Run(ctx, spec))
}

// programWriter feeds a command.
type programWriter struct {
	*io.PipeWriter
	done chan error
}

// writeThrough starts a command that writes to w.
func writeThrough(script, pathPrefix string, w io.Writer) *programWriter {
	r, pipe := io.Pipe()
	p := &programWriter{pipe, make(chan error, 1)}
	go func() {
		err := through(context.Background(), script, pathPrefix, r, w)
		r.CloseWithError(err)
		p.done <- err
	}()
	return p
}

// Close waits until the command has written everything.
func (p *programWriter) Close() error {
	if err := p.PipeWriter.Close(); err != nil {
		return err
	}
	return <-p.done
}

// programReader is what a command writes.
type programReader struct {
	*io.PipeReader
	end  context.CancelFunc
	done chan struct{}
}

// readThrough starts a command that reads r.
func readThrough(script, pathPrefix string, r io.Reader) *programReader {
	ctx, cancel := context.WithCancel(context.Background())
	out, pipe := io.Pipe()
	p := &programReader{out, cancel, make(chan struct{})}
	go func() {
		defer close(p.done)
		err := through(ctx, script, pathPrefix, r, pipe)
		if err != nil && ctx.Err() == nil {
			err = fault.New(fault.Corrupt, "expand", "", "%w", err)
		}
		pipe.CloseWithError(err)
	}()
	return p
}

// Close ends the command, if it has not ended by itself.
func (p *programReader) Close() error {
	p.end()
	err := p.PipeReader.Close()
	<-p.done
	return err
}
