package rsync

import (
	"fmt"
	"path"
	"strings"
)

// Exclusions of every tree, in rsync's syntax; they are Barman's.
var Exclusions = []string{
	"pgsql_tmp*", "postgresql.auto.conf.tmp", "current_logfiles.tmp", "pg_internal.init", "postmaster.pid", "postmaster.opts",
	"recovery.conf", "standby.signal", "**/[0-9]*/t[0-9]*_[0-9]*", "pg_dynshmem/*", "pg_notify/*", "pg_replslot/*", "pg_serial/*",
	"pg_stat_tmp/*", "pg_snapshots/*", "pg_subtrans/*",
}

// DataExclusions are further exclusions of a data directory. Links to
// tablespaces never enter a backup, those to new ones included: WAL replay
// makes them. The map of an exclusive backup would undo a relocation.
var DataExclusions = []string{"/pg_log/*", "/log/*", "/pg_xlog/*", "/pg_wal/*", "/pg_tblspc/*", "/tablespace_map", "/global/pg_control"}

// Literal is a pattern that matches one path below the root of a tree.
func Literal(rel string) string {
	return "/" + strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(rel)
}

// pattern is an exclude pattern of rsync(1), FILTER RULES. Of its syntax it
// knows anchored patterns, classes, "*", "?" and a leading "**/".
type pattern struct {
	text     string
	anchored bool
	parts    int // path components that a pattern which is not anchored looks at
}

func parsePattern(s string) (pattern, error) {
	p := pattern{text: s}
	if rest, ok := strings.CutPrefix(s, "/"); ok {
		p.text, p.anchored = rest, true
	} else {
		// Its end is compared anyway.
		p.text = strings.TrimPrefix(s, "**/")
	}
	p.parts = strings.Count(p.text, "/") + 1
	if _, err := path.Match(p.text, ""); err != nil || p.text == "" || strings.Contains(p.text, "**") || strings.HasSuffix(p.text, "/") {
		return p, fmt.Errorf("the exclusion %q is not understood", s)
	}
	return p, nil
}

func (p pattern) match(rel string) bool {
	if !p.anchored {
		at := len(rel)
		for range p.parts {
			if at < 0 {
				return false
			}
			at = strings.LastIndexByte(rel[:at], '/')
		}
		rel = rel[at+1:]
	}
	ok, _ := path.Match(p.text, rel)
	return ok
}

// filter decides what of a tree is copied. Who asks does not look below what
// is excluded.
type filter struct {
	only    *pattern // of names at the root; nil for all
	exclude []pattern
}

func newFilter(t Tree) (filter, error) {
	var f filter
	if t.Only != "" {
		p, err := parsePattern("/" + t.Only)
		if err != nil {
			return f, err
		}
		f.only = &p
	}
	for _, s := range t.Exclude {
		p, err := parsePattern(s)
		if err != nil {
			return f, err
		}
		f.exclude = append(f.exclude, p)
	}
	return f, nil
}

func (f filter) excluded(rel string) bool {
	if f.only != nil && !strings.Contains(rel, "/") && !f.only.match(rel) {
		return true
	}
	for _, p := range f.exclude {
		if p.match(rel) {
			return true
		}
	}
	return false
}
