// Package walspool fetches WAL segments before PostgreSQL asks for them, so that
// several are on their way from a distant archive at once.
//
// PostgreSQL asks for one segment after the other, each with a process of its own. The
// process that is asked for one fetches those behind it as well, into a directory beside
// the place where they are wanted: on the same file system, so that handing one out is a
// rename, and gone with the data directory. What lies there is checked against its
// checksum before it is handed out; whatever is wrong with it, the archive is asked. It
// knows nothing of how an archive stores its files.
package walspool

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walspool/handout"
)

// archive is where files come from.
type archive interface {
	// Fetch delivers a file, complete.
	Fetch(ctx context.Context, name, dest string) error
	// Following lists the stored segments from name on, until one is missing, and n at most.
	Following(ctx context.Context, name string, n int, size uint64) ([]string, error)
}

// Spool fetches for one server.
type Spool struct {
	Archive     archive
	Place       string // which archive it is: what came from another one is not handed out
	N           int    // most files at once, and in the directory
	SegmentSize uint64 // of the names; when it is wrong, nothing is fetched ahead
}

// forgotten is how old a directory is that nobody uses any more.
const forgotten = time.Hour

// Fetch gives a segment the name dest, out of the spool or by fetch, and fetches those
// that follow it. That one of those is missing or fails is no error.
func (s Spool) Fetch(ctx context.Context, name, dest string, fetch func(ctx context.Context, name, dest string) error) error {
	if s.N < 2 || wal.Classify(name) != wal.SegmentFile {
		return fetch(ctx, name, dest)
	}
	dir := handout.Beside(dest)
	if handout.Take(dir, s.Place, name, dest) {
		s.sweep(dir, name)
		return nil
	}
	aside, stop := context.WithCancel(ctx)
	defer stop()
	var ahead sync.WaitGroup
	ahead.Go(func() { s.ahead(aside, dir, name) })
	err := fetch(ctx, name, dest)
	if err != nil {
		stop()
	}
	ahead.Wait()
	if fault.Is(err, fault.Disk) { // what was fetched ahead must not be in the way
		if os.RemoveAll(dir) == nil {
			err = fetch(ctx, name, dest)
		}
	}
	s.sweep(dir, name)
	return err
}

// ahead fetches what follows a segment on its timeline.
func (s Spool) ahead(ctx context.Context, dir, name string) {
	seg, err := wal.ParseSegment(name, s.SegmentSize)
	if err != nil {
		return
	}
	names, err := s.Archive.Following(ctx, seg.Next().Name(), s.N-1, s.SegmentSize)
	if err != nil || len(names) == 0 {
		return
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return
	}
	var all sync.WaitGroup
	for _, next := range names {
		if handout.Find(dir, next) != "" {
			continue
		}
		all.Go(func() {
			path := filepath.Join(dir, next)
			if s.Archive.Fetch(ctx, next, path) != nil {
				return
			}
			if sum, err := s.check(path, next); err != nil || os.Rename(path, handout.Name(dir, next, sum)) != nil {
				os.Remove(path)
			}
		})
	}
	all.Wait()
}

// check is the checksum under which a segment is kept; an error when it is none.
func (s Spool) check(path, name string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, wal.LongHeaderSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return "", err
	}
	sum, size, err := handout.Sum(s.Place, f)
	if err != nil {
		return "", err
	}
	seg, err := wal.ParseSegment(name, uint64(size))
	if err != nil {
		return "", err
	}
	return sum, wal.CheckPage(head, seg, 0)
}

// sweep keeps what may be asked for next.
func (s Spool) sweep(dir, name string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	at, err := wal.ParseSegment(name, s.SegmentSize)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.Name() == handout.Receipt {
			continue
		}
		spooled, _, _ := strings.Cut(e.Name(), ".")
		seg, err := wal.ParseSegment(spooled, s.SegmentSize)
		if err != nil || seg.TLI != at.TLI || seg.No <= at.No || seg.No >= at.No+uint64(s.N) {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	handout.Tidy(dir)
}

// Sweep removes the spool of a recovery that has ended; dir is pg_wal.
func Sweep(dir string, now time.Time) {
	path := filepath.Join(dir, handout.Dir)
	if st, err := os.Lstat(path); err == nil && now.Sub(st.ModTime()) > forgotten {
		os.RemoveAll(path)
	}
}
