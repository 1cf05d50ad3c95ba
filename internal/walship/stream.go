package walship

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/md5" //nolint:gosec // a checksum of the protocol, no secret
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// lists are the names of the members that hold checksums.
var lists = map[string]func() hash.Hash{"SHA256SUMS": sha256.New, "MD5SUMS": md5.New}

const (
	sha256List = "SHA256SUMS"
	// mostFile bounds a file: segments have 1 GiB at most.
	mostFile = 1 << 30
	mostList = 1 << 20
)

// Pack writes the stream of one file.
func Pack(ctx context.Context, w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fault.Wrap(fault.Internal, "send", path, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fault.Wrap(fault.Internal, "send", path, err)
	}
	if !st.Mode().IsRegular() || st.Size() == 0 {
		return fault.New(fault.Usage, "send", path, "it is no file with content").WithHint("archive_command must end with: SERVER %%p")
	}
	name, sum := filepath.Base(path), sha256.New()
	out := tar.NewWriter(w)
	if err := out.WriteHeader(&tar.Header{Name: name, Size: st.Size(), Mode: 0o600, ModTime: st.ModTime(), Typeflag: tar.TypeReg}); err != nil {
		return fault.Wrap(fault.Internal, "send", path, err)
	}
	if _, err := io.CopyN(io.MultiWriter(out, sum), &interruptible{ctx, f}, st.Size()); err != nil {
		return fault.Wrap(fault.Internal, "send", path, err)
	}
	list := fmt.Sprintf("%x *%s\n", sum.Sum(nil), name)
	err = out.WriteHeader(&tar.Header{Name: sha256List, Size: int64(len(list)), Mode: 0o600, ModTime: st.ModTime(), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = io.WriteString(out, list)
	}
	if err == nil {
		err = out.Close()
	}
	return fault.Wrap(fault.Internal, "send", path, err)
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

// arrived is a file of a stream, spooled.
type arrived struct {
	name string
	spot *atomicfile.File
	sums map[string]string // by list
}

// Unpack reads a stream, and hands each file to deliver once all of the stream
// was read and the file's checksum is right. Files are spooled in dir; deliver
// leaves them there.
func Unpack(ctx context.Context, r io.Reader, dir string, deliver func(path, name string) error) ([]string, error) {
	var files []*arrived
	defer func() {
		for _, f := range files {
			f.spot.Abort()
		}
	}()
	listed := map[string]map[string]string{} // list, name, checksum
	in := tar.NewReader(&interruptible{ctx, r})
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fault.Wrap(fault.Corrupt, "read", "the stream", err)
		}
		if lists[h.Name] != nil {
			if listed[h.Name], err = readList(in); err != nil {
				return nil, err
			}
			continue
		}
		if err := acceptable(h); err != nil {
			return nil, err
		}
		f, err := spool(in, h, dir)
		if f != nil {
			files = append(files, f)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, fault.New(fault.Corrupt, "read", "the stream", "it holds no WAL file").
			WithHint("it comes from holdfast wal-archive --host or barman-wal-archive")
	}
	for _, f := range files {
		if err := f.check(listed); err != nil {
			return nil, err
		}
	}
	var names []string
	for _, f := range files {
		if err := deliver(f.spot.Name(), f.name); err != nil {
			return names, err
		}
		names = append(names, f.name)
	}
	return names, nil
}

func acceptable(h *tar.Header) error {
	refuse := func(why string) error {
		return fault.New(fault.Usage, "receive", fmt.Sprintf("%q", h.Name), "%s", why)
	}
	switch {
	case wal.Classify(h.Name) == wal.Unknown:
		return refuse("it is neither a segment, a backup label, a partial segment nor a history file")
	case h.Typeflag != tar.TypeReg:
		return refuse("it is no regular file")
	case h.Size <= 0 || h.Size > mostFile:
		return refuse(fmt.Sprintf("it has %d bytes", h.Size))
	}
	return nil
}

func spool(in io.Reader, h *tar.Header, dir string) (*arrived, error) {
	out, err := atomicfile.Create(filepath.Join(dir, h.Name), 0o600)
	if err != nil {
		return nil, err
	}
	f := &arrived{name: h.Name, spot: out, sums: map[string]string{}}
	hashes := map[string]hash.Hash{}
	to := []io.Writer{out}
	for list, make := range lists {
		hashes[list] = make()
		to = append(to, hashes[list])
	}
	if n, err := io.Copy(io.MultiWriter(to...), in); err != nil || n != h.Size {
		return f, fault.Wrap(fault.Corrupt, "receive", h.Name, cutShort(err, n, h.Size))
	}
	for list, h := range hashes {
		f.sums[list] = hex.EncodeToString(h.Sum(nil))
	}
	if err := out.Close(); err != nil {
		return f, fault.Wrap(fault.Internal, "write", out.Name(), err)
	}
	return f, fault.Wrap(fault.Internal, "write", out.Name(), os.Chtimes(out.Name(), h.ModTime, h.ModTime))
}

func cutShort(err error, n, want int64) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("it ends after %d of %d bytes", n, want)
}

// readList reads lines of a checksum and a name, as sha256sum writes them.
func readList(r io.Reader) (map[string]string, error) {
	out := map[string]string{}
	lines := bufio.NewScanner(io.LimitReader(r, mostList))
	for lines.Scan() {
		sum, name, ok := strings.Cut(lines.Text(), " ")
		if !ok {
			return nil, fault.New(fault.Corrupt, "read", "the list of checksums", "%q is no line of it", lines.Text())
		}
		out[strings.TrimLeft(name, " *")] = strings.ToLower(sum)
	}
	return out, fault.Wrap(fault.Corrupt, "read", "the list of checksums", lines.Err())
}

// check refuses a file that no list names, or that is another one than listed.
func (f *arrived) check(listed map[string]map[string]string) error {
	known := false
	for list, sums := range listed {
		want, is := sums[f.name]
		if is && want != f.sums[list] {
			return fault.New(fault.Corrupt, "receive", f.name, "%s says %s, what arrived has %s", list, want, f.sums[list]).
				WithHint("it was damaged on its way, or while it was read; PostgreSQL sends it again")
		}
		known = known || is
	}
	if known {
		return nil
	}
	names := make([]string, 0, len(lists))
	for list := range lists {
		names = append(names, list)
	}
	slices.Sort(names)
	return fault.New(fault.Corrupt, "receive", f.name, "the stream has no checksum for it in %s", strings.Join(names, " or "))
}
