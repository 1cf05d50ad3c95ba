package manifest

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"slices"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Checker compares files that come as streams, each once and in any order, with
// a manifest. It may be used by several goroutines.
type Checker struct {
	tally
	path    string
	seed    maphash.Seed
	entries []entry // by path
	seen    []bool  // of entries, guarded by mu; apart, so that looking up needs no lock
}

// entry is what is remembered of a file: 24 bytes, whatever its name. The hashes
// are seeded, so that no file can be made to look like another one.
type entry struct {
	path, content uint64
	algorithm     uint8 // among algorithms
}

var algorithms = []Algorithm{None, CRC32C, SHA224, SHA256, SHA384, SHA512}

// NewChecker reads a manifest.
func NewChecker(path string) (*Checker, error) {
	c := &Checker{path: path, seed: maphash.MakeSeed()}
	var err error
	c.report.Summary, err = c.read(func(f File) error {
		c.entries = append(c.entries, entry{path: maphash.String(c.seed, f.Path), content: c.content(f.Size, f.Checksum),
			algorithm: uint8(slices.Index(algorithms, f.Algorithm))})
		return nil
	})
	slices.SortFunc(c.entries, func(a, b entry) int { return cmp.Compare(a.path, b.path) })
	c.seen = make([]bool, len(c.entries))
	return c, err
}

func (c *Checker) read(each func(File) error) (Summary, error) {
	f, err := os.Open(c.path)
	if err != nil {
		return Summary{}, fault.Wrap(fault.Internal, "read manifest", c.path, err)
	}
	defer f.Close()
	return Read(f, c.path, each)
}

// content stands for a file's size and checksum.
func (c *Checker) content(size int64, checksum []byte) uint64 {
	return maphash.Bytes(c.seed, fmt.Appendf(nil, "%d %x", size, checksum))
}

func (c *Checker) find(rel string) (i int, ok bool) {
	return slices.BinarySearchFunc(c.entries, maphash.String(c.seed, rel), func(e entry, h uint64) int { return cmp.Compare(e.path, h) })
}

// File reads a file to its end, by way of buf. The error is the reader's; what
// is wrong with the file is in the report.
func (c *Checker) File(rel string, r io.Reader, buf []byte) error {
	i, ok := c.find(rel)
	if !ok {
		c.Extra(rel)
		return nil
	}
	e := c.entries[i]
	h := algorithms[e.algorithm].New()
	var size int64
	for {
		n, err := r.Read(buf)
		size += int64(n)
		if h != nil {
			h.Write(buf[:n])
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	var sum []byte
	if h != nil {
		sum = h.Sum(nil)
	}
	if c.content(size, sum) != e.content {
		c.found(rel, "other content: %d bytes, %s %x", size, algorithms[e.algorithm], sum)
	}
	c.mu.Lock()
	twice := c.seen[i]
	c.seen[i] = true
	c.mu.Unlock()
	if twice {
		c.found(rel, "there twice")
	}
	return nil
}

// Extra notes something that no backup of this manifest consists of.
func (c *Checker) Extra(rel string) { c.found(rel, "extra") }

// Report is the result, once every file has come.
func (c *Checker) Report() (Report, error) {
	if slices.Contains(c.seen, false) {
		if _, err := c.read(func(f File) error {
			if i, ok := c.find(f.Path); !ok || !c.seen[i] {
				c.found(f.Path, "missing")
			}
			return nil
		}); err != nil {
			return Report{}, err
		}
	}
	return c.result(), nil
}
