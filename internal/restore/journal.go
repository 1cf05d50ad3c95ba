package restore

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// journal names the tablespace directories that are about to get their final
// names. A restore that dies between the first of them and the data directory
// leaves it behind, and the next one to the same destination then knows that
// those directories are the dead one's and not a server's.
type journal struct {
	path   string
	marker bool // it is a marker's file, which must stay until the end
}

// journalOf is the journal of a restore to a data directory: beside it, or, where
// it is built in place, its marker.
func journalOf(data *place) *journal {
	if data.inPlace {
		return &journal{filepath.Join(data.final, Marker), true}
	}
	return &journal{data.build + journalSuffix, false}
}

const journalSuffix = ".journal"

// directory is one by its inode, so that another one of the same name is never
// taken for it.
type directory struct {
	Path   string `json:"path"`
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

func identify(path, final string) (directory, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return directory{}, fault.Wrap(fault.Internal, "stat", path, err)
	}
	return directory{final, uint64(st.Dev), st.Ino}, nil
}

// begin records what will be placed.
func (j *journal) begin(tablespaces []*place) error {
	if len(tablespaces) == 0 {
		return nil
	}
	var list []directory
	for _, p := range tablespaces {
		d, err := identify(p.build, p.final)
		if err != nil {
			return err
		}
		list = append(list, d)
	}
	text, err := json.Marshal(list)
	if err != nil {
		return fault.Wrap(fault.Internal, "encode", j.path, err)
	}
	return atomicfile.Write(j.path, append(text, '\n'), 0o600)
}

// undo empties what a dead restore has placed. It is called with the
// destination claimed and known to be unfinished.
func (j *journal) undo() error {
	if err := atomicfile.SweepFile(j.path); err != nil {
		return err
	}
	text, err := os.ReadFile(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "read", j.path, err)
	}
	var list []directory
	if json.Unmarshal(text, &list) != nil {
		return nil // a marker's words
	}
	for _, was := range list {
		is, err := identify(was.Path, was.Path)
		if err != nil || is != was {
			continue
		}
		if err := removeContents(was.Path); err != nil {
			return err
		}
	}
	if j.marker {
		return writeMarker(j.path)
	}
	return j.end()
}

// end forgets the journal.
func (j *journal) end() error {
	if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Internal, "remove", j.path, err)
	}
	return nil
}

func removeContents(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fault.Wrap(fault.Internal, "read directory", dir, err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fault.Wrap(fault.Internal, "remove", filepath.Join(dir, e.Name()), err)
		}
	}
	return nil
}
