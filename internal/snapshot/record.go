package snapshot

import (
	"cmp"
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pylit"
)

// Record is what is kept of a backup's snapshots: in the shape that Barman gives
// snapshots_info, with a few keys more. It is not in backup.info, because Barman
// reads no catalogue any more that names a provider which it does not know; of
// those that it knows backup.info has what Barman would have written.
type Record struct {
	Provider  string         `json:"provider"`
	Info      RecordInfo     `json:"provider_info"`
	Snapshots []RecordedDisk `json:"snapshots"`
	Barman    string         `json:"barman,omitempty"` // the literal of snapshots_info
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
	// Volume and Partition are those of Disk.
	Volume    string `json:"volume,omitempty"`
	Partition int    `json:"partition,omitempty"`
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
	Lock  *Lock             `json:"lock,omitempty"`
}

// dataKey is the data directory among what a disk holds.
const dataKey = "pgdata"

// NewRecord describes snapshots of a cluster's disks.
func NewRecord(provider, instance string, l *Layout, made []Snapshot) *Record {
	r := &Record{Provider: provider, Info: RecordInfo{Instance: instance}}
	for i, d := range l.Disks {
		one := RecordedSnapshot{Disk: d.Name, Name: made[i].Name, ID: made[i].ID, Path: made[i].Path, Holds: map[string]string{}, Lock: made[i].Lock}
		for key, at := range l.Holds {
			if at.Disk == d.Name {
				one.Holds[key] = at.Path
			}
		}
		r.Snapshots = append(r.Snapshots, RecordedDisk{RecordedMount{d.Options, d.Mount, d.Volume, d.Partition}, one})
	}
	return r
}

// made are the snapshots, as a provider has them. Whose they are a record does not tell.
func (r *Record) made() (out []Snapshot) {
	for _, s := range r.Snapshots {
		out = append(out, Snapshot{Name: s.Provider.Name, ID: s.Provider.ID, Path: s.Provider.Path})
	}
	return out
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

// Mounts are the commands that mount disks which were made of the snapshots, as the source's
// were. The devices are in the order of the snapshots.
func (r *Record) Mounts(devices []string) (commands []string) {
	seen := map[string]bool{}
	for i, s := range r.Snapshots {
		device, m := devices[i], s.Mount
		switch {
		case m.Partition > 0:
			device = partitionOf(device, m.Partition)
		case m.Volume != "" && seen[m.Volume]:
			continue
		case m.Volume != "":
			seen[m.Volume], device = true, m.Volume
			if len(seen) == 1 {
				commands = append(commands, activate)
			}
		}
		commands = append(commands, "mount -o "+Words(m.Options)+" "+Words(device)+" "+Words(m.Point))
	}
	return commands
}

// activate finds what lies on several disks; programs that are missing have nothing to find.
const activate = "udevadm settle; mdadm --assemble --scan; vgchange -a y; btrfs device scan"

// partitionOf is how udev and the kernel call a partition of a disk.
func partitionOf(device string, number int) string {
	n := strconv.Itoa(number)
	switch last := device[len(device)-1]; {
	case strings.HasPrefix(device, "/dev/disk/"):
		return device + "-part" + n
	case last >= '0' && last <= '9':
		return device + "p" + n
	}
	return device + n
}

// Describe adds what Barman would write of the snapshots, if it knows their provider.
func (r *Record) Describe(ctx context.Context, p Provider, disks []Disk, made []Snapshot) error {
	i, known := p.(Informer)
	if !known {
		return nil
	}
	v, err := i.SnapshotsInfo(ctx, disks, made)
	r.Barman = v.String()
	return err
}

// Locked adds locks, in the order of the snapshots.
func (r *Record) Locked(locks []*Lock) error {
	if r == nil || len(locks) != len(r.Snapshots) {
		return nil
	}
	var modes []pylit.Value
	for i, l := range locks {
		r.Snapshots[i].Provider.Lock = l
		mode := pylit.Value{}
		if l != nil {
			mode = pylit.Str(l.Mode)
		}
		modes = append(modes, mode)
	}
	v, err := r.BackupInfo()
	if err != nil || v == nil {
		return err
	}
	list, _ := v.Get("snapshots")
	for i, one := range list.Items {
		provider, _ := one.Get("provider")
		for j, p := range provider.Pairs {
			if p.Key.Str == "snapshot_lock_mode" {
				provider.Pairs[j].Value = modes[i]
			}
		}
	}
	r.Barman = v.String()
	return nil
}

// BackupInfo is what backup.info has of the snapshots; nil for nothing.
func (r *Record) BackupInfo() (*pylit.Value, error) {
	if r == nil || r.Barman == "" {
		return nil, nil
	}
	v, err := pylit.Parse(r.Barman)
	return &v, fault.Wrap(fault.Corrupt, "read", "snapshots_info", err)
}

// FromBackupInfo reads snapshots_info of backup.info, whoever has written it. Keys
// that older versions of Barman did not write may be missing.
func FromBackupInfo(v pylit.Value) (*Record, error) {
	text := func(v pylit.Value, path ...string) string {
		for _, key := range path {
			v, _ = v.Get(key)
		}
		return v.Str
	}
	r := &Record{Provider: text(v, "provider"), Barman: v.String()}
	list, _ := v.Get("snapshots")
	for _, one := range list.Items {
		s := RecordedDisk{Mount: RecordedMount{Options: text(one, "mount", "mount_options"), Point: text(one, "mount", "mount_point")}}
		s.Provider.Disk = text(one, "provider", "device_name")
		s.Provider.Name = text(one, "provider", "snapshot_name")
		s.Provider.ID = cmp.Or(text(one, "provider", "snapshot_id"), s.Provider.Name)
		if mode := text(one, "provider", "snapshot_lock_mode"); mode != "" {
			s.Provider.Lock = &Lock{Mode: mode}
		}
		if s.Provider.ID == "" {
			return nil, fault.New(fault.Corrupt, "read", "snapshots_info", "a snapshot has no name")
		}
		r.Snapshots = append(r.Snapshots, s)
	}
	if r.Provider == "" || len(r.Snapshots) == 0 {
		return nil, fault.New(fault.Corrupt, "read", "snapshots_info", "it names no provider, or no snapshots")
	}
	return r, nil
}

// Place is what snapshots_info tells of where the disks are, such as region; "" for nothing.
func (r *Record) Place(key string) string {
	v, err := pylit.Parse(r.Barman)
	if err != nil {
		return ""
	}
	info, _ := v.Get("provider_info")
	place, _ := info.Get(key)
	return place.Str
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
