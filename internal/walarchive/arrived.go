package walarchive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Waiting is a file that was left where it is.
type Waiting struct{ Name, Reason string }

// Arrived is what became of the files that wait to be archived.
type Arrived struct {
	Archived   []string
	Conflicts  []string // other content under an archived name; moved to the errors directory
	Unknown    []string // no WAL; moved to the errors directory
	Unfinished []Waiting
}

// ArchiveArrived archives what barman-wal-archive or cp put into the incoming
// directory and what pg_receivewal has finished, in the order of names and as many
// of each as the options allow. Files that are still being written stay. It
// refuses while another archiver works.
func (a *Archive) ArchiveArrived(ctx context.Context, now time.Time) (Arrived, error) {
	var out Arrived
	lock, err := a.layout.LockArchiving()
	if err != nil {
		return out, err
	}
	defer lock.Release()
	arrivals := []arrival{{dir: a.layout.IncomingDir, batch: a.opt.Batch}}
	streaming := arrival{dir: a.layout.StreamingDir, batch: a.opt.StreamingBatch, streamed: true}
	if !a.opt.Streaming {
		_, streaming.streamed, err = a.layout.Receiver()
		streaming.ended = !streaming.streamed
	}
	if err != nil {
		return out, err
	}
	arrivals = append(arrivals, streaming)
	for _, in := range arrivals {
		if err := a.takeAll(ctx, in, now, &out); err != nil {
			return out, err
		}
	}
	return out, nil
}

// arrival is a directory that WAL arrives in.
type arrival struct {
	dir      string
	batch    int  // most files of one run; 0 for all
	streamed bool // pg_receivewal goes on behind what is there
	ended    bool // nobody streams any more: only a partial segment stays
}

func (a *Archive) takeAll(ctx context.Context, in arrival, now time.Time, out *Arrived) error {
	entries, err := os.ReadDir(in.dir)
	if in.ended && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "list", in.dir, err)
	}
	latest := ""
	if in.streamed {
		latest = latestStreamed(entries)
	}
	taken := 0
	for _, e := range entries {
		if ctx.Err() != nil {
			return fault.Wrap(fault.Cancelled, "archive", in.dir, context.Cause(ctx))
		}
		if e.IsDir() || temporary(e.Name()) || in.ended && wal.Classify(e.Name()) == wal.PartialFile {
			continue
		}
		if in.batch > 0 && taken == in.batch {
			break
		}
		moved := false
		if e.Name() == latest {
			err = a.takeLatest(ctx, filepath.Join(in.dir, latest), out)
		} else {
			moved, err = a.takeIn(ctx, filepath.Join(in.dir, e.Name()), now, out)
		}
		if err != nil {
			return err
		}
		if moved {
			taken++
		}
	}
	if taken == 0 {
		return nil
	}
	return atomicfile.SyncDir(in.dir)
}

// latestStreamed is the segment or partial segment that pg_receivewal goes on
// with, or behind, when it is started again.
func latestStreamed(entries []os.DirEntry) string {
	latest := ""
	for _, e := range entries {
		kind := wal.Classify(e.Name())
		if kind != wal.SegmentFile && kind != wal.PartialFile {
			continue
		}
		if latest == "" || wal.ComparePositions(e.Name(), latest) > 0 {
			latest = e.Name()
		}
	}
	return latest
}

// takeLatest archives the file that pg_receivewal goes on from when that is a
// whole segment, and leaves it in its place: without it, a receiver that is
// started again would not know where to begin.
func (a *Archive) takeLatest(ctx context.Context, path string, out *Arrived) error {
	name := filepath.Base(path)
	if wal.Classify(name) == wal.PartialFile {
		return nil
	}
	if stored, err := a.Has(ctx, name); err != nil || stored {
		return err // it is compared when its time to go has come
	}
	err := a.Archive(ctx, path, name)
	switch {
	case err == nil:
		out.Archived = append(out.Archived, name)
	case fault.Is(err, fault.Conflict): // its copy came the other way meanwhile
	case fault.Is(err, fault.Corrupt):
		out.Unfinished = append(out.Unfinished, Waiting{name, err.Error()})
	default:
		return err
	}
	return nil
}

// temporary reports whether a name is that of a file in the making.
func temporary(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, "~")
}

// takeIn archives a file, or sets it aside, and reports whether it has left its place.
func (a *Archive) takeIn(ctx context.Context, path string, now time.Time, out *Arrived) (moved bool, err error) {
	name := filepath.Base(path)
	kind := wal.Classify(name)
	if kind == wal.Unknown {
		out.Unknown = append(out.Unknown, name)
		return true, a.setAside(path, now, "unknown")
	}
	if kind == wal.HistoryFile || kind == wal.LabelFile {
		whole, err := endsWithNewline(path)
		if err != nil {
			return false, err
		}
		if !whole {
			out.Unfinished = append(out.Unfinished, Waiting{name, "its last line is not complete"})
			return false, nil
		}
	}
	err = a.Archive(ctx, path, name)
	switch {
	case err == nil:
		out.Archived = append(out.Archived, name)
		return true, fault.Wrap(fault.Internal, "remove", path, os.Remove(path))
	case fault.Is(err, fault.Conflict):
		out.Conflicts = append(out.Conflicts, name)
		return true, a.setAside(path, now, "duplicate")
	case fault.Is(err, fault.Corrupt):
		out.Unfinished = append(out.Unfinished, Waiting{name, err.Error()})
		return false, nil
	}
	if _, gone := os.Lstat(path); errors.Is(gone, fs.ErrNotExist) {
		return false, nil // pg_receivewal has finished a segment and renamed it
	}
	return false, err
}

// endsWithNewline tells a text file that is complete from one in the making.
func endsWithNewline(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fault.Wrap(fault.Internal, "read", path, err)
	}
	defer f.Close()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || end == 0 {
		return false, fault.Wrap(fault.Internal, "read", path, err)
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, end-1); err != nil {
		return false, fault.Wrap(fault.Internal, "read", path, err)
	}
	return last[0] == '\n', nil
}

// asideName is a name in the errors directory, of Barman's form.
func (a *Archive) asideName(name string, now time.Time, why string) string {
	return filepath.Join(a.layout.ErrorsDir, name+"."+now.UTC().Format("20060102T150405Z")+"."+why)
}

// setAside moves a file to the errors directory.
func (a *Archive) setAside(path string, now time.Time, why string) error {
	dest := a.asideName(filepath.Base(path), now, why)
	err := os.Rename(path, dest)
	if errors.Is(err, syscall.EXDEV) {
		if err = copyFile(path, dest); err == nil {
			err = os.Remove(path)
		}
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "move to "+dest, path, err)
	}
	return atomicfile.SyncDir(a.layout.ErrorsDir)
}

func copyFile(path, dest string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	return atomicfile.WriteFunc(dest, fs.FileMode(0o600), func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
}
