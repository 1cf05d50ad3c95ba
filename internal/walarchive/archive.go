package walarchive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

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

	Bucket *Bucket // where the files are, if not in the layout's directory
}

// Archive is the WAL archive of one server.
type Archive struct {
	layout catalog.Layout
	opt    Options
	shelf  shelf
	show   func(*atomicfile.File) error // gives what is fetched its name
}

// Open names an archive; it reads and writes nothing.
func Open(l catalog.Layout, opt Options) *Archive {
	a := &Archive{layout: l, opt: opt, shelf: &directory{l.WALDir, opt.Compression}, show: (*atomicfile.File).Commit}
	if opt.Bucket != nil {
		a.shelf = &bucket{Bucket: *opt.Bucket, server: l.Server, written: opt.Compression.Algorithm}
	}
	return a
}

// Where is the place of a stored file: its path, or the URL of its object.
func (a *Archive) Where(e Entry) string { return a.shelf.where(e) }

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
	after, lost := a.storedEvent(ctx, hook.Archive, name)
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
	in, err := openSource(src)
	if err != nil {
		return fault.Wrap(fault.Internal, "archive", src, err)
	}
	defer in.Close()
	st, err := a.inspect(in, name)
	if err != nil {
		return err
	}
	form, compress, err := a.form(in, st, name)
	if err != nil {
		return err
	}
	from := delivery{source: st, write: func(w io.Writer) error { return a.fill(ctx, w, in, form, compress) }}
	if !compress && form.Encryption == "" {
		from.plain = &interruptible{ctx, io.NewSectionReader(in, 0, st.Size())}
	}
	entry, err := a.shelf.put(ctx, form, from)
	if errors.Is(err, fs.ErrExist) {
		return a.again(ctx, in, name)
	}
	if err != nil {
		return err
	}
	return a.appendLine(ctx, entry, listedInTail)
}

// openSource opens a file that is to be archived. It does not wait for a writer, which a pipe may never have.
func openSource(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
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

// form is how in is to be stored, and whether it is still to be compressed for that.
func (a *Archive) form(in *os.File, st fs.FileInfo, name string) (e Entry, compress bool, err error) {
	e = Entry{Name: name, Time: seconds(st.ModTime())}
	head := make([]byte, codec.HeadSize)
	n, err := in.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return e, false, fault.Wrap(fault.Internal, "read", in.Name(), err)
	}
	e.Compression = codec.Detect(head[:n])
	if a.opt.Compression.Marked(head[:n]) {
		e.Compression = codec.Custom
	}
	if e.Compression == codec.None {
		e.Compression, compress = a.opt.Compression.Algorithm, a.opt.Compression.Algorithm != codec.None
	}
	// Histories hold no data, and stay clear: what can be restored, and what must
	// be kept, is to be known without the secret key.
	if a.opt.Keys.Encrypts() && wal.Classify(name) != wal.HistoryFile {
		e.Encryption = gpg.Name
	}
	return e, compress, nil
}

// fill writes in as it is to be stored.
func (a *Archive) fill(ctx context.Context, out io.Writer, in *os.File, form Entry, compress bool) error {
	if form.Encryption == "" {
		return a.compress(ctx, out, in, compress)
	}
	sealed, err := a.opt.Keys.NewWriter(ctx, out)
	if err != nil {
		return err
	}
	err = a.compress(ctx, sealed, in, compress)
	if cerr := sealed.Close(); cerr != nil {
		return cerr // why gpg ended says more than the broken pipe
	}
	return err
}

func (a *Archive) compress(ctx context.Context, out io.Writer, in *os.File, compress bool) error {
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if !compress {
		_, err := io.Copy(out, in) // in the kernel where the file systems can
		return err
	}
	w, err := a.opt.Compression.NewWriter(out)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, &interruptible{ctx, in})
	return cmp.Or(err, w.Close())
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

// again judges a file whose name is taken, and finishes what an interrupted
// archiving of the same file left undone.
func (a *Archive) again(ctx context.Context, in *os.File, name string) error {
	stored, entry, err := a.openStored(ctx, name)
	same := false
	if err == nil {
		defer stored.Close()
		same, err = a.sameContent(ctx, in.Name(), stored)
	}
	if gpg.IsLocked(err) {
		same, err = sameMoment(in, entry)
	}
	if err != nil {
		return err
	}
	if !same {
		ours, err := a.describeStored(ctx, name)
		if err != nil {
			return err
		}
		theirs, err := a.describeFile(ctx, in.Name())
		if err != nil {
			return err
		}
		return fault.New(fault.Conflict, "archive", name, "the archive holds another file of this name: %s has %s, %s has %s", a.shelf.where(entry), ours, in.Name(), theirs).
			WithHint("two servers archive to %s, or a server was restored and continued on its old timeline: give each server a name of its own, and move %s away only when you are sure that no backup needs it", a.layout.Server, a.shelf.where(entry))
	}
	if a.opt.Bucket != nil { // the store dates objects by its own clock
		st, err := in.Stat()
		if err != nil {
			return fault.Wrap(fault.Internal, "stat", in.Name(), err)
		}
		entry.Time = seconds(st.ModTime())
	}
	return a.appendLine(ctx, entry, listedAnywhere)
}

// sameMoment stands in for the content of a file that cannot be opened here: it
// has the time of the one that it was made of.
func sameMoment(in *os.File, stored Entry) (bool, error) {
	st, err := in.Stat()
	return err == nil && seconds(st.ModTime()) == stored.Time, fault.Wrap(fault.Internal, "stat", in.Name(), err)
}

// describeStored is a file's size and hash after expansion, for people who compare.
func (a *Archive) describeStored(ctx context.Context, name string) (string, error) {
	c, _, err := a.openStored(ctx, name)
	return described(c, err)
}

func (a *Archive) describeFile(ctx context.Context, path string) (string, error) {
	c, err := a.openFile(ctx, path)
	return described(c, err)
}

// described describes content, also one that could not be opened for err.
func described(c *content, err error) (string, error) {
	var sum [sha256.Size]byte
	var size int64
	if err == nil {
		defer c.Close()
		sum, size, err = hashContent(c)
	}
	if gpg.IsLocked(err) {
		return "content that cannot be decrypted here", nil
	}
	return fmt.Sprintf("%d bytes with SHA-256 %x", size, sum), err
}
