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
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Dir is the name of the directory, in pg_wal.
const Dir = ".holdfast-wal-spool"

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
	dir := filepath.Join(filepath.Dir(dest), Dir)
	if s.take(dir, name, dest) {
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
		if s.find(dir, next) != "" {
			continue
		}
		all.Go(func() {
			path := filepath.Join(dir, next)
			if s.Archive.Fetch(ctx, next, path) != nil {
				return
			}
			if sum, err := s.sum(path, next); err != nil || os.Rename(path, path+"."+sum) != nil {
				os.Remove(path)
			}
		})
	}
	all.Wait()
}

// find is the path of a spooled segment; "" when there is none.
func (s Spool) find(dir, name string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), name+".") {
			return filepath.Join(dir, e.Name())
		}
	}
	return ""
}

// take hands a segment out; false when there is none that is right.
func (s Spool) take(dir, name, dest string) bool {
	path := s.find(dir, name)
	if path == "" {
		return false
	}
	sum, err := s.sum(path, name)
	if err == nil && path == filepath.Join(dir, name+"."+sum) && os.Rename(path, dest) == nil {
		return true // durable it need not be: after a crash PostgreSQL asks again
	}
	os.Remove(path)
	return false
}

// sum is the checksum of a whole segment, and of where it came from.
func (s Spool) sum(path, name string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, wal.LongHeaderSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return "", err
	}
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_, _ = io.WriteString(h, s.Place)
	n, err := io.Copy(h, f)
	if err != nil {
		return "", err
	}
	seg, err := wal.ParseSegment(name, uint64(n))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%08x", h.Sum32()), wal.CheckPage(head, seg, 0)
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
		spooled, _, _ := strings.Cut(e.Name(), ".")
		seg, err := wal.ParseSegment(spooled, s.SegmentSize)
		if err != nil || seg.TLI != at.TLI || seg.No <= at.No || seg.No >= at.No+uint64(s.N) {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	os.Remove(dir) // if it is empty
}

// Sweep removes the spool of a recovery that has ended; dir is pg_wal.
func Sweep(dir string, now time.Time) {
	path := filepath.Join(dir, Dir)
	if st, err := os.Lstat(path); err == nil && now.Sub(st.ModTime()) > forgotten {
		os.RemoveAll(path)
	}
}
