package catalog

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Destination is one of several stores that a backup goes to.
type Destination struct {
	URL    string    `json:"url"`
	Behind string    `json:"behind,omitempty"` // why it lacks something of the backup; "" for nothing
	Since  time.Time `json:"since,omitzero"`   // when it fell behind
}

// Destinations are the stores that a backup goes to, the main one first; none of one that
// has a single place.
type Destinations []Destination

// Behind reports whether the store with a URL lacks something of the backup, or gets nothing of it.
func (d Destinations) Behind(url string) bool {
	i := d.index(url)
	return i < 0 || d[i].Behind != ""
}

func (d Destinations) index(url string) int {
	return slices.IndexFunc(d, func(one Destination) bool { return one.URL == url })
}

// Lacking are those that lack something.
func (d Destinations) Lacking() (out Destinations) {
	for _, one := range d {
		if one.Behind != "" {
			out = append(out, one)
		}
	}
	return out
}

func (c *Catalog) destinationsPath(id backup.ID) string {
	return filepath.Join(c.MetaDir, string(id)+"-holdfast-destinations.json")
}

// Destinations are those of a backup.
func (c *Catalog) Destinations(id backup.ID) (Destinations, error) {
	if _, err := backup.ParseID(string(id)); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(c.destinationsPath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var d Destinations
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	return d, fault.Wrap(fault.Corrupt, "read", c.destinationsPath(id), err)
}

// SaveDestinations replaces those of a backup.
func (c *Catalog) SaveDestinations(id backup.ID, d Destinations) error {
	if _, err := backup.ParseID(string(id)); err != nil {
		return err
	}
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Internal, "encode", c.destinationsPath(id), err)
	}
	return atomicfile.Write(c.destinationsPath(id), append(data, '\n'), 0o644)
}

// SetBehind records that a store lacks something of a backup, and why; "" that it lacks nothing any more.
// Only whoever works for the backup calls it.
func (c *Catalog) SetBehind(id backup.ID, url, why string, now time.Time) error {
	d, err := c.Destinations(id)
	if err != nil {
		return err
	}
	i := d.index(url)
	if i < 0 {
		return fault.New(fault.Internal, "record", string(id), "%s is none of its destinations", url)
	}
	if d[i].Behind == "" || why == "" {
		d[i].Since = time.Time{}
		if why != "" {
			d[i].Since = now
		}
	}
	d[i].Behind = why
	return c.SaveDestinations(id, d)
}
