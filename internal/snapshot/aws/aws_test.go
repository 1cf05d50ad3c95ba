package aws_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/aws"
	"github.com/holdfast-pg/holdfast/internal/snapshot/aws/awstest"
	"github.com/holdfast-pg/holdfast/internal/snapshot/snapshottest"
)

var update = flag.Bool("update", false, "write golden files")

// host says which devices there are, and where they are mounted.
type host struct{ devices, mounts, stack string }

func (h host) Run(_ context.Context, script string, out io.Writer) error {
	switch {
	case strings.Contains(script, "/sys/class/block"):
		_, err := io.WriteString(out, h.stack)
		return err
	case strings.Contains(script, "/sys/block"):
		_, err := io.WriteString(out, h.devices)
		return err
	}
	for line := range strings.Lines(h.mounts) {
		device, at, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.Contains(script, "'"+device+"'") || strings.HasSuffix(strings.TrimSpace(script), device) {
			_, err := fmt.Fprintf(out, `{"filesystems":[{"target":%q,"source":%q,"fstype":"ext4","options":"rw,noatime"}]}`, at, device)
			return err
		}
	}
	return &command.ExitError{Program: "/bin/sh", Code: 1}
}

// nitro has one NVMe disk and one of Xen's names.
var nitro = host{"vol0a /dev/nvme1n1\nvolother /dev/nvme2n1\n= /dev/xvdg\n", "/dev/nvme1n1 /srv/a b\n/dev/xvdg /srv/c\n", ""}

func settings(t *testing.T, s *awstest.Server, disks ...string) *config.Server {
	for k, v := range map[string]string{"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "", "AWS_PROFILE": ""} {
		t.Setenv(k, v)
	}
	var c config.Server
	c.Name, c.SnapshotInstance, c.SnapshotDisks, c.AWSRegion = "main", "pg", disks, awstest.Region
	c.HoldfastSnapshotEndpoint, c.AWSAwaitSnapshotsTimeout, c.HoldfastSnapshotMultiVolume = s.URL, time.Minute, "auto"
	return &c
}

func open(t *testing.T, c *config.Server) *aws.Provider {
	t.Helper()
	p, err := aws.Open(t.Context(), c, nitro)
	require.NoError(t, err)
	p.Pause = time.Millisecond
	return p
}

// bench is a server whose instance has two volumes and one that is not listed.
func bench(t *testing.T) (*awstest.Server, *config.Server, *aws.Provider, snapshot.Job) {
	s := awstest.New(t)
	s.Pending, s.PageSize = 2, 1
	s.Volumes = append(s.Volumes, &awstest.Volume{ID: "vol-0a", Name: "data", Instance: "i-1", Device: "/dev/sdf", Type: "gp3"},
		&awstest.Volume{ID: "vol-0b", Name: "space", Instance: "i-1", Device: "/dev/sdg"}, &awstest.Volume{ID: "vol-0c", Name: "other", Instance: "i-1", Device: "/dev/sdh"})
	c := settings(t, s, "data", "vol-0b")
	p := open(t, c)
	disks, err := p.Disks(t.Context())
	require.NoError(t, err)
	return s, c, p, snapshot.Job{Tag: snapshot.Tag{Owner: "main-00000000", ID: "20260101T000000", Attempt: 1}, Disks: disks, Until: snapshot.Completed, Timeout: time.Minute, Pause: time.Millisecond}
}

func TestSuite(t *testing.T) {
	s, _, p, _ := bench(t)
	s.Pending = 1 << 30
	snapshottest.Suite{Open: func(*testing.T, snapshot.Host) snapshot.Provider { return p }}.Run(t)
}

