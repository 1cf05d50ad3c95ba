package restore

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// measureTars finds out from the manifest what the archives unpack to.
func measureTars(src Source, plan *restoreplan.Plan, trees []*tree) error {
	below := map[string]*tree{}
	for i, t := range plan.Tablespaces {
		below[fmt.Sprint(t.OID)] = trees[i+1]
	}
	path := filepath.Join(src.Data, manifest.Name)
	f, err := os.Open(path)
	if err != nil {
		return fault.Wrap(fault.Corrupt, "read manifest", path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fault.Wrap(fault.Internal, "stat", path, err)
	}
	trees[0].files, trees[0].bytes = 1, info.Size()
	control := false
	_, err = manifest.Read(f, path, func(f manifest.File) error {
		t := trees[0]
		if rest, ok := strings.CutPrefix(f.Path, "pg_tblspc/"); ok {
			oid, _, _ := strings.Cut(rest, "/")
			if other := below[oid]; other != nil {
				t = other
			}
		}
		control = control || f.Path == controlFile
		t.files++
		t.bytes += f.Size
		return nil
	})
	if err == nil && !control {
		err = lacksControl(src, fs.ErrNotExist)
	}
	return err
}

// measureObjects adds up what the objects have. They expand to no less.
func measureObjects(trees []*tree) {
	for _, t := range trees {
		t.stored = true
		for _, a := range t.tars {
			t.bytes += a.Size
		}
	}
}

// unpack streams the nth archive of a tree into the directory that is built.
func (c *copier) unpack(ctx context.Context, t *tree, n int) error {
	if err := ctx.Err(); err != nil || c.ledger.done(t.tars[n].Path) {
		return err
	}
	if t.isData && !t.stored {
		if err := c.copyManifest(t); err != nil {
			return err
		}
	}
	var progress func(int64)
	if t.stored {
		progress = c.tell
	}
	buf, note := make([]byte, 256<<10), c.ledger.begin(t.tars[n].Path, n)
	err := t.tars[n].Each(ctx, progress, func(m basetar.Member) error {
		if t.stored && t.tars[n].Misplaced(m) {
			return fault.New(fault.Corrupt, "read", t.tars[n].Path, "it holds %s, which does not belong to %s", m.Name, t.what).
				WithHint("its content is that of another object; restore another backup")
		}
		return fault.Wrap(fault.Internal, "restore file", filepath.Join(t.build, m.Name), c.member(t, n, m, buf, note))
	})
	if err == nil {
		c.ledger.add(note)
	}
	return err
}

func (c *copier) member(t *tree, n int, m basetar.Member, buf []byte, note *unit) error {
	info := m.FileInfo()
	if t.isData && m.Name == controlFile {
		content, err := m.Small()
		if err == nil {
			c.unpacked.keepControl(m.Header, content, n)
			note.hold(m.Header, content)
		}
		return err
	}
	if t.isData && excluded(m.Name, info.IsDir()) {
		return nil
	}
	dst := filepath.Join(t.build, m.Name)
	switch {
	case t.isData && m.Name == manifest.Name:
		dst = t.manifest()
	case info.IsDir():
		// A member may come before the directory that it lies in.
		if err := os.MkdirAll(dst, 0o700); err != nil {
			return err
		}
		if note != nil {
			note.add(stampOfDirectory(c.unpacked.seed, dst))
		}
		return os.Chmod(dst, info.Mode().Perm()|0o700)
	case t.stored && info.Mode()&fs.ModeSymlink != 0:
		switch m.Name {
		case restoreplan.PlainWALDir: // made anew
		case "global", "pg_tblspc", restoreplan.RecoveryWALDir: // what is written there must stay here
			return fault.New(fault.Corrupt, "unpack", m.Name, "it is a link to %s, not a directory", m.Linkname)
		default:
			c.unpacked.linkLater(dst, m.Linkname)
			note.link(dst, m.Linkname)
		}
		return nil
	}
	if !info.Mode().IsRegular() {
		return fault.New(fault.Corrupt, "unpack", m.Name, "it is neither a file nor a directory")
	}
	out, again, err := c.unpacked.create(dst, n, info.Mode().Perm()|0o600)
	if out == nil {
		return err
	}
	size, err := fill(out, m, m.ModTime, buf)
	if err != nil {
		return err
	}
	if !again {
		c.add(size)
	}
	if note != nil {
		note.add(stampOf(c.unpacked.seed, dst, size, m.ModTime))
	}
	if !t.stored {
		c.tell(size)
	}
	return nil
}

// fill writes a new file and closes it.
func fill(out *os.File, r io.Reader, at time.Time, buf []byte) (int64, error) {
	// os.File would read from r in its own way, past buf.
	n, err := io.CopyBuffer(struct{ io.Writer }{out}, r, buf)
	if err == nil {
		// By its descriptor: the name may be another file's by now.
		err = unix.Futimes(int(out.Fd()), []unix.Timeval{fileTime(at), fileTime(at)})
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return n, err
}

// fileTime is a time as a file gets it.
func fileTime(at time.Time) unix.Timeval { return unix.NsecToTimeval(at.UnixNano()) }

func (c *copier) copyManifest(data *tree) error {
	src := filepath.Join(data.src, manifest.Name)
	info, err := os.Stat(src)
	if err != nil {
		return fault.Wrap(fault.Corrupt, "restore file", src, err)
	}
	n, err := copyFile(src, data.manifest(), info)
	if err == nil {
		c.add(n)
		c.tell(n)
	}
	return fault.Wrap(fault.Internal, "restore file", data.manifest(), err)
}

// unpackControl places the last file, without which no server starts.
func (c *copier) unpackControl(data *tree) error {
	dst := filepath.Join(data.build, controlFile)
	u := c.unpacked
	if u.control == nil {
		return fault.New(fault.Corrupt, "restore file", controlFile, "%s does not hold it", names(data.tars))
	}
	out, err := createIn(dst, u.control.FileInfo().Mode().Perm()|0o600)
	if err == nil {
		var n int64
		if n, err = fill(out, strings.NewReader(string(u.content)), u.control.ModTime, make([]byte, len(u.content))); err == nil {
			c.add(n)
		}
	}
	return fault.Wrap(fault.Internal, "restore file", dst, err)
}

// names are those of archives, for people.
func names(tars []basetar.Archive) string {
	var out []string
	for _, a := range tars {
		out = append(out, a.Path)
	}
	return strings.Join(out, ", ")
}

// labelled makes sure that what was unpacked from objects holds the label: without it a
// server would start from a wrong position and not notice.
func labelled(src Source, data *tree) error {
	if src.Objects == nil {
		return nil
	}
	_, err := os.Lstat(filepath.Join(data.build, "backup_label"))
	if err == nil {
		return nil
	}
	return fault.New(fault.Corrupt, "restore", data.id, "none of %s holds backup_label: %w", names(src.Objects[0]), err).
		WithHint("restore another backup")
}
