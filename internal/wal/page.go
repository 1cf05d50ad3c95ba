package wal

import (
	"encoding/binary"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// LongHeaderSize is how many bytes CheckPage wants: XLogLongPageHeaderData.
const LongHeaderSize = 40

// CheckPage verifies the first page header of a segment: magic of PostgreSQL 13
// to 19, long header, timeline, position, segment size, system identifier
// (0: any). A segment that begins a timeline in its middle may show its parent's
// timeline on the first page, so an older one is accepted.
func CheckPage(first []byte, want Segment, systemID uint64) error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.Corrupt, "check WAL segment", want.Name(), format, args...)
	}
	if len(first) < LongHeaderSize {
		return bad("it has only %d bytes", len(first))
	}
	le := binary.LittleEndian
	magic, info := le.Uint16(first), le.Uint16(first[2:])
	const longHeader = 0x0002
	switch {
	case magic < 0xD106 || magic > 0xD1FF:
		return bad("its first page has the magic number %04X, which is no WAL of PostgreSQL 13 or later", magic)
	case info&longHeader == 0:
		return bad("its first page has no long header")
	}
	tli, addr := le.Uint32(first[4:]), le.Uint64(first[8:])
	sysid, segSize := le.Uint64(first[24:]), le.Uint32(first[32:])
	switch {
	case tli > want.TLI || tli == 0:
		return bad("its first page is of timeline %d", tli)
	case LSN(addr) != want.Start():
		return bad("its first page is of position %s, not %s", LSN(addr), want.Start())
	case uint64(segSize) != want.Size:
		return bad("it was written with segments of %d bytes, not %d", segSize, want.Size)
	case systemID != 0 && sysid != systemID:
		return bad("it is of another cluster: system identifier %d, not %d", sysid, systemID)
	}
	return nil
}