// TestDisks: by ID or Name, as the kernel calls them, with mount and options.
func TestDisks(t *testing.T) {
	s, c, _, job := bench(t)
	assert.Equal(t, []snapshot.Disk{
		{Name: "data", Path: "/srv/a b", Mount: "/srv/a b", Options: "rw,noatime", Device: "/dev/nvme1n1"},
		{Name: "vol-0b", Path: "/srv/c", Mount: "/srv/c", Options: "rw,noatime", Device: "/dev/xvdg"}}, job.Disks)
	s.Volumes = append(s.Volumes, &awstest.Volume{ID: "vol-0d", Name: "twin", Instance: "i-1", Device: "/dev/sdi"}, &awstest.Volume{ID: "vol-0e", Name: "twin", Instance: "i-1", Device: "/dev/sdj"},
		&awstest.Volume{ID: "vol-far", Name: "far", Instance: "i-2", Device: "/dev/sdf"})
	for name, want := range map[string]string{
		"dat":    "it is not attached to the instance pg, which has vol-0a data, vol-0b space, vol-0c other",
		"far":    "it is not attached",
		"twin":   "several volumes have this Name: vol-0d, vol-0e",
		"root":   "it is the root volume of the instance pg (/dev/xvda)",
		"other":  "the host has no device for volume vol-0c, which EC2 calls /dev/sdh",
		"vol-0a": "it is volume vol-0a, which is listed as data, too",
	} {
		c.SnapshotDisks = []string{"data", name}
		_, err := open(t, c).Disks(t.Context())
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "look at disk "+name)
		assert.NotEmpty(t, fault.HintOf(err), name)
	}
	c.SnapshotDisks = []string{"data"}
	p, err := aws.Open(t.Context(), c, host{devices: nitro.devices})
	require.NoError(t, err)
	_, err = p.Disks(t.Context())
	assert.ErrorIs(t, err, snapshot.ErrUnmounted)
	c.AWSRegion = ""
	_, err = aws.Open(t.Context(), c, nitro)
	assert.Equal(t, fault.Config, fault.KindOf(err))
	c.AWSProfile = "nobody"
	_, err = aws.Open(t.Context(), c, nitro)
	assert.ErrorContains(t, err, "nobody")
}

// TestInstance: by ID or Name, not terminated, and only one.
func TestInstance(t *testing.T) {
	s, c, p, _ := bench(t)
	s.Instances = append(s.Instances, &awstest.Instance{ID: "i-old", Name: "pg", State: "terminated"}, &awstest.Instance{ID: "i-2", Name: "stopped", State: "stopped"})
	_, err := p.Disks(t.Context())
	require.NoError(t, err)
	_, err = p.Attached(t.Context(), "i-1")
	require.NoError(t, err)
	_, err = p.Attached(t.Context(), "stopped")
	require.NoError(t, err)
	for _, name := range []string{"i-none", "i-old", "none", "p*"} {
		_, err = p.Attached(t.Context(), name)
		assert.Equal(t, fault.NotFound, fault.KindOf(err), name)
		assert.ErrorContains(t, err, "region eu-west-2 has no instance with this ID or Name")
	}
	s.Instances = append(s.Instances, &awstest.Instance{ID: "i-3", Name: "pg", State: "running"})
	_, err = p.Disks(t.Context())
	assert.ErrorContains(t, err, "several instances have this Name: i-1, i-3")
	s.Instances = s.Instances[:1]
	s.Instances[0].Outpost = "arn:aws:outposts:eu-west-2:012345678901:outpost/op-1"
	c.AWSSnapshotLockMode = "governance"
	_, err = open(t, c).Disks(t.Context())
	assert.ErrorContains(t, err, "Outpost")
}

// TestTake: the requests for a backup of two volumes, as they go over the wire.
func TestTake(t *testing.T) {
	s, _, p, job := bench(t)
	s.Instances[0].Outpost = "arn:op-1"
	s.Log = nil
	made, err := snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	info, err := p.SnapshotsInfo(t.Context(), job.Disks, made)
	require.NoError(t, err)
	assert.Equal(t, `{'provider': 'aws', 'provider_info': {'account_id': '012345678901', 'region': 'eu-west-2'}, 'snapshots': [`+
		`{'mount': {'mount_options': 'rw,noatime', 'mount_point': '/srv/a b'}, 'provider': {'device_name': '/dev/sdf', 'snapshot_id': 'snap-1', 'snapshot_name': 'data-20260101t000000', 'snapshot_lock_mode': None}}, `+
		`{'mount': {'mount_options': 'rw,noatime', 'mount_point': '/srv/c'}, 'provider': {'device_name': '/dev/sdg', 'snapshot_id': 'snap-2', 'snapshot_name': 'vol-0b-20260101t000000', 'snapshot_lock_mode': None}}]}`, info.String())
	require.NoError(t, snapshot.RemoveAll(t.Context(), p, job.Tag.Owner, job.Tag.ID, nil))
	assert.Empty(t, s.Snapshots())
	p.Together = false
	job.Last = "data"
	_, err = snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	got := strings.Join(s.Log, "\n") + "\n"
	if *update {
		require.NoError(t, os.WriteFile("testdata/take.golden", []byte(got), 0o644))
	}
	want, err := os.ReadFile("testdata/take.golden")
	require.NoError(t, err)
	assert.Equal(t, string(want), got)
}

