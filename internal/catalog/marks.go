package catalog

import (
	"strings"

	"github.com/holdfast-pg/holdfast/internal/backup"
)

// Marks are what is said of a backup outside its record.
type Marks struct {
	Keep     KeepTarget
	Deleting bool // its deletion has begun
}

// Marks is Survey.Marks of now.
func (c *Catalog) Marks() (map[backup.ID]Marks, error) {
	s, err := c.Survey()
	if err != nil {
		return nil, err
	}
	return s.Marks()
}

// Marks returns the marks of all backups that have some, including those whose
// record is gone already.
func (s *Survey) Marks() (map[backup.ID]Marks, error) {
	out := map[backup.ID]Marks{}
	for id := range s.marked() {
		var m Marks
		var err error
		if m.Keep, err = s.c.Keep(id); err != nil {
			return nil, err
		}
		if m.Deleting, err = s.c.Deleting(id); err != nil {
			return nil, err
		}
		if m != (Marks{}) {
			out[id] = m
		}
	}
	return out, nil
}

// marked are the IDs that have annotations, in either place.
func (s *Survey) marked() map[backup.ID]bool {
	out := map[backup.ID]bool{}
	for _, file := range s.meta {
		name, annotation, _ := strings.Cut(file, "-")
		if annotation != keepAnnotation && annotation != deleteAnnotation {
			continue
		}
		if id, err := backup.ParseID(name); err == nil {
			out[id] = true
		}
	}
	legacy := make([]bool, len(s.base))
	base := opened(s.c.BaseDir)
	defer base.close()
	atOnce(len(s.base), func(i int) {
		_, err := backup.ParseID(s.base[i])
		legacy[i] = err == nil && base.has(s.base[i]+"/annotations")
	})
	for i, name := range s.base {
		if legacy[i] {
			out[backup.ID(name)] = true
		}
	}
	return out
}
