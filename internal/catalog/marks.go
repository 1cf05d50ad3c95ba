package catalog

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/backup"
)

// Marks are what is said of a backup outside its record.
type Marks struct {
	Keep     KeepTarget
	Deleting bool // its deletion has begun
}

// Marks returns the marks of all backups that have some, including those whose
// record is gone already.
func (c *Catalog) Marks() (map[backup.ID]Marks, error) {
	ids, err := c.marked()
	if err != nil {
		return nil, err
	}
	out := map[backup.ID]Marks{}
	for id := range ids {
		var m Marks
		if m.Keep, err = c.Keep(id); err != nil {
			return nil, err
		}
		if m.Deleting, err = c.Deleting(id); err != nil {
			return nil, err
		}
		if m != (Marks{}) {
			out[id] = m
		}
	}
	return out, nil
}

// marked are the IDs that have annotations, in either place.
func (c *Catalog) marked() (map[backup.ID]bool, error) {
	out := map[backup.ID]bool{}
	meta, err := namesIn(c.MetaDir)
	if err != nil {
		return nil, err
	}
	for _, file := range meta {
		name, annotation, _ := strings.Cut(file, "-")
		if annotation != keepAnnotation && annotation != deleteAnnotation {
			continue
		}
		if id, err := backup.ParseID(name); err == nil {
			out[id] = true
		}
	}
	base, err := namesIn(c.BaseDir)
	if err != nil {
		return nil, err
	}
	legacy := make([]bool, len(base))
	atOnce(len(base), func(i int) {
		if _, err := backup.ParseID(base[i]); err == nil {
			_, err := os.Lstat(filepath.Join(c.BaseDir, base[i], "annotations"))
			legacy[i] = err == nil
		}
	})
	for i, name := range base {
		if legacy[i] {
			out[backup.ID(name)] = true
		}
	}
	return out, nil
}