// TestOneByOne: where a set is not allowed or not possible; nothing else goes on so.
func TestOneByOne(t *testing.T) {
	s, _, p, job := bench(t)
	refuse := func(code string) {
		s.Fail = func(action string, _ url.Values) *awstest.Failure {
			if action == "CreateSnapshots" {
				return &awstest.Failure{Status: 403, Code: code, Text: "no"}
			}
			return nil
		}
	}
	for _, code := range []string{"UnauthorizedOperation", "UnsupportedOperation", "InvalidParameterCombination"} {
		refuse(code)
		made, err := snapshot.Take(t.Context(), p, job)
		require.NoError(t, err)
		assert.Len(t, s.Snapshots(), 2)
		assert.Equal(t, "data-20260101t000000", made[0].Name)
		require.NoError(t, snapshot.RemoveAll(t.Context(), p, job.Tag.Owner, job.Tag.ID, nil))
	}
	refuse("SnapshotLimitExceeded")
	_, err := snapshot.Take(t.Context(), p, job)
	assert.Equal(t, fault.Disk, fault.KindOf(err))
	assert.Empty(t, s.Snapshots())
}

// TestStandby: a set needs no disk to be the last, snapshots one by one do.
func TestStandby(t *testing.T) {
	s, _, p, job := bench(t)
	job.Last = "data"
	made := func() (actions []string) {
		s.Do(func() {
			for _, line := range s.Log {
				action, _, _ := strings.Cut(line, "\n")
				if _, volume, _ := strings.Cut(line, "VolumeId="); strings.HasPrefix(action, "CreateSnapshot") {
					actions = append(actions, strings.TrimSpace(action+" "+volume))
				}
			}
			s.Log = nil
		})
		return actions
	}
	_, err := snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	assert.Equal(t, []string{"CreateSnapshots"}, made())
	p.Together = false
	job.Tag.Attempt++
	_, err = snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	assert.Equal(t, []string{"CreateSnapshot vol-0b", "CreateSnapshot vol-0a"}, made())
}

// TestSetWithoutNames: a set whose names were not given is not taken for another one, and goes.
func TestSetWithoutNames(t *testing.T) {
	s, _, p, job := bench(t)
	s.Fail = func(action string, _ url.Values) *awstest.Failure {
		if action == "CreateTags" {
			return &awstest.Failure{Status: 403, Code: "UnauthorizedOperation", Text: "no"}
		}
		return nil
	}
	_, err := snapshot.Take(t.Context(), p, job)
	require.ErrorContains(t, err, "name the snapshot of data")
	assert.Contains(t, fault.HintOf(err), "ec2:CreateTags")
	s.Fail = nil
	require.NoError(t, snapshot.RemoveAll(t.Context(), p, job.Tag.Owner, job.Tag.ID, nil))
	assert.Empty(t, s.Snapshots())
}

// TestSpans: volumes that share a file system are cut at the same moment, or not at all.
func TestSpans(t *testing.T) {
	s, c, _, job := bench(t)
	striped := host{nitro.devices, "/dev/mapper/vg-pg /srv/pg\n", "at nvme1n1 /dev/nvme1n1\nat xvdg /dev/xvdg\ndm dm-0 vg-pg\non dm-0 nvme1n1\non dm-0 xvdg\n"}
	open := func() *aws.Provider {
		p, err := aws.Open(t.Context(), c, striped)
		require.NoError(t, err)
		p.Pause = time.Millisecond
		return p
	}
	p := open()
	disks, err := p.Disks(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "/dev/mapper/vg-pg", disks[1].Volume)
	job.Disks = disks
	made, err := snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	assert.Len(t, made, 2)
	require.NoError(t, snapshot.RemoveAll(t.Context(), p, job.Tag.Owner, job.Tag.ID, nil))
	s.Fail = func(action string, _ url.Values) *awstest.Failure {
		if action == "CreateSnapshots" {
			return &awstest.Failure{Status: 403, Code: "UnauthorizedOperation", Text: "no"}
		}
		return nil
	}
	_, err = snapshot.Take(t.Context(), p, job)
	assert.ErrorContains(t, err, "the file system at /srv/pg: it lies on the disks data, vol-0b, which cannot be cut at the same moment")
	assert.Contains(t, fault.HintOf(err), "ec2:CreateSnapshots")
	assert.Empty(t, s.Snapshots())
	c.HoldfastSnapshotMultiVolume = "off"
	_, err = open().Disks(t.Context())
	assert.ErrorContains(t, err, "which cannot be cut at the same moment")
	c.SnapshotDisks = []string{"data"}
	_, err = open().Disks(t.Context())
	assert.ErrorContains(t, err, "the file system at /srv/pg lies on /dev/xvdg, too")
}

