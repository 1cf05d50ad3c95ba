package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Cluster is where PostgreSQL says that its files are.
type Cluster struct {
	Data        string
	Tablespaces map[uint32]Tablespace // by OID
}

// Tablespace is one by its name and its directory.
type Tablespace struct{ Name, Dir string }

// Layout tells what of a cluster lies on which disk.
type Layout struct {
	Disks []Disk
	Holds map[string]At // "pgdata", and tablespaces by OID
	Notes []string      // in words for people

	places []place
	wal    string
}

// At is a directory below a disk.
type At struct{ Disk, Path string }

// place is a directory of the cluster or of a disk, as the host sees it.
type place struct {
	key, what string // of the cluster
	path      string // without symbolic links
	dev       string
}

// Locate finds out which disk each directory of the cluster lies on. One that
// lies on none of the list is refused and named, with the file system that it is on.
func Locate(ctx context.Context, h Host, disks []Disk, c Cluster) (*Layout, error) {
	l := &Layout{Disks: disks, Holds: map[string]At{}}
	asked := []place{{dataKey, "the data directory", c.Data, ""}}
	for _, oid := range slices.Sorted(maps.Keys(c.Tablespaces)) {
		t := c.Tablespaces[oid]
		asked = append(asked, place{strconv.FormatUint(uint64(oid), 10), "tablespace " + t.Name, t.Dir, ""})
	}
	asked = append(asked, place{"", "the WAL directory", c.Data + "/pg_wal", ""})
	for _, d := range disks {
		asked = append(asked, place{"", "disk " + d.Name, d.Path, ""})
	}
	paths := make([]string, len(asked))
	for i, p := range asked {
		paths[i] = p.path
	}
	out, err := Tools{Host: h}.Script(ctx, "look at", "the cluster's directories",
		"for d in "+Words(paths...)+"; do r=$(realpath -e -- \"$d\"); printf '%s\\0%s\\0' \"$r\" \"$(stat -c %d -- \"$r\")\"; done")
	if err != nil {
		return nil, err
	}
	said := strings.Split(out, "\x00")
	if len(said) != 2*len(asked)+1 {
		return nil, fault.New(fault.Tool, "look at", "the cluster's directories", "realpath and stat say %q", out)
	}
	for i := range asked {
		asked[i].path, asked[i].dev = said[2*i], said[2*i+1]
	}
	cluster, at := asked[:len(c.Tablespaces)+1], asked[len(c.Tablespaces)+2:]
	wal := asked[len(c.Tablespaces)+1]
	for _, p := range cluster {
		i := on(p, at)
		if i < 0 {
			return nil, l.missing(ctx, h, p)
		}
		rel, _ := below(at[i].path, p.path)
		l.Holds[p.key] = At{disks[i].Name, rel}
		l.places = append(l.places, p)
	}
	l.wal = wal.path
	l.Disks = slices.Clone(disks)
	if i := on(wal, at); i >= 0 {
		l.Disks[i].WAL, _ = below(at[i].path, wal.path)
	} else {
		l.Notes = append(l.Notes, fmt.Sprintf("WAL is written to %s, which lies on none of the disks: that is fine, the WAL that the backup needs is archived, and a restore makes a new directory.", wal.path))
	}
	for i, d := range disks {
		if !l.used(d) && on(wal, at[i:i+1]) < 0 {
			l.Notes = append(l.Notes, fmt.Sprintf("Nothing of the cluster lies on disk %s.", d.Name))
		}
	}
	return l, nil
}

// used reports whether something of the cluster lies on a disk, or on one that shares its
// file system.
func (l *Layout) used(d Disk) bool {
	for _, at := range l.Holds {
		i := slices.IndexFunc(l.Disks, func(o Disk) bool { return o.Name == at.Disk })
		if at.Disk == d.Name || d.Volume != "" && l.Disks[i].Volume == d.Volume {
			return true
		}
	}
	return false
}

// on is the disk that has a place: the deepest one that it lies below, on the same device.
func on(p place, disks []place) int {
	best := -1
	for i, d := range disks {
		if _, inside := below(d.path, p.path); inside && d.dev == p.dev && (best < 0 || len(d.path) > len(disks[best].path)) {
			best = i
		}
	}
	return best
}

func (l *Layout) missing(ctx context.Context, h Host, p place) error {
	var names []string
	for _, d := range l.Disks {
		names = append(names, d.Name)
	}
	where := ""
	if m, err := MountOf(ctx, h, p.path); err == nil {
		where = fmt.Sprintf(" (it is on %s, mounted at %s)", m.Source, m.Target)
	}
	return fault.New(fault.Refused, "back up", p.what, "%s lies on none of the disks %s%s", p.path, strings.Join(names, ", "), where).
		WithHint("add its disk to snapshot_disks; a disk counts with what lies below its directory, and not with what is mounted there")
}

