// Package walahead archives WAL segments before PostgreSQL asks for them, so that
// several are on their way to a distant archive at once.
//
// PostgreSQL asks for one segment after the other, each with a process of its own. The
// process that is asked for the first one also takes those behind it that are ready, and
// leaves a note for the next ones. The note is written when they are durable, and
// recognises a file by what changes with any change to it; so whatever dies, a segment
// without a note is archived again, which the archive finds out. It decides nothing about
// how files are stored, which is the archive's.
package walahead

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// archive is where files go: durable when Deliver returns nil.
type archive interface {
	Deliver(ctx context.Context, src, name string, now time.Time) error
}

// Ahead archives for one server.
type Ahead struct {
	Archive archive
	Place   string // which archive it is: a note of another one is worth nothing
	Note    string // file of the note
	N       int    // most files at once
}

// valid is how long a note is believed; PostgreSQL asks for the next one within seconds.
const valid = 10 * time.Minute

// note says which files are durable already.
type note struct {
	Place string
	At    time.Time
	Marks map[string]string // of each file that is durable
}

// Deliver is the archive's Deliver, and archives up to N-1 further segments that are
// ready in the directory of src. That one of those fails is no error: PostgreSQL asks for
// it, and gets its answer.
func (a Ahead) Deliver(ctx context.Context, src string, now time.Time) error {
	name := filepath.Base(src)
	if a.N < 2 || wal.Classify(name) != wal.SegmentFile {
		return a.Archive.Deliver(ctx, src, name, now)
	}
	noted := a.read(now)
	if mark, err := markOf(src); err == nil && noted[name] == mark {
		return nil
	}
	ready := a.ready(src)
	marks := make([]string, len(ready))
	var others sync.WaitGroup
	aside, stop := context.WithCancel(ctx)
	defer stop()
	for i, next := range ready {
		path := filepath.Join(filepath.Dir(src), next)
		before, err := markOf(path)
		if err != nil || noted[next] == before {
			marks[i] = before
			continue
		}
		others.Go(func() {
			if a.Archive.Deliver(aside, path, next, now) != nil {
				return
			}
			if after, err := markOf(path); err == nil && after == before {
				marks[i] = after
			}
		})
	}
	err := a.Archive.Deliver(ctx, src, name, now)
	if err != nil {
		stop()
	}
	others.Wait()
	a.write(ready, marks, now)
	return err
}

// ready are the names behind that of src that the server has finished, in their order.
func (a Ahead) ready(src string) []string {
	entries, err := os.ReadDir(filepath.Join(filepath.Dir(src), "archive_status"))
	if err != nil {
		return nil // a file that is archived by hand has none
	}
	var out []string
	for _, e := range entries {
		name, is := strings.CutSuffix(e.Name(), ".ready")
		if is && wal.Classify(name) == wal.SegmentFile && name > filepath.Base(src) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out[:min(len(out), a.N-1)]
}

// markOf changes whenever the file is written, renamed or replaced: the kernel sets its
// change time, and nobody else can.
func markOf(path string) (string, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	sys, is := st.Sys().(*syscall.Stat_t)
	if !is || !st.Mode().IsRegular() {
		return "", fault.New(fault.Usage, "archive", path, "it is no regular file")
	}
	return fmt.Sprintf("%d:%d:%d:%d.%d:%d.%d", sys.Dev, sys.Ino, sys.Size, sys.Mtim.Sec, sys.Mtim.Nsec, sys.Ctim.Sec, sys.Ctim.Nsec), nil
}

// read is empty when there is no note that can be believed.
func (a Ahead) read(now time.Time) map[string]string {
	var n note
	text, err := os.ReadFile(a.Note)
	if err != nil || json.Unmarshal(text, &n) != nil || n.Place != a.Place || now.Before(n.At) || now.Sub(n.At) > valid {
		return nil
	}
	return n.Marks
}

// write replaces the note. Without one, files are archived again, and found to be there.
func (a Ahead) write(names, marks []string, now time.Time) {
	n := note{Place: a.Place, At: now, Marks: map[string]string{}}
	for i, name := range names {
		if marks[i] != "" {
			n.Marks[name] = marks[i]
		}
	}
	if len(n.Marks) == 0 {
		os.Remove(a.Note)
		return
	}
	if text, err := json.Marshal(n); err == nil {
		_ = atomicfile.Write(a.Note, text, 0o600)
	}
}