// TestLostAnswer: what was made although nobody was told is taken, unless EC2 does not
// list it yet; then there are two, and one look later it is known which is too many.
func TestLostAnswer(t *testing.T) {
	s, _, p, job := bench(t)
	lose := func() {
		lost := false
		s.Lose = func(action string, _ url.Values) bool {
			was := lost
			lost = lost || action == "CreateSnapshot"
			return !was && lost
		}
	}
	lose()
	made, err := p.Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err)
	assert.Len(t, s.Snapshots(), 1)
	require.NoError(t, p.Delete(t.Context(), made))
	lose()
	s.Hide = true
	made, err = p.Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err)
	s.Hide = false
	assert.Len(t, s.Snapshots(), 2)
	all, err := p.List(t.Context(), job.Tag.Owner)
	require.NoError(t, err)
	assert.Len(t, all, 2)
	assert.Equal(t, "snap-3", made.ID)
}

// TestLostSet: a set whose answer was lost is begun again by another attempt.
func TestLostSet(t *testing.T) {
	s, _, p, job := bench(t)
	s.Lose = func(action string, _ url.Values) bool { return action == "CreateSnapshots" }
	_, err := snapshot.Take(t.Context(), p, job)
	require.ErrorContains(t, err, "may have made them")
	assert.True(t, fault.KindOf(err).Retryable())
	assert.Len(t, s.Snapshots(), 2)
	s.Lose = nil
	job.Tag.Attempt = 2
	made, err := snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	assert.Len(t, s.Snapshots(), 2)
	assert.Equal(t, 2, made[0].Tag.Attempt)
}

// TestThrottled: AWS is asked again for as long as it is busy, and makes nothing twice.
func TestThrottled(t *testing.T) {
	s, _, p, job := bench(t)
	left := map[string]int{"CreateSnapshot": 1, "DescribeSnapshots": 1}
	s.Fail = func(action string, _ url.Values) *awstest.Failure {
		if left[action] > 0 {
			left[action]--
			return &awstest.Failure{Status: 503, Code: "RequestLimitExceeded", Text: "Request limit exceeded."}
		}
		return nil
	}
	p.Together = false
	job.Disks = job.Disks[:1]
	_, err := snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	assert.Len(t, s.Snapshots(), 1)
	assert.Equal(t, map[string]int{"CreateSnapshot": 0, "DescribeSnapshots": 0}, left)
}

// TestErrors: what AWS says has its kind and its cure.
func TestErrors(t *testing.T) {
	s, _, p, job := bench(t)
	for _, c := range []struct {
		awstest.Failure
		kind fault.Kind
		hint string
	}{
		{awstest.Failure{Status: 403, Code: "UnauthorizedOperation", Text: "You are not authorized"}, fault.Permission, "ec2:CreateSnapshot"},
		{awstest.Failure{Status: 401, Code: "AuthFailure", Text: "not able to validate"}, fault.Permission, "AWS_ACCESS_KEY_ID"},
		{awstest.Failure{Status: 400, Code: "SnapshotLimitExceeded", Text: "quota"}, fault.Disk, "quota"},
		{awstest.Failure{Status: 400, Code: "InvalidVolume.NotFound", Text: "gone"}, fault.NotFound, "snapshot_disks"},
		{awstest.Failure{Status: 400, Code: "InvalidParameterValue", Text: "bad"}, fault.Unavailable, "correct"},
	} {
		s.Fail = func(action string, _ url.Values) *awstest.Failure {
			if action == "CreateSnapshot" {
				return &c.Failure
			}
			return nil
		}
		_, err := p.Create(t.Context(), job.Tag, job.Disks[0])
		assert.Equal(t, c.kind, fault.KindOf(err), "%v", err)
		assert.Contains(t, fault.HintOf(err), c.hint)
		assert.ErrorContains(t, err, "make a snapshot of data: ")
		assert.ErrorContains(t, err, c.Code)
	}
	assert.Empty(t, s.Snapshots())
	s.Fail = nil
	s.Do(func() { s.Volumes[1].Instance = "" })
	_, err := p.Create(t.Context(), job.Tag, job.Disks[0])
	assert.ErrorContains(t, err, "it is not attached")
}