// Same refuses a layout that another one has taken the place of.
func (l *Layout) Same(now *Layout) error {
	for i, d := range l.Disks {
		if now.Disks[i] != d {
			return changed("disk "+d.Name, d.Mount)
		}
	}
	for i, p := range l.places {
		if now.places[i] != p {
			return changed(p.what, p.path)
		}
	}
	return nil
}

func changed(what, where string) error {
	return fault.New(fault.Refused, "back up", what, "it was at %s when snapshots were begun, and is no more", where).
		WithHint("find out what was mounted or moved meanwhile, and take another backup")
}

// DataDisk is the disk of the data directory.
func (l *Layout) DataDisk() string { return l.Holds[dataKey].Disk }

// Walk looks through the directories of the cluster, and refuses what no snapshot
// of the disks would hold: what is mounted, or a subvolume, below them, and links
// to directories elsewhere. It reads directories, and no files.
func (l *Layout) Walk(ctx context.Context, h Host) error {
	for _, p := range l.places {
		// What vanishes while find looks at it is an error to find, but not twice.
		find := "find " + Words(p.path) + ` -xdev -mindepth 1 \( -type d -o -type l \) -printf '%y%Y\0%D\0%P\0'`
		out, err := Tools{Host: h}.Script(ctx, "look through", p.path, find)
		if fault.Is(err, fault.Tool) {
			out, err = Tools{Host: h}.Script(ctx, "look through", p.path, find)
		}
		if err != nil {
			return err
		}
		said := strings.Split(out, "\x00")
		for i := 0; i+2 < len(said); i += 3 {
			if err := l.look(p, said[i], said[i+1], said[i+2]); err != nil {
				return err
			}
		}
	}
	return nil
}

// look judges one directory or link.
func (l *Layout) look(p place, kind, dev, rel string) error {
	path := p.path + "/" + rel
	refuse := func(why, remedy string) error {
		return fault.New(fault.Refused, "back up", path, "%s", why).WithHint("%s", remedy)
	}
	first, _, _ := strings.Cut(rel, "/")
	spared := p.key == dataKey && slices.Contains([]string{"pg_wal", "pg_tblspc", "log", "pg_log", "pg_stat_tmp"}, first)
	switch {
	case kind[0] == 'd' && dev != p.dev:
		listed := slices.ContainsFunc(l.places, func(o place) bool { _, in := below(path, o.path); return in })
		if spared || listed || path == l.wal {
			return nil
		}
		return refuse("it is a subvolume or a mount of its own, which no snapshot of "+l.Holds[p.key].Disk+" holds",
			"make it an ordinary directory, or a tablespace whose disk is in snapshot_disks")
	case kind[0] == 'l' && !spared && (kind == "ld" || strings.Contains(rel, "/")):
		return refuse("it is a symbolic link, which would lead a restored server into this one's files",
			"move what it leads to into its place; only pg_wal, the log directory and tablespaces may be links")
	}
	return nil
}

// Mount is what findmnt says of a path.
type Mount struct {
	Target  string `json:"target"`
	Source  string `json:"source"`
	Type    string `json:"fstype"`
	Options string `json:"options"`
}

// MountOf is the mount that a directory is on.
func MountOf(ctx context.Context, h Host, dir string) (Mount, error) {
	return findmnt(ctx, h, dir, "-T", dir)
}

// ErrUnmounted is that a device has no file system that is mounted.
var ErrUnmounted = errors.New("it is not mounted")

// MountOfDevice is the mount of a device; ErrUnmounted when there is none.
func MountOfDevice(ctx context.Context, h Host, device string) (Mount, error) {
	m, err := findmnt(ctx, h, device, "-S", device)
	var exit *command.ExitError
	if errors.As(err, &exit) && exit.Code == 1 && strings.TrimSpace(exit.Stderr) == "" {
		return m, fault.New(fault.Tool, "ask for the mount of", device, "%w", ErrUnmounted)
	}
	return m, err
}

func findmnt(ctx context.Context, h Host, subject string, args ...string) (Mount, error) {
	out, err := Tools{Host: h}.Script(ctx, "ask for the mount of", subject, Words(append([]string{"findmnt", "-J", "-f", "-o", "TARGET,SOURCE,FSTYPE,OPTIONS"}, args...)...))
	if err != nil {
		return Mount{}, err
	}
	var said struct {
		Filesystems []Mount `json:"filesystems"`
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil || len(said.Filesystems) == 0 || said.Filesystems[0].Target == "" {
		return Mount{}, fault.New(fault.Tool, "ask for the mount of", subject, "findmnt says %q", out)
	}
	return said.Filesystems[0], nil
}
