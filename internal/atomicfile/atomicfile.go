// Package atomicfile writes files that are complete or absent, whatever dies.
//
// A write goes to a temporary name in the same directory, is fsynced, renamed
// over the final name, and the directory is fsynced. It is not a general file
// helper: reading and locking live with their users.
package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// TempPrefix begins the name of every file that a killed write may leave
// behind; whoever cleans up a directory may remove old files of that name.
const TempPrefix = ".holdfast-tmp-"

// Hook, when set by a main that was built for fault injection, is called
// before each named step of a write: "create", "write", "sync", "rename", "syncdir".
var Hook func(step, path string)

func step(name, path string) {
	if Hook != nil {
		Hook(name, path)
	}
}

// Write replaces path by data, with the permission bits perm.
func Write(path string, data []byte, perm fs.FileMode) error {
	return WriteFunc(path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteFunc replaces path by what fill writes. When fill fails nothing changes.
func WriteFunc(path string, perm fs.FileMode, fill func(io.Writer) error) (err error) {
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	defer f.Abort()
	step("write", path)
	if err := fill(f.File); err != nil {
		return fault.Wrap(fault.Internal, "write", path, err)
	}
	return f.Commit()
}

// File is a write that Commit makes visible under its final name.
type File struct {
	*os.File
	path string
	done bool
}

// Create begins a write of path.
func Create(path string, perm fs.FileMode) (*File, error) {
	step("create", path)
	f, err := os.CreateTemp(filepath.Dir(path), tempOf(path)+"*")
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "create", path, err)
	}
	if err := f.Chmod(perm); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, fault.Wrap(fault.Internal, "create", path, err)
	}
	return &File{File: f, path: path}, nil
}

// Commit makes the content durable and gives it its final name.
func (f *File) Commit() error {
	if err := f.sync(); err != nil {
		return err
	}
	step("rename", f.path)
	if err := os.Rename(f.Name(), f.path); err != nil {
		return fault.Wrap(fault.Internal, "rename to", f.path, err)
	}
	f.done = true
	step("syncdir", f.path)
	return SyncDir(filepath.Dir(f.path))
}

// Show is Commit for content that can be had again: whoever opens the final name finds all of it,
// but nobody waits for the disk, and when the host crashes the file may be lost or empty.
func (f *File) Show() error {
	if err := f.Close(); err != nil {
		return fault.Wrap(fault.Internal, "close", f.path, err)
	}
	step("rename", f.path)
	if err := os.Rename(f.Name(), f.path); err != nil {
		return fault.Wrap(fault.Internal, "rename to", f.path, err)
	}
	f.done = true
	return nil
}

// CommitNew is Commit, but it fails with an error that is fs.ErrExist when the
// final name is taken; that file stays as it is.
func (f *File) CommitNew() error {
	if err := f.sync(); err != nil {
		return err
	}
	step("rename", f.path)
	if err := unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, f.path, unix.RENAME_NOREPLACE); err != nil {
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
			return &fs.PathError{Op: "rename", Path: f.path, Err: err}
		}
		// The file system knows no RENAME_NOREPLACE: link refuses an existing name.
		if err := os.Link(f.Name(), f.path); err != nil {
			return err
		}
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
	}
	f.done = true
	step("syncdir", f.path)
	return SyncDir(filepath.Dir(f.path))
}

func (f *File) sync() error {
	step("sync", f.path)
	if err := f.Sync(); err != nil {
		return fault.Wrap(fault.Internal, "fsync", f.path, err)
	}
	if err := f.Close(); err != nil {
		return fault.Wrap(fault.Internal, "close", f.path, err)
	}
	return nil
}

// Abort removes what was written; after a Commit it does nothing.
func (f *File) Abort() {
	if f.done {
		return
	}
	f.done = true
	f.Close()
	os.Remove(f.Name())
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fault.Wrap(fault.Internal, "open directory", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fault.Wrap(fault.Internal, "fsync directory", dir, err)
	}
	return nil
}

// sanitise keeps a temporary name within the limit of 255 bytes.
// tempOf begins the names of the temporary files of a file.
func tempOf(path string) string { return TempPrefix + sanitise(filepath.Base(path)) + "-" }

func sanitise(base string) string {
	base = strings.ReplaceAll(base, "*", "_")
	if len(base) > 180 {
		base = base[:180]
	}
	return base
}
