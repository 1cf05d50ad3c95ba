package snapshot

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/holdfast-pg/holdfast/internal/pylit"
)

// Record is what is kept of a backup's snapshots: in the shape that Barman gives
// snapshots_info, with a few keys more. It is not in backup.info, because Barman
// reads no catalogue any more that names a provider which it does not know.
type Record struct {
	Provider  string         `json:"provider"`
	Info      RecordInfo     `json:"provider_info"`
	Snapshots []RecordedDisk `json:"snapshots"`
}

// RecordInfo is where the disks are.
type RecordInfo struct {
	Instance string `json:"instance"`
}

// RecordedDisk is a snapshot and the disk that it was made of.
type RecordedDisk struct {
	Mount    RecordedMount    `json:"mount"`
	Provider RecordedSnapshot `json:"provider"`
}

// RecordedMount is how the disk's file system was mounted.
type RecordedMount struct {
	Options string `json:"mount_options"`
	Point   string `json:"mount_point"`
}

// RecordedSnapshot is a snapshot by its names.
type RecordedSnapshot struct {
	Disk string `json:"device_name"`
	Name string `json:"snapshot_name"`
	ID   string `json:"snapshot_id"`
	Path string `json:"snapshot_path,omitempty"` // a directory with the content, on the instance
	// Holds are the directories of the cluster below that path: "pgdata", and
	// tablespaces by OID.
	Holds map[string]string `json:"holds"`
}

// dataKey is the data directory among what a disk holds.
const dataKey = "pgdata"

// NewRecord describes snapshots of a cluster's disks.
func NewRecord(provider, instance string, l *Layout, made []Snapshot) *Record {
	r := &Record{Provider: provider, Info: RecordInfo{Instance: instance}}
	for i, d := range l.Disks {
		one := RecordedSnapshot{Disk: d.Name, Name: made[i].Name, ID: made[i].ID, Path: made[i].Path, Holds: map[string]string{}}
		for key, at := range l.Holds {
			if at.Disk == d.Name {
				one.Holds[key] = at.Path
			}
		}
		r.Snapshots = append(r.Snapshots, RecordedDisk{RecordedMount{d.Options, d.Mount}, one})
	}
	return r
}

// Data is the snapshot of the data directory, and that directory in it; "" when
// the provider shows no files.
func (r *Record) Data() (s RecordedSnapshot, dir string) { return r.find(dataKey) }

// Tablespace is Data for a tablespace.
func (r *Record) Tablespace(oid uint32) (s RecordedSnapshot, dir string) {
	return r.find(strconv.FormatUint(uint64(oid), 10))
}

func (r *Record) find(key string) (RecordedSnapshot, string) {
	for _, s := range r.Snapshots {
		if rel, holds := s.Provider.Holds[key]; holds {
			if s.Provider.Path == "" {
				return s.Provider, ""
			}
			return s.Provider, filepath.Join(s.Provider.Path, rel)
		}
	}
	return RecordedSnapshot{}, ""
}

// Value is the record as snapshots_info would have it.
func (r *Record) Value() pylit.Value {
	var list []pylit.Value
	for _, s := range r.Snapshots {
		one := []pylit.Pair{pylit.P("device_name", pylit.Str(s.Provider.Disk)), pylit.P("snapshot_name", pylit.Str(s.Provider.Name)), pylit.P("snapshot_id", pylit.Str(s.Provider.ID))}
		if s.Provider.Path != "" {
			one = append(one, pylit.P("snapshot_path", pylit.Str(s.Provider.Path)))
		}
		var holds []pylit.Pair
		for _, key := range slices.Sorted(maps.Keys(s.Provider.Holds)) {
			holds = append(holds, pylit.P(key, pylit.Str(s.Provider.Holds[key])))
		}
		one = append(one, pylit.P("holds", pylit.D(holds...)))
		list = append(list, pylit.D(
			pylit.P("mount", pylit.D(pylit.P("mount_options", pylit.Str(s.Mount.Options)), pylit.P("mount_point", pylit.Str(s.Mount.Point)))),
			pylit.P("provider", pylit.D(one...))))
	}
	return pylit.D(pylit.P("provider", pylit.Str(r.Provider)), pylit.P("provider_info", pylit.D(pylit.P("instance", pylit.Str(r.Info.Instance)))), pylit.P("snapshots", pylit.L(list...)))
}
