package snapshot_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/snapshottest"
)

// blocks is a host by the facts that its kernel tells, and what findmnt says of devices:
// the type of a file system and its place.
type blocks struct {
	facts  string
	mounts map[string]string
}

func (b blocks) Run(_ context.Context, script string, out io.Writer) error {
	if strings.Contains(script, "/sys/class/block") {
		_, err := io.WriteString(out, b.facts)
		return err
	}
	words := strings.Fields(script)
	device := strings.Trim(words[len(words)-1], "'")
	kind, at, mounted := strings.Cut(b.mounts[device], " ")
	if !mounted {
		return &command.ExitError{Program: "/bin/sh", Code: 1}
	}
	_, err := fmt.Fprintf(out, `{"filesystems":[{"target":%q,"source":%q,"fstype":%q,"options":"rw"}]}`, at, device, kind)
	return err
}

// The facts of a kernel with the disks b to e. The names are those of Linux's sysfs.
const (
	fourDisks = "at sdb /dev/b\nat sdc /dev/c\nat nvme1n1 /dev/d\nat sde /dev/e\n"
	linear    = "dm dm-0 vg-pg\non dm-0 sdb\non dm-0 sdc\n"
	array     = "on md127 sdb\non md127 sdc\n"
	parts     = "part sdb1 sdb 1\npart nvme1n1p2 nvme1n1 2\n"
	overParts = "part sdb1 sdb 1\npart sdc1 sdc 1\ndm dm-0 vg-pg\ndm dm-1 vg-crypt\non dm-0 sdb1\non dm-0 sdc1\non dm-1 dm-0\n"
	btrfs     = "on UUID=0b-1 sdb\non UUID=0b-1 sdc\non UUID=0b-2 sde\n"
)

// TestMounted finds what lies on disks, through whatever is between.
func TestMounted(t *testing.T) {
	for name, c := range map[string]struct {
		facts  string
		mounts map[string]string
		disks  string
		want   []snapshot.Disk // Path, Volume and Partition
		says   string
	}{
		"whole disks":            {"", map[string]string{"/dev/b": "ext4 /srv/a b", "/dev/c": "xfs /srv/c"}, "bc", []snapshot.Disk{{Path: "/srv/a b"}, {Path: "/srv/c"}}, ""},
		"partitions":             {parts, map[string]string{"/dev/sdb1": "ext4 /srv/pg", "/dev/nvme1n1p2": "xfs /srv/c"}, "bd", []snapshot.Disk{{Path: "/srv/pg", Volume: "/dev/sdb1", Partition: 1}, {Path: "/srv/c", Volume: "/dev/nvme1n1p2", Partition: 2}}, ""},
		"one volume on one disk": {"dm dm-0 vg-pg\non dm-0 sde\n", map[string]string{"/dev/mapper/vg-pg": "ext4 /srv/pg"}, "e", []snapshot.Disk{{Path: "/srv/pg", Volume: "/dev/mapper/vg-pg"}}, ""},
		"a volume on two":        {linear, map[string]string{"/dev/mapper/vg-pg": "ext4 /srv/pg"}, "bc", []snapshot.Disk{{Path: "/srv/pg", Volume: "/dev/mapper/vg-pg"}, {Path: "/srv/pg", Volume: "/dev/mapper/vg-pg"}}, ""},
		"an array of two":        {array, map[string]string{"/dev/md127": "ext4 /srv/pg", "/dev/e": "ext4 /srv/e"}, "bce", []snapshot.Disk{{Path: "/srv/pg", Volume: "/dev/md127"}, {Path: "/srv/pg", Volume: "/dev/md127"}, {Path: "/srv/e"}}, ""},
		"a volume on a volume":   {overParts, map[string]string{"/dev/mapper/vg-crypt": "ext4 /srv/pg"}, "bc", []snapshot.Disk{{Path: "/srv/pg", Volume: "/dev/mapper/vg-crypt"}, {Path: "/srv/pg", Volume: "/dev/mapper/vg-crypt"}}, ""},
		"btrfs on two":           {btrfs, map[string]string{"/dev/sdb": "btrfs /srv/pg", "/dev/b": "btrfs /srv/pg", "/dev/e": "btrfs /srv/e", "/dev/sde": "btrfs /srv/e"}, "bce", []snapshot.Disk{{Path: "/srv/pg", Volume: "UUID=0b-1"}, {Path: "/srv/pg", Volume: "UUID=0b-1"}, {Path: "/srv/e"}}, ""},
		"the other one missing":  {linear, map[string]string{"/dev/mapper/vg-pg": "ext4 /srv/pg"}, "b", nil, "look at disk b: the file system at /srv/pg lies on /dev/sdc, too: it is on /dev/mapper/vg-pg of sdb, sdc"},
		"of a btrfs":             {btrfs, map[string]string{"/dev/sdb": "btrfs /srv/pg", "/dev/c": "btrfs /srv/pg"}, "c", nil, "the file system at /srv/pg lies on /dev/sdb, too"},
		"two partitions":         {"part sdb1 sdb 1\npart sdb2 sdb 2\n", map[string]string{"/dev/sdb1": "ext4 /srv/1", "/dev/sdb2": "ext4 /srv/2"}, "b", nil, "it has several file systems that are mounted: /srv/1, /srv/2"},
		"none":                   {parts, nil, "b", nil, "look at disk b: "},
		"no facts":               {"at sdb\n", nil, "b", nil, "the script says"},
	} {
		t.Run(name, func(t *testing.T) {
			var disks []snapshot.Disk
			for _, d := range c.disks {
				disks = append(disks, snapshot.Disk{Name: string(d), Device: "/dev/" + string(d)})
			}
			got, err := snapshot.Mounted(t.Context(), blocks{fourDisks + c.facts, c.mounts}, disks)
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				assert.NotEmpty(t, fault.HintOf(err))
				return
			}
			require.NoError(t, err)
			for i, d := range got {
				assert.Equal(t, disks[i].Device, d.Device)
				assert.Equal(t, c.want[i], snapshot.Disk{Path: d.Path, Volume: d.Volume, Partition: d.Partition})
				assert.Equal(t, d.Path, d.Mount)
				assert.Equal(t, "rw", d.Options)
			}
		})
	}
}

