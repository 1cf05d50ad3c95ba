package walarchive

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/gpg"
	"github.com/holdfast-pg/holdfast/internal/hook"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Options are those of the server.
type Options struct {
	Compression codec.Compression
	Keys        *gpg.Keys // that segments are encrypted for, if they are; nil for none
	SegmentSize uint64    // 0: what each segment's header says
	Hooks       *hook.Hooks

	Batch          int  // most files of the incoming directory that one run archives; 0 for all
	Streaming      bool // pg_receivewal writes into the streaming directory
	StreamingBatch int  // most files of that which one run archives; 0 for all
}

// Archive is the WAL archive of one server.
type Archive struct {
	layout catalog.Layout
	opt    Options
}

// Open names an archive; it reads and writes nothing.
func Open(l catalog.Layout, opt Options) *Archive { return &Archive{l, opt} }

// Path is where a file is stored.
func (a *Archive) Path(name string) string {
	return filepath.Join(a.layout.WALDir, wal.HashDir(name), name)
}

// Archive stores one file. When it returns nil the file is durable and listed.
// It may be called again, also after a kill: the same content is no error,
// another content under the same name is fault.Conflict and changes nothing.
// The scripts of the event run each time.
func (a *Archive) Archive(ctx context.Context, src, name string) error {
	if !a.opt.Hooks.Has(hook.Archive) {
		return a.archive(ctx, src, name)
	}
	before, err := a.event(hook.Archive, src)
	if err == nil {
		err = a.opt.Hooks.Before(ctx, before)
	}
	if err != nil {
		return err
	}
	err = a.archive(ctx, src, name)
	after, lost := a.event(hook.Archive, a.Path(name))
	if lost != nil {
		after = before
	}
	if err != nil {
		after.Err = err.Error()
	}
	return errors.Join(err, a.opt.Hooks.After(ctx, after))
}

// Deliver is Archive for those that deliver a file again until it is taken. A
// promotion leaves an unfinished segment, which the server and pg_receivewal
// both deliver, and which differ behind the last record: the one that comes
// second is kept in the errors directory.
func (a *Archive) Deliver(ctx context.Context, src, name string, now time.Time) error {
	err := a.Archive(ctx, src, name)
	if !fault.Is(err, fault.Conflict) || wal.Classify(name) != wal.PartialFile {
		return err
	}
	dest := a.asideName(name, now, "duplicate")
	return fault.Wrap(fault.Internal, "copy to "+dest, src, copyFile(src, dest))
}

func (a *Archive) archive(ctx context.Context, src, name string) error {
	in, err := os.Open(src)
	if err != nil {
		return fault.Wrap(fault.Internal, "archive", src, err)
	}
	defer in.Close()
	st, err := a.inspect(in, name)
	if err != nil {
		return err
	}
	entry, err := a.store(ctx, in, st, name)
	if errors.Is(err, fs.ErrExist) {
		return a.again(ctx, in, name)
	}
	if err != nil {
		return err
	}
	if err := a.appendLine(ctx, entry, listedInTail); err != nil {
		return err
	}
	return a.sweepName(name)
}

// inspect refuses what is no WAL file, or not a whole one.
func (a *Archive) inspect(in *os.File, name string) (fs.FileInfo, error) {
	kind := wal.Classify(name)
	if kind == wal.Unknown {
		return nil, fault.New(fault.Usage, "archive", name, "it is neither a segment, a backup label, a partial segment nor a history file").
			WithHint("archive_command must end with: wal-archive SERVER %%p")
	}
	st, err := in.Stat()
	switch {
	case err != nil:
		return nil, fault.Wrap(fault.Internal, "archive", in.Name(), err)
	case !st.Mode().IsRegular():
		return nil, fault.New(fault.Usage, "archive", in.Name(), "it is no regular file")
	case st.Size() == 0:
		return nil, fault.New(fault.Corrupt, "archive", in.Name(), "it is empty")
	case kind != wal.SegmentFile:
		return st, nil
	}
	return st, a.checkSegment(in, st.Size(), name)
}

