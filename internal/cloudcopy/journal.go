package cloudcopy

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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

// journal is a directory with the plan of the latest attempt, and the records and
// members of archives. An archive may have a record and be missing in the store: the
// store is asked.
type journal string

func (j journal) path(name string) string { return filepath.Join(string(j), name) }

func (j journal) write(name string, fill func(io.Writer) error) error {
	if err := atomicfile.SweepFile(j.path(name)); err != nil { // of one that was killed
		return err
	}
	return atomicfile.WriteFunc(j.path(name), 0o600, fill)
}

func (j journal) writeJSON(name string, value any) error {
	return j.write(name, func(w io.Writer) error { return json.NewEncoder(w).Encode(value) })
}

// read opens a file of the journal; false when there is none.
func (j journal) read(name string, use func(io.Reader) error) (bool, error) {
	f, err := os.Open(j.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fault.Wrap(fault.Internal, "read", j.path(name), err)
	}
	defer f.Close()
	return true, use(f)
}

func (j journal) readJSON(name string, value any) (bool, error) {
	return j.read(name, func(r io.Reader) error {
		return fault.Wrap(fault.Corrupt, "read", j.path(name), json.NewDecoder(r).Decode(value))
	})
}

// plan is nil when there is none.
func (j journal) plan() (p *volumes.Plan, err error) {
	_, err = j.read(planName, func(r io.Reader) (err error) {
		p, err = volumes.ReadPlan(r, j.path(planName))
		return err
	})
	return p, err
}

// entry is what is known of one archive.
type entry struct {
	Record *bundle.Record `json:"record"`
	Sent   int64          `json:"sent"` // bytes of the object that no earlier one had
	Took   time.Duration  `json:"took"`
}

// entry is nil when there is none.
func (j journal) entry(archive string) (*entry, error) {
	e := &entry{}
	there, err := j.readJSON(archive+recordSuffix, e)
	if !there || err != nil {
		return nil, err
	}
	if e.Record == nil {
		return nil, fault.New(fault.Corrupt, "read", j.path(archive+recordSuffix), "it holds no record")
	}
	return e, nil
}

// members calls each for the members of an archive that has a record.
func (j journal) members(archive string, each func(volumes.Member) error) error {
	there, err := j.read(archive+membersSuffix, func(r io.Reader) error { return volumes.ReadMembers(r, j.path(archive), each) })
	if err == nil && !there {
		err = fault.New(fault.Corrupt, "read", j.path(archive), "its members are missing")
	}
	return err
}

// enter writes down an archive, the members before the record, which counts.
func (j journal) enter(archive string, members []volumes.Member, e entry) error {
	if err := j.write(archive+membersSuffix, func(w io.Writer) error { return volumes.WriteMembers(w, members) }); err != nil {
		return err
	}
	return j.writeJSON(archive+recordSuffix, e)
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