// pool is a provider that cuts disks at the same moment, when it may.
type pool struct {
	*snapshottest.Memory
	refuses bool
}

func (p pool) CreateSet(ctx context.Context, tag snapshot.Tag, disks []snapshot.Disk) ([]snapshot.Snapshot, error) {
	if p.refuses {
		return nil, nil
	}
	p.Log = append(p.Log, "set")
	return snapshot.CreateEach(ctx, p.Memory, tag, disks)
}

// TestSpans: disks that share a file system are cut at the same moment, or not at all;
// snapshots of which nobody knows that they are so are not taken.
func TestSpans(t *testing.T) {
	share := []snapshot.Disk{{Name: "a", Mount: "/srv/pg", Volume: "/dev/md0"}, {Name: "b", Mount: "/srv/b"}, {Name: "c", Mount: "/srv/pg", Volume: "/dev/md0"}}
	job := snapshot.Job{Tag: snapshot.Tag{Owner: "o", ID: "20260101T000000", Attempt: 1}, Disks: share, Last: "a", Until: snapshot.Completed, Timeout: time.Minute, Pause: time.Millisecond}
	const says = "back up the file system at /srv/pg: it lies on the disks a, c, which cannot be cut at the same moment"
	m := &snapshottest.Memory{}
	require.ErrorContains(t, snapshot.CheckSpans(m, share), says)
	require.NoError(t, snapshot.CheckSpans(m, share[:2]))
	require.NoError(t, snapshot.CheckSpans(pool{Memory: m}, share))
	for _, p := range []snapshot.Provider{m, pool{m, true}} {
		_, err := snapshot.Take(t.Context(), p, job)
		require.ErrorContains(t, err, says)
		assert.Equal(t, fault.Refused, fault.KindOf(err))
		assert.NotEmpty(t, fault.HintOf(err))
		assert.Empty(t, m.IDs())
	}
	together := pool{Memory: m}
	made, err := snapshot.Take(t.Context(), together, job)
	require.NoError(t, err)
	again, err := snapshot.Take(t.Context(), together, job)
	require.NoError(t, err)
	assert.Equal(t, made, again, "a whole set is taken over")
	for what, change := range map[string]func() error{
		"one is missing":     func() error { return m.Delete(t.Context(), made[1]) },
		"one is there twice": func() error { _, err := m.Create(t.Context(), job.Tag, share[0]); return err },
	} {
		require.NoError(t, change())
		old := made
		made, err = snapshot.Take(t.Context(), together, job)
		require.NoError(t, err, what)
		assert.Len(t, m.IDs(), 3, what)
		for i := range made {
			assert.NotEqual(t, old[i].ID, made[i].ID, what)
		}
	}
	l := &snapshot.Layout{Disks: share, Holds: map[string]snapshot.At{"pgdata": {Disk: "a"}, "16384": {Disk: "b"}}}
	r := snapshot.NewRecord("aws", "pg", l, made)
	assert.Equal(t, "/dev/md0", r.Snapshots[2].Mount.Volume)
}

// TestMounts: how disks that were made of snapshots are mounted.
func TestMounts(t *testing.T) {
	l := &snapshot.Layout{Disks: []snapshot.Disk{
		{Name: "a", Mount: "/m 1", Options: "rw"}, {Name: "b", Mount: "/m2", Options: "rw", Volume: "/dev/sdb1", Partition: 1},
		{Name: "c", Mount: "/m3", Options: "rw", Volume: "/dev/nvme1n1p2", Partition: 2}, {Name: "d", Mount: "/m4", Options: "ro", Volume: "/dev/sdd3", Partition: 3},
		{Name: "e", Mount: "/m5", Options: "rw", Volume: "UUID=0b-1"}, {Name: "f", Mount: "/m5", Options: "rw", Volume: "UUID=0b-1"}, {Name: "g", Mount: "/m6", Options: "rw", Volume: "/dev/md0"}}}
	r := snapshot.NewRecord("aws", "pg", l, make([]snapshot.Snapshot, len(l.Disks)))
	assert.Equal(t, []string{
		"mount -o 'rw' '/dev/sdf' '/m 1'",
		"mount -o 'rw' '/dev/sdg1' '/m2'",
		"mount -o 'rw' '/dev/nvme3n1p2' '/m3'",
		"mount -o 'ro' '/dev/disk/by-id/google-x-part3' '/m4'",
		"udevadm settle; mdadm --assemble --scan; vgchange -a y; btrfs device scan",
		"mount -o 'rw' 'UUID=0b-1' '/m5'",
		"mount -o 'rw' '/dev/md0' '/m6'",
	}, r.Mounts([]string{"/dev/sdf", "/dev/sdg", "/dev/nvme3n1", "/dev/disk/by-id/google-x", "/dev/e", "/dev/f", "/dev/g"}))
}