// checkSegment verifies size and first page of a segment; in may be compressed already.
func (a *Archive) checkSegment(in *os.File, stored int64, name string) error {
	r, algorithm, err := a.opt.Compression.NewReader(io.NewSectionReader(in, 0, stored))
	if err != nil {
		return fault.Wrap(fault.Corrupt, "read", in.Name(), err)
	}
	defer r.Close()
	head := make([]byte, wal.LongHeaderSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return fault.New(fault.Corrupt, "check WAL segment", in.Name(), "it is too short: %w", err)
	}
	size := stored
	if algorithm != codec.None {
		rest, err := io.Copy(io.Discard, r)
		if err != nil {
			return fault.Wrap(fault.Corrupt, "expand", in.Name(), err)
		}
		size = rest + int64(len(head))
	}
	want := a.opt.SegmentSize
	if want == 0 {
		want = uint64(binary.LittleEndian.Uint32(head[segmentSizeAt:]))
	}
	if !wal.ValidSegmentSize(want) || uint64(size) != want {
		return fault.New(fault.Corrupt, "check WAL segment", in.Name(), "it has %d bytes, a segment of this server has %d", size, want)
	}
	seg, err := wal.ParseSegment(name, want)
	if err != nil {
		return err
	}
	return fault.Wrap(fault.Corrupt, "check", in.Name(), wal.CheckPage(head, seg, 0))
}

// store copies in to its place. The error is fs.ErrExist when the place is taken.
func (a *Archive) store(ctx context.Context, in *os.File, st fs.FileInfo, name string) (_ Entry, err error) {
	path := a.Path(name)
	if _, err := os.Lstat(path); err == nil {
		return Entry{}, fs.ErrExist
	}
	var out *atomicfile.File
	for try := 0; ; try++ {
		err := a.ensureDir(filepath.Dir(path))
		if err == nil {
			out, err = atomicfile.Create(path, st.Mode().Perm())
		}
		if err == nil {
			break
		}
		// A deletion may prune the directory between the two.
		if try == 3 || !errors.Is(err, fs.ErrNotExist) {
			return Entry{}, err
		}
	}
	defer out.Abort()
	entry := Entry{Name: name, Time: seconds(st.ModTime())}
	if err = a.fill(ctx, out, in, &entry); err == nil {
		entry.Size, err = out.Seek(0, io.SeekEnd)
	}
	if err == nil {
		err = os.Chtimes(out.Name(), st.ModTime(), st.ModTime())
	}
	if err == nil {
		err = out.CommitNew()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Another process stored the same name, and swept our temporary file.
		return entry, fs.ErrExist
	case errors.Is(err, fs.ErrExist):
		return entry, err
	}
	return entry, fault.Wrap(fault.Internal, "archive", path, err)
}

// fill writes the stored form of in, and enters how it is compressed and encrypted.
func (a *Archive) fill(ctx context.Context, out *atomicfile.File, in *os.File, entry *Entry) (err error) {
	if !a.toEncrypt(entry.Name) {
		entry.Compression, err = a.compress(ctx, out, in)
		return err
	}
	entry.Encryption = gpg.Name
	sealed, err := a.opt.Keys.NewWriter(ctx, out)
	if err != nil {
		return err
	}
	entry.Compression, err = a.compress(ctx, sealed, in)
	if cerr := sealed.Close(); cerr != nil {
		return cerr // why gpg ended says more than the broken pipe
	}
	return err
}

// toEncrypt leaves out histories, which hold no data: what can be restored, and
// what must be kept, is to be known without the secret key.
func (a *Archive) toEncrypt(name string) bool {
	return a.opt.Keys.Encrypts() && wal.Classify(name) != wal.HistoryFile
}

// compress writes in as the archive keeps it, and says which compression it has.
func (a *Archive) compress(ctx context.Context, out io.Writer, in *os.File) (codec.Algorithm, error) {
	head := make([]byte, codec.HeadSize)
	n, err := in.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return codec.None, err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return codec.None, err
	}
	already := codec.Detect(head[:n])
	if a.opt.Compression.Marked(head[:n]) {
		already = codec.Custom
	}
	if already != codec.None || a.opt.Compression.Algorithm == codec.None {
		_, err := io.Copy(out, in) // in the kernel where the file systems can
		return already, err
	}
	w, err := a.opt.Compression.NewWriter(out)
	if err != nil {
		return codec.None, err
	}
	_, err = io.Copy(w, &interruptible{ctx, in})
	return a.opt.Compression.Algorithm, cmp.Or(err, w.Close())
}

