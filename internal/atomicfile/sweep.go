package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Temporary lists the temporary files in directories that killed writers left,
// if they are older than age. A directory that does not exist has none.
func Temporary(now time.Time, age time.Duration, dirs ...string) ([]string, error) {
	var out []string
	for _, dir := range dirs {
		left, err := temporary(dir, TempPrefix, func(e fs.DirEntry) bool {
			st, err := e.Info()
			return err == nil && now.Sub(st.ModTime()) >= age
		})
		if err != nil {
			return nil, err
		}
		out = append(out, left...)
	}
	return out, nil
}

// Sweep removes what Temporary lists.
func Sweep(now time.Time, age time.Duration, dirs ...string) error {
	return remove(Temporary(now, age, dirs...))
}

// SweepFile removes the temporary files that killed writers of one file left.
// The caller makes sure that nobody writes that file now.
func SweepFile(path string) error {
	return remove(temporary(filepath.Dir(path), tempOf(path), func(fs.DirEntry) bool { return true }))
}

func temporary(dir, prefix string, old func(fs.DirEntry) bool) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Internal, "list", dir, err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && old(e) {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, nil
}

func remove(paths []string, err error) error {
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.Internal, "remove", path, err)
		}
	}
	return err
}
