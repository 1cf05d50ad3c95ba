package wal

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Switch is where a timeline was left for its successor.
type Switch struct {
	TLI    uint32
	At     LSN // the first position that is no longer of TLI
	Reason string
}

// History is the descent of a timeline, oldest switch first (PostgreSQL
// manual, "Timelines").
type History struct {
	TLI      uint32
	Switches []Switch
}

// HistoryName is the file name of a timeline's history.
func HistoryName(tli uint32) string { return fmt.Sprintf("%08X.history", tli) }

// ParseHistory reads the history file of timeline tli.
func ParseHistory(tli uint32, r io.Reader) (History, error) {
	h := History{TLI: tli}
	bad := func(line int, format string, args ...any) (History, error) {
		return History{}, fault.New(fault.Corrupt, "read timeline history", fmt.Sprintf("%s line %d", HistoryName(tli), line), format, args...)
	}
	sc := bufio.NewScanner(r)
	for line := 1; sc.Scan(); line++ {
		text := strings.TrimSpace(sc.Text())
		if text == "" || text[0] == '#' {
			continue
		}
		f := strings.Fields(text)
		n, err := strconv.ParseUint(f[0], 10, 32)
		if err != nil || len(f) < 2 {
			return bad(line, "%q does not begin with a timeline and a position", text)
		}
		at, err := ParseLSN(f[1])
		if err != nil {
			return bad(line, "%w", err)
		}
		s := Switch{TLI: uint32(n), At: at, Reason: strings.Join(f[2:], " ")}
		if s.TLI >= tli {
			return bad(line, "timeline %d cannot be an ancestor of %d", s.TLI, tli)
		}
		if k := len(h.Switches); k > 0 && (h.Switches[k-1].TLI >= s.TLI || h.Switches[k-1].At > s.At) {
			return bad(line, "timelines and positions must rise")
		}
		h.Switches = append(h.Switches, s)
	}
	if err := sc.Err(); err != nil {
		return History{}, fault.Wrap(fault.Corrupt, "read timeline history", HistoryName(tli), err)
	}
	return h, nil
}

// Contains reports whether the byte at lsn of timeline tli belongs to this history.
func (h History) Contains(tli uint32, lsn LSN) bool {
	if tli == h.TLI {
		k := len(h.Switches)
		return k == 0 || lsn >= h.Switches[k-1].At
	}
	var from LSN
	for _, s := range h.Switches {
		if s.TLI == tli {
			return lsn >= from && lsn < s.At
		}
		from = s.At
	}
	return false
}