// TestExpired: for credentials that expire while snapshots are made or waited for new ones
// are looked for, and nothing is made twice.
func TestExpired(t *testing.T) {
	s, _, p, job := bench(t)
	left := map[string]int{"CreateSnapshot": 1, "DescribeSnapshots": 1}
	s.Fail = func(action string, _ url.Values) *awstest.Failure {
		if left[action] > 0 {
			left[action]--
			return &awstest.Failure{Status: 400, Code: "RequestExpired", Text: "Request has expired."}
		}
		return nil
	}
	job.Disks = job.Disks[:1]
	_, err := snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	assert.Len(t, s.Snapshots(), 1)
	assert.Equal(t, map[string]int{"CreateSnapshot": 0, "DescribeSnapshots": 0}, left)
}

// TestPhases: what is pending has its content, and an error is told.
func TestPhases(t *testing.T) {
	s, _, p, job := bench(t)
	s.Pending = 1 << 30
	made, err := p.Create(t.Context(), job.Tag, job.Disks[0])
	require.NoError(t, err)
	assert.Equal(t, snapshot.Cut, made.Phase)
	s.Complete("error")
	job.Disks = job.Disks[:1]
	_, err = snapshot.Await(t.Context(), p, job, []snapshot.Snapshot{made})
	assert.ErrorContains(t, err, "its state is error: the volume is broken")
	s.Complete("recoverable")
	all, err := p.List(t.Context(), job.Tag.Owner)
	require.NoError(t, err)
	assert.Equal(t, snapshot.Pending, all[0].Phase)
}

// TestOneLoop: sixteen volumes are cut by one call, and one question is asked for all.
func TestOneLoop(t *testing.T) {
	s, c, _, job := bench(t)
	s.PageSize, s.Pending = 0, 5
	devices, mounts := "", ""
	c.SnapshotDisks = nil
	for i := range 16 {
		id := fmt.Sprintf("vol-%02d", i)
		s.Volumes = append(s.Volumes, &awstest.Volume{ID: id, Name: id, Instance: "i-1", Device: fmt.Sprintf("/dev/sdz%d", i)})
		devices += fmt.Sprintf("vol%02d /dev/nvme%dn1\n", i, i)
		mounts += fmt.Sprintf("/dev/nvme%dn1 /srv/%d\n", i, i)
		c.SnapshotDisks = append(c.SnapshotDisks, id)
	}
	p, err := aws.Open(t.Context(), c, host{devices: devices, mounts: mounts})
	require.NoError(t, err)
	job.Disks, err = p.Disks(t.Context())
	require.NoError(t, err)
	s.Log = nil
	_, err = snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	calls := map[string]int{}
	for _, entry := range s.Log {
		action, _, _ := strings.Cut(entry, "\n")
		calls[action]++
	}
	assert.Equal(t, map[string]int{"DescribeInstances": 1, "DescribeVolumes": 1, "CreateSnapshots": 1, "CreateTags": 16, "DescribeSnapshots": 7, "DescribeLockedSnapshots": 1}, calls)
}

