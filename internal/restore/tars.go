package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

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

// unpack streams an archive into the directory that is built.
func (c *copier) unpack(ctx context.Context, t *tree) error {
	if t.isData {
		if err := c.copyManifest(t); err != nil {
			return err
		}
	}
	buf := make([]byte, 256<<10)
	return t.tar.Each(ctx, nil, func(m basetar.Member) error {
		return fault.Wrap(fault.Internal, "restore file", filepath.Join(t.build, m.Name), c.member(t, m, buf))
	})
}

func (c *copier) member(t *tree, m basetar.Member, buf []byte) error {
	info := m.FileInfo()
	if t.isData && m.Name == controlFile {
		var err error
		c.last, err = m.Small()
		c.lastMember = m.Header
		return err
	}
	if t.isData && excluded(m.Name, info.IsDir()) {
		return nil
	}
	dst := filepath.Join(t.build, m.Name)
	switch {
	case info.IsDir():
		// A member may come before the directory that it lies in.
		if err := os.MkdirAll(dst, 0o700); err != nil {
			return err
		}
		return os.Chmod(dst, info.Mode().Perm()|0o700)
	case !info.Mode().IsRegular():
		return fault.New(fault.Corrupt, "unpack", m.Name, "it is neither a file nor a directory")
	}
	n, err := writeMember(dst, m, info.Mode().Perm()|0o600, m.ModTime, buf)
	if err == nil {
		c.add(n)
	}
	return err
}

// writeMember writes a file that was not there before.
func writeMember(dst string, r io.Reader, mode fs.FileMode, at time.Time, buf []byte) (int64, error) {
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(dst), 0o700); err == nil {
			out, err = os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		}
	}
	if err != nil {
		return 0, err
	}
	// os.File would read from r in its own way, past buf.
	n, err := io.CopyBuffer(struct{ io.Writer }{out}, r, buf)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return n, err
	}
	return n, os.Chtimes(dst, at, at)
}

func (c *copier) copyManifest(data *tree) error {
	src := filepath.Join(data.src, manifest.Name)
	info, err := os.Stat(src)
	if err != nil {
		return fault.Wrap(fault.Corrupt, "restore file", src, err)
	}
	n, err := copyFile(src, data.manifest(), info)
	if err == nil {
		c.add(n)
	}
	return fault.Wrap(fault.Internal, "restore file", data.manifest(), err)
}

// unpackControl places the last file, without which no server starts.
func (c *copier) unpackControl(data *tree) error {
	if c.lastMember == nil {
		return fault.New(fault.Corrupt, "restore file", controlFile, "%s does not hold it", data.tar.Path)
	}
	dst := filepath.Join(data.build, controlFile)
	n, err := writeMember(dst, strings.NewReader(string(c.last)), c.lastMember.FileInfo().Mode().Perm()|0o600, c.lastMember.ModTime, make([]byte, len(c.last)))
	if err == nil {
		c.add(n)
	}
	return fault.Wrap(fault.Internal, "restore file", dst, err)
}
