package walship

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/ssh"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Host is where an archive is, and how it is reached.
type Host struct {
	Destination string // user@host, or an alias of ssh's configuration
	Port        int    // 0 for ssh's own choice
	Program     string // holdfast or barman, on that host
	Config      string // configuration there; "" for its default
}

// Check refuses a destination that ssh would take for an option.
func (h Host) Check() error {
	if h.Destination == "" || strings.HasPrefix(h.Destination, "-") || strings.ContainsAny(h.Destination, " \t\n") {
		return fault.New(fault.Usage, "read", "--host "+strconv.Quote(h.Destination), "it is no host").WithHint("write it as user@host")
	}
	return nil
}

// args are those of ssh (ssh(1)), with a command for the host's shell.
func (h Host) args(words ...string) []string {
	args := []string{"-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"}
	if h.Port != 0 {
		args = append(args, "-p", strconv.Itoa(h.Port))
	}
	remote := []string{h.Program}
	if h.Config != "" {
		remote = append(remote, "-c", ssh.Quote(h.Config))
	}
	for _, w := range words {
		remote = append(remote, ssh.Quote(w))
	}
	return append(args, "--", h.Destination, strings.Join(remote, " "))
}

// Put delivers a file; it is durable there when Put returns nil.
func (h Host) Put(ctx context.Context, server, path string) error {
	program, err := command.Find("ssh", "")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, pipe := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := Pack(ctx, pipe, path)
		pipe.CloseWithError(err)
		packed <- err
	}()
	err = command.Run(ctx, command.Spec{Path: program, Args: h.args("put-wal", server), Stdin: stream})
	stream.CloseWithError(errDeaf)
	if packing := <-packed; packing != nil && !errors.Is(packing, errDeaf) {
		return packing // what went wrong over there is but a consequence
	}
	return h.explain("send WAL to", err)
}

var errDeaf = errors.New("the other host reads no further")

// Get fetches a file, which gets the name dest. What is not there is
// fault.NotFound; partial as walarchive.FetchPartial has it.
func (h Host) Get(ctx context.Context, server, name, dest string, partial bool) error {
	if wal.Classify(name) == wal.Unknown {
		return fault.New(fault.Usage, "fetch", name, "it is neither a segment, a backup label, a partial segment nor a history file")
	}
	program, err := command.Find("ssh", "")
	if err != nil {
		return err
	}
	out, err := atomicfile.Create(dest, 0o600)
	if err != nil {
		return err
	}
	defer out.Abort()
	words := []string{"get-wal"}
	if partial {
		words = append(words, "--partial")
	}
	head := &first{w: out}
	if err := command.Run(ctx, command.Spec{Path: program, Args: h.args(append(words, server, name)...), Stdout: head}); err != nil {
		var exit *command.ExitError
		if errors.As(err, &exit) && exit.Code == 1 {
			return fault.New(fault.NotFound, "fetch", name, "%s does not have it: %s", h.Destination, strings.TrimSpace(exit.Stderr))
		}
		return h.explain("fetch WAL from", err)
	}
	if err := head.check(name); err != nil {
		return err
	}
	return out.Commit()
}

// explain gives a failed call a kind and a remedy.
func (h Host) explain(op string, err error) error {
	var exit *command.ExitError
	if err == nil || !errors.As(err, &exit) {
		return err
	}
	why := strings.TrimSpace(exit.Stderr)
	if why == "" {
		why = exit.Error()
	}
	e := fault.New(fault.Internal, op, h.Destination, "%s", why)
	switch exit.Code {
	case 255:
		e.Kind = fault.Connection
		return e.WithHint("try, as this user: ssh -o BatchMode=yes %s true; its host key must be known and our key accepted without a password", h.Destination)
	case 126, 127:
		e.Kind = fault.Tool
		return e.WithHint("%s cannot be run there: name the program with --remote-program, by its path if it is not in PATH of a shell without login", h.Program)
	}
	return e
}

// first keeps the beginning of what is written through it, and counts.
type first struct {
	w    io.Writer
	head bytes.Buffer
	n    int64
}

func (f *first) Write(p []byte) (int, error) {
	if room := wal.LongHeaderSize - f.head.Len(); room > 0 {
		f.head.Write(p[:min(room, len(p))])
	}
	n, err := f.w.Write(p)
	f.n += int64(n)
	return n, err
}

// check refuses a segment that did not come as a whole.
func (f *first) check(name string) error {
	if f.n == 0 {
		return fault.New(fault.Corrupt, "fetch", name, "nothing came")
	}
	if wal.Classify(name) != wal.SegmentFile {
		return nil
	}
	seg, err := wal.ParseSegment(name, uint64(f.n))
	if err != nil {
		return err
	}
	return fault.Wrap(fault.Corrupt, "fetch", name, wal.CheckPage(f.head.Bytes(), seg, 0))
}
