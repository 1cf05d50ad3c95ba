package datadir

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// chunk is how many names of a directory are looked at at a time.
const chunk = 512

// EachName calls f with the names in a directory, a chunk at a time.
func EachName(dir string, f func(names []string) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(chunk)
		if len(names) > 0 {
			if err := f(names); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Join is the path of a name in a directory below the root; "" is the root.
func Join(rel, name string) string {
	if rel == "" {
		return name
	}
	return rel + "/" + name
}

// Look follows links; false when nothing is there any more.
func Look(path string) (Attributes, bool, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if err == nil {
		return AttributesOf(&st), true, nil
	}
	if errors.Is(err, unix.ENOENT) && Vanished(path) {
		return Attributes{}, false, nil
	}
	return Attributes{}, false, Unreadable(path, err)
}

// Vanished reports whether not even a link is there.
func Vanished(path string) bool {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)
}

// Unreadable is the error for something of the cluster that cannot be read.
func Unreadable(path string, cause error) error {
	e := fault.New(fault.KindOf(cause), "read the cluster's files", path, "%w", cause)
	if e.Kind == fault.Internal {
		e.Kind = fault.Refused
	}
	switch {
	case errors.Is(cause, unix.EACCES), errors.Is(cause, unix.EPERM):
		return e.WithHint("every file of the cluster must be readable for the user that takes the backup: mend its owner or mode, or set barman_user (rsync over ssh: the user in ssh_command) to the server's user")
	case errors.Is(cause, unix.ENOENT), errors.Is(cause, unix.ELOOP):
		return e.WithHint("it is a directory of the cluster that is missing, or a link that leads nowhere: mount what is missing, or remove the link")
	}
	return e.WithHint("look at the storage that holds it, and at the kernel's log: dmesg")
}

// Directory is one below the root.
type Directory struct {
	Rel string
	Attributes
}

// Walk lists one tree of this host. Links are followed: a backup has none.
type Walk struct {
	Root         string
	Filter       Filter
	SkipUnlogged bool // main forks and maps of unlogged relations, which recovery makes anew
	// Dirs gets each directory before what lies in it, File every plain file. What
	// they return ends the walk.
	Dirs func([]Directory) error
	File func(rel string, a Attributes) error
	Link func(rel string) // is told of links that were followed; may be nil
}

// place is a directory on the way down, so that a link to one above is noticed.
type place struct {
	dev, ino uint64
	above    *place
}

// Run walks. A file that vanishes meanwhile is no error, everything that cannot be
// looked at is one.
func (w *Walk) Run(ctx context.Context) error {
	var st unix.Stat_t
	if err := unix.Stat(w.Root, &st); err != nil {
		return Unreadable(w.Root, err)
	}
	if a := AttributesOf(&st); !a.IsDir() {
		return Unreadable(w.Root, unix.ENOTDIR)
	}
	return w.dir(ctx, "", &place{st.Dev, st.Ino, nil})
}

func (w *Walk) dir(ctx context.Context, rel string, here *place) error {
	if ctx.Err() != nil {
		return fault.Wrap(fault.Cancelled, "list", w.Root, context.Cause(ctx))
	}
	var below []Directory
	source := filepath.Join(w.Root, rel)
	unlogged, err := w.unlogged(rel)
	if err == nil {
		err = EachName(source, func(names []string) error {
			from := len(below)
			for _, e := range w.lookAt(rel, names, unlogged) {
				if e.linked && w.Link != nil {
					w.Link(e.rel)
				}
				switch {
				case e.err != nil:
					return e.err
				case e.a.IsDir():
					below = append(below, Directory{e.rel, e.a})
				case e.a.IsRegular():
					if err := w.File(e.rel, e.a); err != nil {
						return err
					}
				}
			}
			return w.Dirs(below[from:])
		})
	}
	var named *fault.Error
	switch {
	case errors.As(err, &named):
		return err
	case errors.Is(err, unix.ENOENT) && rel != "": // it vanished
		return nil
	case err != nil:
		return Unreadable(source, err)
	}
	for _, d := range below {
		for p := here; p != nil; p = p.above {
			if p.dev == d.Dev && p.ino == d.Ino {
				return Unreadable(filepath.Join(w.Root, d.Rel), unix.ELOOP)
			}
		}
		if err := w.dir(ctx, d.Rel, &place{d.Dev, d.Ino, here}); err != nil {
			return err
		}
	}
	return nil
}

// entry is what a name in a directory stands for: nothing, where it is not wanted or has vanished.
type entry struct {
	rel    string
	a      Attributes
	linked bool
	err    error
}

// share is how many names are worth a goroutine of their own.
const share = chunk / 4

// lookAt looks at names in a directory, at several at once: while a cluster is listed, nothing else is done.
func (w *Walk) lookAt(rel string, names []string, unlogged map[string]bool) []entry {
	out := make([]entry, len(names))
	each := max(share, (len(names)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	var all sync.WaitGroup
	for from := 0; from < len(names); from += each {
		part := out[from:min(from+each, len(names))]
		all.Go(func() {
			for i := range part {
				name := names[from+i]
				rel := Join(rel, name)
				if !w.Filter.Excluded(rel) && (unlogged == nil || !unlogged[relation(name)] || isInit(name)) {
					part[i] = w.look(rel)
				}
			}
		})
	}
	all.Wait()
	return out
}

func (w *Walk) look(rel string) entry {
	path := filepath.Join(w.Root, rel)
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return entry{rel: rel, a: AttributesOf(&st)}
	}
	a, ok, err := Look(path)
	return entry{rel, a, ok, err}
}

// unlogged are the numbers of the unlogged relations in a directory, which are
// those with an init fork (PostgreSQL: src/backend/storage/file/reinit.c). It is
// nil where there is none.
func (w *Walk) unlogged(rel string) (map[string]bool, error) {
	if !w.SkipUnlogged || !InDatabase(rel+"/0") {
		return nil, nil
	}
	var found map[string]bool
	err := EachName(filepath.Join(w.Root, rel), func(names []string) error {
		for _, name := range names {
			if number := relation(name); number != "" && isInit(name) {
				if found == nil {
					found = map[string]bool{}
				}
				found[number] = true
			}
		}
		return nil
	})
	return found, err
}

func isInit(name string) bool {
	r, ok := ParseRelation(name)
	return ok && r.Fork == "init"
}

// relation is the number of the relation that a file belongs to; "" for none.
func relation(name string) string {
	if _, ok := ParseRelation(name); !ok {
		return ""
	}
	return name[:len(name)-len(strings.TrimLeft(name, digits))]
}
