// Package pgcontrol reads global/pg_control of PostgreSQL 13 to 18 (source:
// src/include/catalog/pg_control.h), as much of it as tells whether a copy is
// whole and what it is a copy of. It never writes one.
package pgcontrol

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"strconv"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Size is that of the file; all but the beginning is zero.
const Size = 8192

// State is what the server was doing (DBState).
type State uint32

// The states, in PostgreSQL's order and pg_controldata's words.
const (
	StartingUp State = iota
	ShutDown
	ShutDownInRecovery
	ShuttingDown
	InCrashRecovery
	InArchiveRecovery
	InProduction
)

var states = [...]string{"starting up", "shut down", "shut down in recovery", "shutting down", "in crash recovery", "in archive recovery", "in production"}

// String is the state in pg_controldata's words.
func (s State) String() string {
	if int(s) < len(states) {
		return states[s]
	}
	return "unknown state " + strconv.FormatUint(uint64(s), 10)
}

// Control is what a pg_control says.
type Control struct {
	SystemID       uint64
	Version        uint32 // pg_control_version
	CatalogVersion uint32
	State          State
	Checkpoint     wal.LSN
	Redo           wal.LSN // where the last checkpoint's redo begins
	Timeline       uint32  // of the last checkpoint
	MinRecovery    wal.LSN // where a standby's end of recovery lies, at least
	MinRecoveryTLI uint32
	BlockSize      uint32
	RelationBlocks uint32 // blocks of one file of a relation (RELSEG_SIZE)
	SegmentSize    uint32
	PageChecksums  bool
}

// crcOffset is where the checksum lies: behind everything that it covers.
var crcOffset = map[uint32]int{
	1300: 288, // PostgreSQL 13 to 16
	1700: 288,
	1800: 292, // 18 added default_char_signedness
}

// Read reads a file.
func Read(path string) (Control, error) {
	f, err := os.Open(path)
	if err != nil {
		return Control{}, fault.Wrap(fault.Internal, "read", path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, Size+1))
	if err != nil {
		return Control{}, fault.Wrap(fault.Internal, "read", path, err)
	}
	c, err := Parse(data)
	return c, fault.Wrap(fault.Corrupt, "read", path, err)
}

// Parse reads the content of a file and verifies its checksum.
func Parse(data []byte) (Control, error) {
	bad := func(format string, args ...any) (Control, error) {
		return Control{}, fault.New(fault.Corrupt, "check", "pg_control", format, args...)
	}
	if len(data) != Size {
		return bad("it has %d bytes, not %d", len(data), Size)
	}
	le := binary.LittleEndian
	c := Control{
		SystemID:       le.Uint64(data),
		Version:        le.Uint32(data[8:]),
		CatalogVersion: le.Uint32(data[12:]),
		State:          State(le.Uint32(data[16:])),
		Checkpoint:     wal.LSN(le.Uint64(data[32:])),
		Redo:           wal.LSN(le.Uint64(data[40:])),
		Timeline:       le.Uint32(data[48:]),
		MinRecovery:    wal.LSN(le.Uint64(data[136:])),
		MinRecoveryTLI: le.Uint32(data[144:]),
		BlockSize:      le.Uint32(data[216:]),
		RelationBlocks: le.Uint32(data[220:]),
		SegmentSize:    le.Uint32(data[228:]),
		PageChecksums:  le.Uint32(data[252:]) != 0,
	}
	at, ok := crcOffset[c.Version]
	if !ok {
		return bad("its version %d is not of PostgreSQL 13 to 18", c.Version)
	}
	sum := crc32.Checksum(data[:at], crc32.MakeTable(crc32.Castagnoli))
	if stored := le.Uint32(data[at:]); sum != stored {
		return bad("its checksum is %08X, its content has %08X: it was copied while it was written, or it is damaged", stored, sum)
	}
	return c, nil
}
