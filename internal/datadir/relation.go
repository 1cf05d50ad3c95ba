package datadir

import (
	"path"
	"strconv"
	"strings"
)

const digits = "0123456789"

// Relation is what the name of a file with pages of a relation says (PostgreSQL
// manual, "Database File Layout").
type Relation struct {
	Number  uint32 // relfilenumber
	Fork    string // "" for the main fork, else fsm, vm or init
	Segment uint32
}

// ParseRelation reads a name without its directory; false when it is of another kind.
func ParseRelation(name string) (r Relation, ok bool) {
	rest, segment, split := strings.Cut(name, ".")
	if split {
		// The first segment has no number.
		if r.Segment, ok = number(segment); !ok || r.Segment == 0 {
			return Relation{}, false
		}
	}
	rest, fork, forked := strings.Cut(rest, "_")
	if forked {
		switch r.Fork = fork; fork {
		case "fsm", "vm", "init":
		default:
			return Relation{}, false
		}
	}
	if r.Number, ok = number(rest); !ok || r.Number == 0 {
		return Relation{}, false
	}
	return r, true
}

// number is one as PostgreSQL prints it.
func number(s string) (uint32, bool) {
	if s == "" || strings.Trim(s, digits) != "" || (s[0] == '0' && s != "0") {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// InDatabase reports whether a path is of a file in a database's directory, below
// a data directory or a tablespace.
func InDatabase(rel string) bool {
	above, database := path.Split(path.Dir(rel))
	if _, ok := number(database); !ok {
		return false
	}
	above = strings.TrimSuffix(above, "/")
	return above == "base" || (strings.HasPrefix(above, "PG_") && !strings.Contains(above, "/"))
}

// IsRelation reports whether a path is of a file with pages of a relation, below a
// data directory or a tablespace. Its changes are in the WAL.
func IsRelation(rel string) bool {
	_, ok := ParseRelation(path.Base(rel))
	return ok && (InDatabase(rel) || path.Dir(rel) == "global")
}
