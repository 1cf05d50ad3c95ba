package snapshot

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// FileSystem is what is mounted of a disk.
type FileSystem struct {
	Mount
	// Device has it, where that is not the disk itself: a partition, a volume, an array,
	// or UUID=... for a btrfs on several devices.
	Device string
	// Partition is the number of that of the disk that Device is; 0 for anything else.
	Partition int
	// Disk is the kernel's name of the disk, and Disks has those of all that the file
	// system lies on; both are empty where it was found on the disk at once.
	Disk  string
	Disks []string
}

// FileSystems finds what lies on disks, also on their partitions, and on volumes and
// arrays of several of them. Each disk has a file system or an error, which is
// ErrUnmounted when nothing of it is mounted.
func FileSystems(ctx context.Context, h Host, devices []string) ([]FileSystem, []error) {
	found, errs := make([]FileSystem, len(devices)), make([]error, len(devices))
	unsure := false
	for i, d := range devices {
		found[i].Mount, errs[i] = MountOfDevice(ctx, h, d)
		unsure = unsure || errors.Is(errs[i], ErrUnmounted) || found[i].Type == "btrfs"
	}
	if !unsure {
		return found, errs
	}
	s, err := readStack(ctx, h, devices)
	for i, d := range devices {
		switch {
		case err != nil:
			errs[i] = err
		case errs[i] == nil && found[i].Type != "btrfs":
			found[i].Disk = s.at[d]
		case errs[i] == nil || errors.Is(errs[i], ErrUnmounted):
			found[i], errs[i] = s.on(ctx, h, d)
		}
	}
	return found, errs
}

// stack is which block devices of a host lie on which, by the kernel's names; a btrfs
// is called by the UUID that it is mounted by.
type stack struct {
	at        map[string]string   // paths of disks
	lower     map[string][]string // what a device lies on
	partition map[string]int      // numbers
	mapped    map[string]string   // names of the device mapper
}

const btrfsPrefix = "UUID="

// stackScript prints it, a fact a line.
const stackScript = `for b in /sys/class/block/*; do
n=${b##*/}
if [ -e "$b/partition" ]; then p=$(readlink -f "$b/.."); printf 'part %s %s %s\n' "$n" "${p##*/}" "$(cat "$b/partition")"; fi
if [ -e "$b/dm/name" ]; then printf 'dm %s %s\n' "$n" "$(cat "$b/dm/name")"; fi
for s in "$b"/slaves/*; do if [ -e "$s" ]; then printf 'on %s %s\n' "$n" "${s##*/}"; fi; done
done
for f in /sys/fs/btrfs/*/devices/*; do if [ -e "$f" ]; then u=${f%/devices/*}; printf 'on UUID=%s %s\n' "${u##*/}" "${f##*/}"; fi; done
`

func readStack(ctx context.Context, h Host, devices []string) (*stack, error) {
	said, err := Tools{Host: h}.Script(ctx, "look at", "the block devices of the host",
		"for d in "+Words(devices...)+"; do if r=$(readlink -e -- \"$d\"); then printf 'at %s %s\\n' \"${r##*/}\" \"$d\"; fi; done\n"+stackScript)
	if err != nil {
		return nil, err
	}
	s := &stack{map[string]string{}, map[string][]string{}, map[string]int{}, map[string]string{}}
	for line := range strings.Lines(said) {
		w := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		if len(w) < 3 {
			return nil, fault.New(fault.Tool, "look at", "the block devices of the host", "the script says %q", line)
		}
		switch w[0] {
		case "at":
			s.at[w[2]] = w[1]
		case "dm":
			s.mapped[w[1]] = w[2]
		case "on":
			s.lower[w[1]] = append(s.lower[w[1]], w[2])
		case "part":
			disk, number, _ := strings.Cut(w[2], " ")
			n, err := strconv.Atoi(number)
			if err != nil {
				return nil, fault.New(fault.Tool, "look at", "the block devices of the host", "the script says %q", line)
			}
			s.lower[w[1]], s.partition[w[1]] = []string{disk}, n
		}
	}
	return s, nil
}

// path is by what a device is mounted.
func (s *stack) path(name string) string {
	if dm, is := s.mapped[name]; is {
		return "/dev/mapper/" + dm
	}
	if strings.HasPrefix(name, btrfsPrefix) {
		return name
	}
	return "/dev/" + strings.ReplaceAll(name, "!", "/")
}

