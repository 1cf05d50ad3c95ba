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

// writeThrough starts a command that writes to w.
func writeThrough(script, pathPrefix string, w io.Writer) io.WriteCloser {
	return command.NewWriter(func(r io.Reader) error { return through(context.Background(), script, pathPrefix, r, w) })
}

// readThrough starts a command that reads r.
func readThrough(script, pathPrefix string, r io.Reader) io.ReadCloser {
	return command.NewReader(context.Background(), func(ctx context.Context, w io.Writer) error {
		err := through(ctx, script, pathPrefix, r, w)
		if err != nil && ctx.Err() == nil {
			err = fault.New(fault.Corrupt, "expand", "", "%w", err)
		}
		return err
	})
}
