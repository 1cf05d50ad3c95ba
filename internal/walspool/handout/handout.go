// Package handout hands a WAL segment out of the directory into which walspool fetched it.
//
// It imports os and hash/crc32 alone: a program can do this while most of what it links is not
// initialized yet.
package handout

import (
	"hash/crc32"
	"io"
	"os"
)

// Dir is the name of the directory, in pg_wal.
const Dir = ".holdfast-wal-spool"

// Receipt is the name of a file in it that is no segment: what a program leaves there for its next process.
const Receipt = "receipt"

// Beside is the directory for segments that are wanted as dest.
func Beside(dest string) string {
	for i := len(dest) - 1; i >= 0; i-- {
		if dest[i] == '/' {
			return dest[:i+1] + Dir
		}
	}
	return Dir
}

// Take gives a segment of a place the name dest; false when there is none that is right. What is wrong
// is removed.
func Take(dir, place, name, dest string) bool {
	path := Find(dir, name)
	if path == "" {
		return false
	}
	f, err := open(path)
	if err == nil {
		var sum string
		sum, _, err = Sum(place, f)
		_ = f.Close() // it was only read
		if err == nil && path == Name(dir, name, sum) && os.Rename(path, dest) == nil {
			return true // durable it need not be: after a crash PostgreSQL asks again
		}
	}
	_ = os.Remove(path)
	return false
}

// open opens a file; what has taken its place must not make us wait, nor be handed out.
func open(path string) (*os.File, error) {
	st, err := os.Lstat(path)
	if err == nil && !st.Mode().IsRegular() {
		err = os.ErrInvalid
	}
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// Find is the path of a spooled segment; "" when there is none.
func Find(dir, name string) string {
	for _, e := range entries(dir) {
		if n := len(name); len(e) > n && e[:n] == name && e[n] == '.' {
			return dir + "/" + e
		}
	}
	return ""
}

// Name is the path of a segment whose sum is this.
func Name(dir, name, sum string) string { return dir + "/" + name + "." + sum }

// Sum is the checksum of a whole segment and of its place, with the segment's size.
func Sum(place string, segment io.Reader) (sum string, size int64, err error) {
	h := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	_, _ = io.WriteString(h, place) // a hash takes all
	size, err = io.Copy(h, segment)
	const digits = "0123456789abcdef"
	var text [8]byte
	for i := range text {
		text[i] = digits[h.Sum32()>>(28-4*i)&15]
	}
	return string(text[:]), size, err
}

// Tidy removes a directory without segments.
func Tidy(dir string) {
	if left := entries(dir); len(left) == 1 && left[0] == Receipt {
		_ = os.Remove(dir + "/" + Receipt)
	}
	_ = os.Remove(dir) // if it is empty
}

// entries are the names in a directory; none where they cannot be told.
func entries(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	names, _ := f.Readdirnames(-1) // those before the error
	return names
}