// TestLocks: locked as it is configured, once, found again, and not deleted.
func TestLocks(t *testing.T) {
	days, hours := 3, 2
	for name, c := range map[string]struct {
		set  func(*config.Server)
		want []string
	}{
		"duration": {func(c *config.Server) {
			c.AWSSnapshotLockMode, c.AWSSnapshotLockDuration, c.AWSSnapshotLockCoolOffPeriod = "compliance", &days, &hours
		}, []string{"LockMode=compliance", "LockDuration=3", "CoolOffPeriod=2"}},
		"date": {func(c *config.Server) {
			c.AWSSnapshotLockMode, c.AWSSnapshotLockExpiration = "governance", "2126-01-02T03:04:05.000Z"
		}, []string{"LockMode=governance", "ExpirationDate=2126-01-02T03:04:05Z"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, settings, _, job := bench(t)
			s.PageSize = 0
			c.set(settings)
			p := open(t, settings)
			made, err := snapshot.Take(t.Context(), p, job)
			require.NoError(t, err)
			s.Log = nil
			for range 2 {
				made, err = snapshot.LockAll(t.Context(), p, made)
				require.NoError(t, err)
			}
			locks := slices.DeleteFunc(slices.Clone(s.Log), func(e string) bool { return !strings.HasPrefix(e, "LockSnapshot") })
			require.Len(t, locks, 2)
			for _, w := range c.want {
				assert.Contains(t, locks[0], w)
			}
			info, err := p.SnapshotsInfo(t.Context(), job.Disks, made)
			require.NoError(t, err)
			assert.Contains(t, info.String(), "'snapshot_lock_mode': '"+settings.AWSSnapshotLockMode+"'")
			err = snapshot.CheckUnlocked(t.Context(), p, job.Tag.Owner, job.Tag.ID)
			assert.Equal(t, fault.Refused, fault.KindOf(err), "%v", err)
			err = p.Delete(t.Context(), snapshot.Snapshot{ID: made[0].ID, Name: made[0].Name})
			assert.ErrorContains(t, err, "it is locked ("+settings.AWSSnapshotLockMode+") until "+made[0].Lock.Until.UTC().Format("2006-01-02"))
			s.Fail = func(action string, _ url.Values) *awstest.Failure {
				if action == "DescribeLockedSnapshots" {
					return &awstest.Failure{Status: 403, Code: "UnauthorizedOperation", Text: "no"}
				}
				return nil
			}
			err = p.Delete(t.Context(), snapshot.Snapshot{ID: made[0].ID, Name: made[0].Name})
			assert.Equal(t, fault.Refused, fault.KindOf(err), "%v", err)
			assert.Len(t, s.Snapshots(), 2)
		})
	}
}

// TestCreateDisk: one volume for a snapshot, of its origin's type, attached once.
func TestCreateDisk(t *testing.T) {
	s, _, p, job := bench(t)
	s.Instances = append(s.Instances, &awstest.Instance{ID: "i-2", Name: "new", State: "running"})
	s.Volumes = append(s.Volumes, &awstest.Volume{ID: "vol-2", Instance: "i-2", Device: "/dev/sdf"})
	made, err := snapshot.Take(t.Context(), p, job)
	require.NoError(t, err)
	s.Lose = func(action string, _ url.Values) bool {
		lose := action == "CreateVolume"
		if lose {
			s.Lose = nil
		}
		return lose
	}
	var first snapshot.AttachedDisk
	for i := range 2 {
		d, err := p.CreateDisk(t.Context(), "new", made[0])
		require.NoError(t, err)
		if i == 0 {
			first = d
		}
		assert.Equal(t, first, d)
	}
	assert.Equal(t, "/dev/xvdg", first.Device)
	assert.Equal(t, made[0].ID, first.Source)
	has, err := p.Attached(t.Context(), "i-2")
	require.NoError(t, err)
	assert.Len(t, has, 2)
	assert.Equal(t, first, has[1])
	v := s.Volumes[len(s.Volumes)-1]
	assert.Equal(t, awstest.Volume{ID: v.ID, Name: made[0].Name, Instance: "i-2", Device: "/dev/sdg", Snapshot: made[0].ID, Type: "gp3"}, *v)
	_, err = p.CreateDisk(t.Context(), "new", snapshot.Snapshot{ID: "snap-none", Name: "x"})
	assert.Equal(t, fault.NotFound, fault.KindOf(err), "%v", err)
}

// TestCancelled: who is asked to end asks AWS no more.
func TestCancelled(t *testing.T) {
	_, _, p, _ := bench(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.List(ctx, "main")
	assert.Equal(t, fault.Cancelled, fault.KindOf(err))
}
