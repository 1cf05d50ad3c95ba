package rsync

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
)

func isRegular(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFREG }
func isDir(st *unix.Stat_t) bool     { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// entry is a file that is to be copied.
type entry struct {
	Rel    string // below its tree
	Source datadir.Identity
}

// record is a file that was copied.
type record struct {
	Path        string           // as a manifest has it
	Source      datadir.Identity // before the first read
	Size, Mtime int64            // of the copy
	Sum         [32]byte         // SHA-256 of the copy
}

func appendIdentity(b []byte, i datadir.Identity) []byte {
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

func (d *decoder) identity() datadir.Identity {
	return datadir.Identity{Dev: d.unsigned(), Ino: d.unsigned(), Size: d.signed(), Mtime: d.signed(), Change: d.signed()}
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