type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, fault.Wrap(fault.Cancelled, "copy WAL", "", context.Cause(i.ctx))
	}
	return i.r.Read(p)
}

// ensureDir creates a hash directory. Its name is durable before the first
// file lies in it, so a directory that is not empty needs no second look.
func (a *Archive) ensureDir(dir string) error {
	if dir == filepath.Clean(a.layout.WALDir) {
		return nil
	}
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Mkdir(dir, 0o755)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fault.Wrap(fault.Internal, "create directory", dir, err)
		}
		return atomicfile.SyncDir(a.layout.WALDir)
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "open directory", dir, err)
	}
	defer d.Close()
	if _, err := d.Readdirnames(1); errors.Is(err, io.EOF) {
		return atomicfile.SyncDir(a.layout.WALDir)
	}
	return nil
}

// again judges a file whose name is taken, and finishes what an interrupted
// archiving of the same file left undone.
func (a *Archive) again(ctx context.Context, in *os.File, name string) error {
	path := a.Path(name)
	same, err := a.sameContent(ctx, in.Name(), path)
	if gpg.IsLocked(err) {
		same, err = a.sameMoment(in, path)
	}
	if err != nil {
		return err
	}
	if !same {
		ours, err := a.describe(ctx, path)
		if err != nil {
			return err
		}
		theirs, err := a.describe(ctx, in.Name())
		if err != nil {
			return err
		}
		return fault.New(fault.Conflict, "archive", name, "the archive holds another file of this name: %s has %s, %s has %s", path, ours, in.Name(), theirs).
			WithHint("two servers archive to %s, or a server was restored and continued on its old timeline: give each server a name of its own, and move %s away only when you are sure that no backup needs it", a.layout.Server, path)
	}
	if err := atomicfile.SyncDir(filepath.Dir(path)); err != nil {
		return err
	}
	entry, err := a.entryOf(path)
	if err != nil {
		return err
	}
	if err := a.appendLine(ctx, entry, listedAnywhere); err != nil {
		return err
	}
	return a.sweepName(name)
}

// sameMoment stands in for the content of a file that cannot be opened here: it
// has the time of the one that it was made of.
func (a *Archive) sameMoment(in *os.File, path string) (bool, error) {
	ours, err := os.Stat(path)
	if err != nil {
		return false, fault.Wrap(fault.Internal, "stat", path, err)
	}
	theirs, err := in.Stat()
	if err != nil {
		return false, fault.Wrap(fault.Internal, "stat", in.Name(), err)
	}
	return ours.ModTime().Equal(theirs.ModTime()), nil
}

// sweepName removes what killed attempts to store this name left behind.
func (a *Archive) sweepName(name string) error {
	return atomicfile.SweepFile(a.Path(name))
}

// entryOf describes a stored file.
func (a *Archive) entryOf(path string) (Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return Entry{}, fault.Wrap(fault.Internal, "read", path, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Entry{}, fault.Wrap(fault.Internal, "stat", path, err)
	}
	head := make([]byte, codec.HeadSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Entry{}, fault.Wrap(fault.Internal, "read", path, err)
	}
	e := Entry{Name: filepath.Base(path), Size: st.Size(), Time: seconds(st.ModTime())}
	if gpg.Detect(head[:n]) {
		e.Encryption = gpg.Name // its compression cannot be seen
	} else {
		e.Compression = a.opt.Compression.Detect(head[:n])
	}
	return e, nil
}

// describe is a file's size and hash after expansion, for people who compare.
func (a *Archive) describe(ctx context.Context, path string) (string, error) {
	sum, size, err := a.hashContent(ctx, path)
	if gpg.IsLocked(err) {
		return "content that cannot be decrypted here", nil
	}
	return fmt.Sprintf("%d bytes with SHA-256 %x", size, sum), err
}
