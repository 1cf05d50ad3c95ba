package config

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
)

// Marks has a digest of the value of each option that somebody set, as Each tells it: whoever else reads
// a configuration can see by them whether it says the same.
func (s *Server) Marks() map[string]string {
	marks := map[string]string{}
	s.Each(func(o Option, value string, origin Origin) {
		if !origin.Default {
			sum := sha256.Sum256([]byte(value))
			marks[o.Name] = hex.EncodeToString(sum[:8])
		}
	})
	return marks
}

// Unlike names the options, sorted, that are set otherwise than where the marks were made.
func (s *Server) Unlike(marks map[string]string) []string {
	mine := s.Marks()
	all := maps.Clone(mine)
	maps.Copy(all, marks)
	return slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(name string) bool {
		a, here := mine[name]
		b, there := marks[name]
		return here == there && a == b
	})
}
