// Package lazyregexp has regular expressions that are compiled when they are needed for the
// first time: PostgreSQL starts a program of ours for each WAL segment, which needs few.
package lazyregexp

import (
	"regexp"
	"sync"
)

// Regexp is a regular expression, safe for concurrent use.
type Regexp struct{ compiled func() *regexp.Regexp }

// New is regexp.MustCompile, later: a wrong expression panics at its first use.
func New(expression string) *Regexp {
	return &Regexp{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })}
}

// MatchString is that of regexp.
func (r *Regexp) MatchString(s string) bool { return r.compiled().MatchString(s) }

// FindString is that of regexp.
func (r *Regexp) FindString(s string) string { return r.compiled().FindString(s) }

// FindStringSubmatch is that of regexp.
func (r *Regexp) FindStringSubmatch(s string) []string { return r.compiled().FindStringSubmatch(s) }
