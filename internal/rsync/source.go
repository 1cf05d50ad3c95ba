package rsync

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
)

// source is the host that the cluster's files lie on.
type source interface {
	// world tells apart where and when the identities of files hold.
	world(ctx context.Context) (world, error)
	// survey makes a tree known to what follows.
	survey(ctx context.Context, t Tree, f datadir.Filter) (survey, error)
	// look follows links; false when nothing is there any more.
	look(ctx context.Context, path string) (datadir.Attributes, bool, error)
	// vanished tells of files below a directory which are not there any more. One
	// that is there and cannot be read is an error.
	vanished(ctx context.Context, dir string, names []string) ([]bool, error)
	// address completes a command line of rsync with what is to be copied, and
	// returns what rsync reads.
	address(args []string, dir string, names []string) (complete []string, stdin string)
	// parts divides files among as many processes as their names need.
	parts(dir string, entries []entry) [][]entry
	// lost reports whether an exit code of rsync may mean that the way there was cut.
	lost(code int) bool
	// release ends what connections that were cut have left there.
	release(ctx context.Context) error
}

// world is a boot of a host, and its clock.
type world struct {
	host, boot string
	now        time.Time
}

// survey is a tree at the source.
type survey interface {
	// stat follows links.
	stat(rel string) (datadir.Attributes, bool)
	// walk calls back with everything that belongs to the backup. Each directory comes
	// before what lies in it. It may be called once.
	walk(ctx context.Context, dirs func([]datadir.Directory) error, file func(rel string, a datadir.Attributes) error) error
	close()
}

func sourceOf(j Job) source {
	h := here{j.Host, j.Boot}
	if j.From == nil {
		return h
	}
	return &there{Host: j.From, here: h, fence: j.Fence, workDir: j.WorkDir, mark: markOf(j.Host, j.WorkDir), compress: j.Compress, progress: j.Progress}
}

// here is this host.
type here struct{ host, boot string }

func (h here) world(context.Context) (world, error) { return world{h.host, h.boot, time.Now()}, nil }

func (here) survey(_ context.Context, t Tree, f datadir.Filter) (survey, error) {
	return &hereTree{root: t.Source, filter: f}, nil
}

func (here) look(_ context.Context, path string) (datadir.Attributes, bool, error) {
	return datadir.Look(path)
}

func (here) vanished(_ context.Context, dir string, names []string) ([]bool, error) {
	gone := make([]bool, len(names))
	for i, name := range names {
		path := filepath.Join(dir, name)
		if gone[i] = datadir.Vanished(path); gone[i] {
			continue
		}
		f, err := os.Open(path)
		if err == nil {
			f.Close()
		} else if errors.Is(err, os.ErrPermission) {
			return nil, datadir.Unreadable(path, unix.EACCES)
		}
	}
	return gone, nil
}

// address: names are arguments, because rsync reads a list of files byte by
// byte, which takes as long as copying a small one.
func (here) address(args []string, dir string, names []string) ([]string, string) {
	args = append(args, "--")
	for _, name := range names {
		args = append(args, dir+"/./"+name)
	}
	return args, ""
}

// maxArguments is the length of names that every system takes (execve(2): 128 KiB
// with the environment).
const maxArguments = 96 << 10

func (here) parts(dir string, entries []entry) [][]entry {
	var out [][]entry
	from, size := 0, 0
	for i, e := range entries {
		n := len(dir) + len("/./") + len(e.Rel) + 1
		if i > from && size+n > maxArguments {
			out = append(out, entries[from:i])
			from, size = i, 0
		}
		size += n
	}
	return append(out, entries[from:])
}

func (here) lost(int) bool { return false }

func (here) release(context.Context) error { return nil }