// disks are what a device lies on that lies on nothing.
func (s *stack) disks(name string) []string {
	if len(s.lower[name]) == 0 {
		return []string{name}
	}
	var out []string
	for _, l := range s.lower[name] {
		out = append(out, s.disks(l)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// on finds the one file system that lies on a disk.
func (s *stack) on(ctx context.Context, h Host, device string) (FileSystem, error) {
	disk, there := s.at[device]
	unmounted := fault.New(fault.Tool, "ask for the mount of", device, "%w", ErrUnmounted)
	if !there {
		return FileSystem{}, unmounted
	}
	var found []FileSystem
	for _, name := range append([]string{disk}, slices.Sorted(maps.Keys(s.lower))...) {
		if !slices.Contains(s.disks(name), disk) || s.inBtrfs(name) {
			continue
		}
		m, err := s.mount(ctx, h, name)
		if errors.Is(err, ErrUnmounted) {
			continue
		}
		if err != nil {
			return FileSystem{}, err
		}
		fs := FileSystem{Mount: m, Device: s.path(name), Disk: disk, Disks: s.disks(name)}
		if slices.Equal(s.lower[name], []string{disk}) {
			fs.Partition = s.partition[name]
			if strings.HasPrefix(name, btrfsPrefix) {
				fs.Device = ""
			}
		}
		if name == disk {
			fs.Device = ""
		}
		found = append(found, fs)
	}
	switch len(found) {
	case 0:
		return FileSystem{}, unmounted
	case 1:
		return found[0], nil
	}
	var places []string
	for _, fs := range found {
		places = append(places, fs.Target)
	}
	return FileSystem{}, fault.New(fault.Refused, "look at", device, "it has several file systems that are mounted: %s", strings.Join(places, ", ")).
		WithHint("give each of them a disk of its own")
}

// inBtrfs reports whether a device is a part of a btrfs, which is looked at instead.
func (s *stack) inBtrfs(name string) bool {
	for upper, lower := range s.lower {
		if strings.HasPrefix(upper, btrfsPrefix) && slices.Contains(lower, name) {
			return true
		}
	}
	return false
}

// mount is that of a device. A btrfs is mounted by one of its devices, whichever.
func (s *stack) mount(ctx context.Context, h Host, name string) (m Mount, err error) {
	names := []string{name}
	if strings.HasPrefix(name, btrfsPrefix) {
		names = s.lower[name]
	}
	for _, n := range names {
		if m, err = MountOfDevice(ctx, h, s.path(n)); !errors.Is(err, ErrUnmounted) {
			break
		}
	}
	return m, err
}

// Mounted completes disks that have a name and a device: where their file systems are
// mounted, and which device has these. A file system that lies on a disk which is not
// among them, too, is refused.
func Mounted(ctx context.Context, h Host, disks []Disk) ([]Disk, error) {
	devices := make([]string, len(disks))
	for i, d := range disks {
		devices[i] = d.Device
	}
	found, errs := FileSystems(ctx, h, devices)
	listed := map[string]bool{}
	for _, fs := range found {
		listed[fs.Disk] = true
	}
	out := slices.Clone(disks)
	for i, d := range disks {
		fs, err := found[i], errs[i]
		switch {
		case fault.Is(err, fault.Tool):
			return nil, fault.New(fault.NotFound, "look at disk", d.Name, "%w", err).
				WithHint("mount its file system on the instance; Holdfast looks for it with findmnt as %s, and as what lies on that", d.Device)
		case err != nil:
			return nil, err
		}
		for _, other := range fs.Disks {
			if !listed[other] {
				return nil, fault.New(fault.Refused, "look at disk", d.Name, "the file system at %s lies on %s, too: it is on %s of %s", fs.Target, "/dev/"+other, fs.Device, strings.Join(fs.Disks, ", ")).
					WithHint("add the disk that is /dev/%s to snapshot_disks, or move the cluster to a file system on one disk", other)
			}
		}
		out[i].Path, out[i].Mount, out[i].Options, out[i].Volume, out[i].Partition = fs.Target, fs.Target, fs.Options, fs.Device, fs.Partition
	}
	return out, nil
}

// spanned are the names of disks that share a file system, and the place of that; nil for none.
func spanned(disks []Disk) (names []string, where string) {
	for _, d := range disks {
		for _, other := range disks {
			if other.Volume != "" && other.Volume == d.Volume {
				names = append(names, other.Name)
			}
		}
		if len(names) > 1 {
			return names, d.Mount
		}
		names = nil
	}
	return nil, ""
}

// CheckSpans refuses a file system on several disks that p cannot cut at the same moment.
func CheckSpans(p Provider, disks []Disk) error {
	if _, can := p.(Atomic); can {
		return nil
	}
	return RefuseSpans(disks)
}

// RefuseSpans names a file system that lies on several disks, when there is one.
func RefuseSpans(disks []Disk) error {
	names, where := spanned(disks)
	if names == nil {
		return nil
	}
	return fault.New(fault.Refused, "back up", "the file system at "+where, "it lies on the disks %s, which cannot be cut at the same moment: their snapshots would not fit together", strings.Join(names, ", ")).
		WithHint("move it to one disk; of AWS's volumes all are cut together with holdfast_snapshot_multi_volume = auto and the right ec2:CreateSnapshots")
}
