// Package waltest makes WAL segments for tests.
package waltest

import (
	"encoding/binary"

	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Segment begins as one of PostgreSQL 18 does, of a cluster with a system identifier; fill is repeated
// behind that, in the first half of it.
func Segment(seg wal.Segment, systemID uint64, fill string) []byte {
	b := make([]byte, seg.Size)
	le := binary.LittleEndian
	le.PutUint16(b, 0xD118)
	le.PutUint16(b[2:], 2)
	le.PutUint32(b[4:], seg.TLI)
	le.PutUint64(b[8:], uint64(seg.Start()))
	le.PutUint64(b[24:], systemID)
	le.PutUint32(b[32:], uint32(seg.Size))
	le.PutUint32(b[36:], 8192)
	for at := wal.LongHeaderSize; fill != "" && at+len(fill) <= len(b)/2; at += len(fill) {
		copy(b[at:], fill)
	}
	return b
}
