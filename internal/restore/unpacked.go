package restore

import (
	"archive/tar"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// unpacked is what archives hold that are unpacked at the same time, and may hold
// members of the same name: that of the last archive counts, and of its members the last.
type unpacked struct {
	mu      sync.Mutex
	seed    []byte
	from    map[uint64]int // the archive of each file, by the key of its path
	links   map[string]string
	control *tar.Header // pg_control, until it is placed
	content []byte
	holder  int // the archive that it is from
}

func newUnpacked() *unpacked {
	return &unpacked{seed: newSeed(), from: map[uint64]int{}, links: map[string]string{}}
}

// create makes a new file for a member of the nth archive, and none when a later archive
// has one of that name. again says that there was one already.
func (u *unpacked) create(path string, n int, mode fs.FileMode) (f *os.File, again bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	key := pathKey(u.seed, path)
	was, again := u.from[key]
	if again && was > n {
		return nil, true, nil
	}
	u.from[key] = n
	f, err = createIn(path, mode)
	if again && errors.Is(err, fs.ErrExist) {
		// Whoever still writes the other one writes to a file without a name.
		if err = os.Remove(path); err == nil {
			f, err = createIn(path, mode)
		}
	}
	return f, again, err
}

// createIn makes a file that is not there yet, and the directories of its path.
func createIn(path string, mode fs.FileMode) (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	f, err := os.OpenFile(path, flags, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			f, err = os.OpenFile(path, flags, mode)
		}
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// keepControl keeps pg_control for the end.
func (u *unpacked) keepControl(h *tar.Header, content []byte, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.control == nil || n >= u.holder {
		u.control, u.content, u.holder = h, content, n
	}
}

// linkLater remembers a symbolic link. Nothing is unpacked through one, wherever it leads.
func (u *unpacked) linkLater(path, target string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.links[path] = target
}

// link makes the links whose names nothing else has, deep ones first: so none is made
// through another one.
func (u *unpacked) link() error {
	for _, path := range slices.Backward(slices.Sorted(maps.Keys(u.links))) {
		target := u.links[path]
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err == nil {
			err = os.Symlink(target, path)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fault.Wrap(fault.Internal, "link", path, err)
		}
	}
	return nil
}
