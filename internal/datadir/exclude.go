package datadir

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

// Pattern is an exclude pattern of rsync(1), FILTER RULES. Of its syntax it
// knows anchored patterns, classes, "*", "?" and a leading "**/".
type Pattern struct {
	Text     string // without what tells where it is compared
	Anchored bool   // it is compared with whole paths, else with their ends
	parts    int    // path components that a pattern which is not anchored looks at
	begins   string // what everything that it matches begins with; most names differ in that already
}

// ParsePattern reads a pattern.
func ParsePattern(s string) (Pattern, error) {
	p := Pattern{Text: s}
	if rest, ok := strings.CutPrefix(s, "/"); ok {
		p.Text, p.Anchored = rest, true
	} else {
		// Its end is compared anyway.
		p.Text = strings.TrimPrefix(s, "**/")
	}
	p.parts = strings.Count(p.Text, "/") + 1
	p.begins = p.Text
	if i := strings.IndexAny(p.Text, `*?[\`); i >= 0 {
		p.begins = p.Text[:i]
	}
	if _, err := path.Match(p.Text, ""); err != nil || p.Text == "" || strings.Contains(p.Text, "**") || strings.HasSuffix(p.Text, "/") {
		return p, fmt.Errorf("the exclusion %q is not understood", s)
	}
	return p, nil
}

// Match compares a path below the root of a tree.
func (p Pattern) Match(rel string) bool {
	if !p.Anchored {
		at := len(rel)
		for range p.parts {
			if at < 0 {
				return false
			}
			at = strings.LastIndexByte(rel[:at], '/')
		}
		rel = rel[at+1:]
	}
	if !strings.HasPrefix(rel, p.begins) {
		return false
	}
	ok, _ := path.Match(p.Text, rel)
	return ok
}

// Filter decides what of a tree belongs to a backup. Who asks does not look below
// what is excluded. The zero Filter excludes nothing.
type Filter struct {
	Only    *Pattern // of names at the root; nil for all
	Exclude []Pattern
}

// NewFilter reads the pattern of the names at the root that belong to a tree, ""
// for all, and those of what does not.
func NewFilter(only string, exclude []string) (Filter, error) {
	var f Filter
	if only != "" {
		p, err := ParsePattern("/" + only)
		if err != nil {
			return f, err
		}
		f.Only = &p
	}
	for _, s := range exclude {
		p, err := ParsePattern(s)
		if err != nil {
			return f, err
		}
		f.Exclude = append(f.Exclude, p)
	}
	return f, nil
}

// Excluded reports whether a path below the root does not belong to the tree.
func (f Filter) Excluded(rel string) bool {
	if f.Only != nil && !strings.Contains(rel, "/") && !f.Only.Match(rel) {
		return true
	}
	for _, p := range f.Exclude {
		if p.Match(rel) {
			return true
		}
	}
	return false
}
