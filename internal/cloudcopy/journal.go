package cloudcopy

import (
	"bufio"
	"encoding/gob"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/bundle"
	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/volumes"
)

// Names in a journal, and in what is stored of it.
const (
	stateName     = "state.json"
	planName      = "plan"
	controlName   = "control.json"
	treesName     = "trees.gob"
	recordSuffix  = ".record"
	membersSuffix = ".members"
)

// state is what holds for all of a journal.
type state struct {
	Attempt int           `json:"attempt"`
	World   datadir.World `json:"world"`
	Codec   string        `json:"codec"`
	// Used is the highest number of a volume of each tree that an attempt may have begun.
	Used map[string]int `json:"used"`
}

// records are what is written down of a backup: its plan, and for each archive a record and
// its members. An archive may have a record and be missing in the store: the store is asked.
type records struct {
	place string // where they are, for errors
	open  func(name string) (io.ReadCloser, error)
}

func (r records) path(name string) string { return filepath.Join(r.place, name) }

// read calls use with what is called name; false when there is none.
func (r records) read(name string, use func(io.Reader) error) (bool, error) {
	f, err := r.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fault.Wrap(fault.Internal, "read", r.path(name), err)
	}
	defer f.Close()
	return true, use(f)
}

func (r records) readJSON(name string, value any) (bool, error) {
	return r.read(name, func(in io.Reader) error {
		return fault.Wrap(fault.Corrupt, "read", r.path(name), json.NewDecoder(in).Decode(value))
	})
}

// plan is nil when there is none.
func (r records) plan() (p *volumes.Plan, err error) {
	_, err = r.read(planName, func(in io.Reader) (err error) {
		p, err = volumes.ReadPlan(in, r.path(planName))
		return err
	})
	return p, err
}

// entry is what is known of one archive.
type entry struct {
	Record  *bundle.Record `json:"record"`
	Sent    int64          `json:"sent"` // bytes of the object that no earlier one had
	Took    time.Duration  `json:"took"`
	Content int64          `json:"content"` // what the object expands to, in bytes
}

// write writes one line of JSON, and the segments.
func (e entry) write(w io.Writer) error {
	head := *e.Record
	head.Segments, e.Content = nil, e.Record.Content()
	segments := e.Record.Segments
	e.Record = &head
	if err := json.NewEncoder(w).Encode(e); err != nil {
		return err
	}
	return bundle.WriteSegments(w, segments)
}

// head is an entry without its segments, which take time and memory; nil when there is none.
func (r records) head(archive string) (*entry, error) {
	return r.readEntry(archive, func(e *entry, _ io.Reader) error {
		if e.Record.Segments != nil { // of an earlier version
			e.Content, e.Record.Segments = e.Record.Content(), nil
		}
		return nil
	})
}

// entry is nil when there is none.
func (r records) entry(archive string) (*entry, error) {
	return r.readEntry(archive, func(e *entry, in io.Reader) (err error) {
		if e.Record.Segments == nil {
			e.Record.Segments, err = bundle.ReadSegments(in)
		}
		return err
	})
}

func (r records) readEntry(archive string, rest func(*entry, io.Reader) error) (*entry, error) {
	var e *entry
	name := archive + recordSuffix
	there, err := r.read(name, func(f io.Reader) error {
		var in io.Reader
		var err error
		if e, in, err = readHead(f, r.path(name)); err != nil {
			return fault.Wrap(fault.Internal, "read", r.path(name), err)
		}
		return fault.Wrap(fault.Corrupt, "read", r.path(name), rest(e, in))
	})
	if !there || err != nil {
		return nil, err
	}
	return e, nil
}

// readHead reads the first line of an entry, and returns what is behind it. place is for errors.
func readHead(f io.Reader, place string) (*entry, io.Reader, error) {
	in := bufio.NewReaderSize(f, 64<<10)
	line, err := in.ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	e := &entry{}
	if err := json.Unmarshal(line, e); err != nil {
		return nil, nil, fault.Wrap(fault.Corrupt, "read", place, err)
	}
	if e.Record == nil {
		return nil, nil, fault.New(fault.Corrupt, "read", place, "it holds no record")
	}
	return e, in, nil
}

// members calls each for the members of an archive that has a record.
func (r records) members(archive string, each func(volumes.Member) error) error {
	there, err := r.read(archive+membersSuffix, func(in io.Reader) error { return volumes.ReadMembers(in, r.path(archive), each) })
	if err == nil && !there {
		err = fault.New(fault.Corrupt, "read", r.path(archive), "its members are missing")
	}
	return err
}

// journal is a directory with the plan of a copy's latest attempt, and what the archives
// have become.
type journal struct {
	records
	dir string
}

func newJournal(dir string) journal {
	return journal{records{dir, func(name string) (io.ReadCloser, error) { return os.Open(filepath.Join(dir, name)) }}, dir}
}

// sweep removes what a killed writer left: once, since looking for it before each of ten
// thousand records takes longer than to write them.
func (j journal) sweep() error { return atomicfile.Sweep(time.Now(), 0, j.dir) }

func (j journal) write(name string, fill func(io.Writer) error) error {
	return atomicfile.WriteFunc(j.path(name), 0o600, fill)
}

func (j journal) writeJSON(name string, value any) error {
	return j.write(name, func(w io.Writer) error { return json.NewEncoder(w).Encode(value) })
}

// keepTrees writes the directories down. Their names may be anything, which JSON may not.
func (j journal) keepTrees(trees []volumes.Tree) error {
	trees = slices.Clone(trees)
	for i := range trees {
		trees[i].Files = nil
	}
	return j.write(treesName, func(w io.Writer) error { return gob.NewEncoder(w).Encode(trees) })
}

// trees are those of keepTrees; none when there was none yet.
func (j journal) trees() (trees []volumes.Tree, err error) {
	_, err = j.read(treesName, func(in io.Reader) error {
		return fault.Wrap(fault.Corrupt, "read", j.path(treesName), gob.NewDecoder(in).Decode(&trees))
	})
	return trees, err
}

// enter writes down an archive, the members before the record, which counts.
func (j journal) enter(archive string, members []volumes.Member, e entry) error {
	if err := j.write(archive+membersSuffix, func(w io.Writer) error { return volumes.WriteMembers(w, members) }); err != nil {
		return err
	}
	return j.write(archive+recordSuffix, e.write)
}

// forget removes an archive.
func (j journal) forget(archive string) error {
	for _, name := range []string{archive + recordSuffix, archive + membersSuffix} {
		if err := os.Remove(j.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.Internal, "remove", j.path(name), err)
		}
	}
	return nil
}
