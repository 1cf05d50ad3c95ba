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
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walahead/note"
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

// Deliver is the archive's Deliver, and archives up to N-1 further segments that are
// ready in the directory of src. That one of those fails is no error: PostgreSQL asks for
// it, and gets its answer.
func (a Ahead) Deliver(ctx context.Context, src string, now time.Time) error {
	name := filepath.Base(src)
	if a.N < 2 || wal.Classify(name) != wal.SegmentFile {
		return a.Archive.Deliver(ctx, src, name, now)
	}
	noted := note.Read(a.Note, a.Place, now)
	if noted.Of(src, name) {
		return nil
	}
	ready := a.ready(src)
	marks := make([]string, len(ready))
	var others sync.WaitGroup
	aside, stop := context.WithCancel(ctx)
	defer stop()
	for i, next := range ready {
		path := filepath.Join(filepath.Dir(src), next)
		before := note.Mark(path)
		if before == "" || noted[next] == before {
			marks[i] = before
			continue
		}
		others.Go(func() {
			if a.Archive.Deliver(aside, path, next, now) != nil {
				return
			}
			if note.Mark(path) == before {
				marks[i] = before
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

// write replaces the note. Without one, files are archived again, and found to be there.
func (a Ahead) write(names, marks []string, now time.Time) {
	noted := note.Marks{}
	for i, name := range names {
		if marks[i] != "" {
			noted[name] = marks[i]
		}
	}
	if len(noted) == 0 {
		os.Remove(a.Note)
		return
	}
	_ = atomicfile.Write(a.Note, note.Text(a.Place, noted, now), 0o600)
}
