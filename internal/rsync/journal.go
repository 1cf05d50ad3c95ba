package rsync

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// run is one call of Copy. Its records count for a later one on the same boot
// of the same host, for the same cluster; what the page cache of that boot has,
// a journal need not force to disk.
type run struct {
	datadir.World
	Attempt int       `json:"attempt"`
	Listed  time.Time `json:"listed"` // before anything was listed or read
}

const (
	runFrame  = 'R'
	fileFrame = 'F'
)

// journal records what was copied. It is only appended to, under the fence; a
// torn end is cut off by the next run.
type journal struct {
	file  *os.File
	fence Fence
	this  run
	runs  []begun
	old   *index // records of earlier runs that may count

	mu  sync.Mutex
	end int64
	buf []byte
}

// begun is where the records of a run begin.
type begun struct {
	run
	at int64
}

// openJournal reads what earlier runs recorded and begins this one.
func openJournal(path string, fence Fence, this run) (*journal, error) {
	var j *journal
	return j, fence.Do(func() error {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return fault.Wrap(fault.Internal, "open journal", path, err)
		}
		j = &journal{file: f, fence: fence, this: this, old: newIndex()}
		if err := j.load(); err != nil {
			f.Close()
			j = nil
			return fault.Wrap(fault.Internal, "read journal", path, err)
		}
		return nil
	})
}

func (j *journal) load() error {
	usable := false
	end, err := readFrames(j.file, func(at int64, kind byte, content []byte) error {
		switch kind {
		case runFrame:
			var r run
			if err := json.Unmarshal(content, &r); err != nil {
				return err
			}
			usable = r.World == j.this.World
			j.runs = append(j.runs, begun{r, at})
		case fileFrame:
			if !usable {
				return nil
			}
			rec, err := decodeRecord(content)
			if err != nil {
				return err
			}
			j.old.add(rec.Path, at)
		}
		return nil
	})
	if err != nil {
		return err
	}
	j.old.seal()
	if len(j.old.refs) == 0 {
		end, j.runs = 0, nil
	}
	if err := j.file.Truncate(end); err != nil {
		return err
	}
	head, err := json.Marshal(j.this)
	if err != nil {
		return err
	}
	frame := appendFrame(nil, runFrame, func(b []byte) []byte { return append(b, head...) })
	if _, err := j.file.WriteAt(frame, end); err != nil {
		return err
	}
	j.end = end + int64(len(frame))
	return nil
}

func (j *journal) close() { j.file.Close() }

// find returns the newest record of a path from an earlier run, and that run.
func (j *journal) find(path string, buf *[]byte) (rec record, by run, at int64, ok bool, err error) {
	rec, at, ok, err = j.old.find(j.file, path, buf)
	if err != nil || !ok {
		return rec, by, 0, false, fault.Wrap(fault.Internal, "read journal", j.file.Name(), err)
	}
	i, _ := slices.BinarySearchFunc(j.runs, at, func(b begun, at int64) int {
		if b.at < at {
			return -1
		}
		return 1
	})
	return rec, j.runs[i-1].run, at, true, nil
}

// append records files, and returns where.
func (j *journal) append(recs []record) ([]int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	offsets := make([]int64, 0, len(recs))
	j.buf = j.buf[:0]
	for _, r := range recs {
		offsets = append(offsets, j.end+int64(len(j.buf)))
		j.buf = appendFrame(j.buf, fileFrame, r.encode)
	}
	err := j.fence.Do(func() error {
		_, err := j.file.WriteAt(j.buf, j.end)
		return err
	})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "write journal", j.file.Name(), err)
	}
	j.end += int64(len(j.buf))
	return offsets, nil
}

// each reads records back.
func (j *journal) each(offsets []int64, f func(record) error) error {
	var buf []byte
	for _, at := range offsets {
		kind, content, err := frameAt(j.file, at, &buf)
		if err == nil && kind != fileFrame {
			err = errors.New("a record is not of a file")
		}
		var rec record
		if err == nil {
			rec, err = decodeRecord(content)
		}
		if err != nil {
			return fault.Wrap(fault.Internal, "read journal", j.file.Name(), err)
		}
		if err := f(rec); err != nil {
			return err
		}
	}
	return nil
}
