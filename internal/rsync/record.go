package rsync

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// identity is which file of this host something is, and in which state.
type identity struct {
	Dev, Ino            uint64
	Size, Mtime, Change int64 // times in nanoseconds
}

func identify(st *unix.Stat_t) identity {
	return identity{Dev: st.Dev, Ino: st.Ino, Size: st.Size, Mtime: st.Mtim.Nano(), Change: st.Ctim.Nano()}
}

func isRegular(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG }
func isDir(st *unix.Stat_t) bool     { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// entry is a file that is to be copied.
type entry struct {
	Rel    string // below its tree
	Source identity
}

// record is a file that was copied.
type record struct {
	Path        string   // as a manifest has it
	Source      identity // before the first read
	Size, Mtime int64    // of the copy
	Sum         [32]byte // SHA-256 of the copy
}

// settled is how much older than the first read a file's last change must be
// for equal times to mean equal content: a clock does not tick with every write.
const settled = 2 * time.Second

func appendIdentity(b []byte, i identity) []byte {
	b = binary.AppendUvarint(b, i.Dev)
	b = binary.AppendUvarint(b, i.Ino)
	b = binary.AppendVarint(b, i.Size)
	b = binary.AppendVarint(b, i.Mtime)
	return binary.AppendVarint(b, i.Change)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (e entry) encode(b []byte) []byte { return appendIdentity(appendText(b, e.Rel), e.Source) }

func decodeEntry(b []byte) (entry, error) {
	d := decoder{b: b}
	e := entry{Rel: d.text(), Source: d.identity()}
	return e, d.end()
}

func (r record) encode(b []byte) []byte {
	b = appendIdentity(appendText(b, r.Path), r.Source)
	b = binary.AppendVarint(binary.AppendVarint(b, r.Size), r.Mtime)
	return append(b, r.Sum[:]...)
}

func decodeRecord(b []byte) (record, error) {
	d := decoder{b: b}
	r := record{Path: d.text(), Source: d.identity(), Size: d.signed(), Mtime: d.signed()}
	copy(r.Sum[:], d.take(len(r.Sum)))
	return r, d.end()
}

// decoder reads what was appended; its end tells whether all was there.
type decoder struct {
	b     []byte
	short bool
}

func (d *decoder) skip(n int) {
	if n <= 0 {
		d.short, d.b = true, nil
		return
	}
	d.b = d.b[n:]
}

func (d *decoder) unsigned() uint64 {
	v, n := binary.Uvarint(d.b)
	d.skip(n)
	return v
}

func (d *decoder) signed() int64 {
	v, n := binary.Varint(d.b)
	d.skip(n)
	return v
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.short, d.b = true, nil
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) text() string { return string(d.take(int(d.unsigned()))) }

func (d *decoder) identity() identity {
	return identity{Dev: d.unsigned(), Ino: d.unsigned(), Size: d.signed(), Mtime: d.signed(), Change: d.signed()}
}

func (d *decoder) end() error {
	if d.short {
		return errors.New("a record is too short")
	}
	if len(d.b) > 0 {
		return fmt.Errorf("a record has %d bytes too many", len(d.b))
	}
	return nil
}
