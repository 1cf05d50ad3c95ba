package datadir

import (
	"time"

	"golang.org/x/sys/unix"
)

// Identity is which file of a host something is, and in which state.
type Identity struct {
	Dev, Ino            uint64
	Size, Mtime, Change int64 // times in nanoseconds
}

// Identify is the identity in what stat(2) says.
func Identify(st *unix.Stat_t) Identity {
	return Identity{Dev: st.Dev, Ino: st.Ino, Size: st.Size, Mtime: st.Mtim.Nano(), Change: st.Ctim.Nano()}
}

// Settled is how much older than the first read a file's last change must be
// for equal times to mean equal content: a clock does not tick with every write.
const Settled = 2 * time.Second

// SettledAt reports whether the last change lay well before the first read, which
// the source's own clock dates.
func (i Identity) SettledAt(read time.Time) bool { return i.Mtime <= read.Add(-Settled).UnixNano() }

// World is where and when identities hold: a boot of a host, and a cluster on it.
type World struct {
	Host   string `json:"host"`
	Boot   string `json:"boot"`
	System string `json:"system"`
}

// Attributes of a file or directory, after links.
type Attributes struct {
	Identity
	Mode uint32 // as stat(2) has it
}

// AttributesOf are the attributes in what stat(2) says.
func AttributesOf(st *unix.Stat_t) Attributes { return Attributes{Identify(st), st.Mode} }

// IsRegular reports whether it is a plain file.
func (a Attributes) IsRegular() bool { return a.Mode&unix.S_IFMT == unix.S_IFREG }

// IsDir reports whether it is a directory.
func (a Attributes) IsDir() bool { return a.Mode&unix.S_IFMT == unix.S_IFDIR }
