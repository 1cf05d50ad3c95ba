//go:build integration

package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/compute/apiv1/computepb"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/aws/awstest"
	"github.com/holdfast-pg/holdfast/internal/snapshot/azure/azuretest"
	"github.com/holdfast-pg/holdfast/internal/snapshot/gcp/gcptest"
	"github.com/holdfast-pg/holdfast/internal/sshtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// cloudDisk is a disk of an instance: an image behind a loop device, under the name that
// the cloud gives it below /dev. A snapshot of it is a copy of the image.
type cloudDisk struct {
	name, device, image, root string
	partition                 bool // its file system is on a partition
}

// partSuffix is what udev adds to the name of a disk for its first partition.
const partSuffix = "-part1"

// show puts an image behind a device.
func (d cloudDisk) show(t *testing.T, device, image string) {
	t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", image).Output()
	loop := strings.TrimSpace(string(out))
	if err != nil {
		t.Fatalf("%s cannot be put behind a device (the tests run as root): %v", image, err)
	}
	t.Cleanup(func() {
		_ = unix.Unmount(d.root, unix.MNT_DETACH)
		_ = exec.Command("delpart", loop, "1").Run()
		_ = exec.Command("losetup", "--detach", loop).Run()
	})
	if err := errors.Join(os.MkdirAll(filepath.Dir(device), 0o755), os.Symlink(loop, device)); err != nil {
		t.Fatalf("%s cannot be put behind a device (the tests run as root): %v", image, err)
	}
	t.Cleanup(func() {
		_ = os.Remove(device)
		_ = os.Remove(device + partSuffix)
	})
	if !d.partition {
		return
	}
	// Not every kernel reads a partition table.
	if out, err := exec.Command("sh", "-ec", `addpart "$1" 1 2048 1046528; until [ -b "$1p1" ]; do sleep 0.05; done; ln -s "$1p1" "$2"`, "sh", loop, device+partSuffix).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// volume is the device with the file system.
func (d cloudDisk) volume() string {
	if d.partition {
		return d.device + partSuffix
	}
	return d.device
}

// cloudAPI is a cloud whose API is a server of the tests'.
type cloudAPI struct {
	aws      *awstest.Server // nil for another one
	env      map[string]string
	settings []string
	device   func(i int, name string) string
	// parted lets file systems be on partitions.
	parted bool
	attach func(i int, name string)
	// creating has a function called for each request that makes snapshots: of which disks.
	creating func(func(involved func(disk string) bool))
	// fill lets snapshots of a disk fail for a quota, until mend; what is said of it is told and cure.
	fill, mend  func(disk string)
	told, cure  string
	snapshots   func() []string
	expire      func() // ends locks; nil where there are none
	hurry       func() // completes snapshots at once
	addInstance func(name string)
	nobody      string // what is said of an instance that is not there
	info        string // snapshots_info with %s for its two disks
	disk        func(d cloudDisk, i int, snapshot string) string
}

func google(t *testing.T) *cloudAPI {
	s := gcptest.New(t)
	s.Creating, s.Uploading = 1, 1
	key := filepath.Join(pgtest.Dir(t), "credentials.json")
	text, err := os.ReadFile(os.Getenv("GOOGLE_APPLICATION_CREDENTIALS"))
	if err := errors.Join(err, os.WriteFile(key, text, 0o644)); err != nil {
		t.Fatal(err)
	}
	return &cloudAPI{
		env: map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": key},
		settings: []string{"snapshot_provider = gcp", "gcp_project = " + gcptest.Project, "gcp_zone = " + gcptest.Zone,
			"holdfast_snapshot_endpoint = " + s.URL},
		device: func(_ int, name string) string { return "/dev/disk/by-id/google-" + name },
		attach: func(_ int, name string) { s.Attach("zones/"+gcptest.Zone, name, name) },
		creating: func(call func(func(string) bool)) {
			s.Fail = func(r *http.Request) *gcptest.Failure {
				if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/global/snapshots") {
					call(inText(s.Log[len(s.Log)-1]))
				}
				return nil
			}
		},
		fill: func(disk string) {
			s.Breaks[disk] = &computepb.Errors{Code: proto.String("QUOTA_EXCEEDED"), Message: proto.String("Quota 'SNAPSHOTS' exceeded.")}
		},
		mend:      func(disk string) { delete(s.Breaks, disk) },
		told:      "Quota 'SNAPSHOTS' exceeded",
		cure:      "raise the quota",
		snapshots: s.Snapshots, addInstance: s.AddInstance,
		hurry:  func() { s.Creating, s.Uploading = 0, 0 },
		nobody: "has no such instance",
		info:   "{'provider': 'gcp', 'provider_info': {'project': 'prod'}, 'snapshots': [%s, %s]}",
		disk: func(d cloudDisk, _ int, snapshot string) string {
			return fmt.Sprintf("{'mount': {'mount_options': 'rw,noatime', 'mount_point': '%s'}, 'provider': {'device_name': '%s', 'snapshot_name': '%s', 'snapshot_project': 'prod'}}", d.root, d.name, snapshot)
		},
	}
}

// firstLUN is that of the source's disks; a new machine's have the lowest ones.
const firstLUN = 40

func microsoft(t *testing.T) *cloudAPI {
	s := azuretest.New(t)
	s.Creating, s.Copying = 1, 1
	return &cloudAPI{
		env: map[string]string{"IDENTITY_ENDPOINT": os.Getenv("IDENTITY_ENDPOINT"), "IDENTITY_HEADER": os.Getenv("IDENTITY_HEADER")},
		settings: []string{"snapshot_provider = azure", "azure_subscription_id = " + azuretest.Subscription, "azure_resource_group = " + azuretest.Group,
			"azure_credential = managed-identity", "holdfast_snapshot_endpoint = " + s.URL},
		device: func(i int, _ string) string { return fmt.Sprintf("/dev/disk/azure/scsi1/lun%d", firstLUN+i) },
		parted: true,
		attach: func(i int, name string) { s.Attach(name, int32(firstLUN+i)) },
		creating: func(call func(func(string) bool)) {
			s.Fail = func(r *http.Request) *azuretest.Failure {
				if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/snapshots/") {
					call(inText(s.Log[len(s.Log)-1]))
				}
				return nil
			}
		},
		fill: func(disk string) {
			s.Breaks[disk] = azuretest.Failure{Code: "QuotaExceeded", Text: "The snapshots of the subscription exceed its quota."}
		},
		mend:      func(disk string) { delete(s.Breaks, disk) },
		told:      "exceed its quota",
		cure:      "raise the quota",
		snapshots: s.Snapshots, addInstance: s.AddInstance,
		hurry:  func() { s.Creating, s.Copying = 0, 0 },
		nobody: "nobody",
		info:   "{'provider': 'azure', 'provider_info': {'subscription_id': '0000-1111', 'resource_group': 'prod'}, 'snapshots': [%s, %s]}",
		disk: func(d cloudDisk, i int, snapshot string) string {
			return fmt.Sprintf("{'mount': {'mount_options': 'rw,noatime', 'mount_point': '%s'}, 'provider': {'location': 'westeurope', 'lun': %d, 'snapshot_name': '%s'}}", d.root, firstLUN+i, snapshot)
		},
	}
}

func amazon(t *testing.T) *cloudAPI {
	s := awstest.New(t)
	s.Pending, s.PageSize = 1, 1
	volume := func(disk string) string { return "vol-" + disk }
	none := filepath.Join(pgtest.Dir(t), "none")
	full := ""
	call := func(func(string) bool) {}
	s.Fail = func(action string, form url.Values) *awstest.Failure {
		switch {
		case action == "CreateSnapshots" && full != "":
			return &awstest.Failure{Status: 403, Code: "UnauthorizedOperation", Text: "You are not authorized to perform this operation."}
		case action == "CreateSnapshots":
			call(func(string) bool { return true })
		case action == "CreateSnapshot" && full != "" && form.Get("VolumeId") == volume(full):
			return &awstest.Failure{Status: 400, Code: "SnapshotLimitExceeded", Text: "The maximum number of snapshots has been reached."}
		case action == "CreateSnapshot":
			call(func(disk string) bool { return form.Get("VolumeId") == volume(disk) })
		}
		return nil
	}
	return &cloudAPI{
		aws: s,
		env: map[string]string{"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_REGION": "", "AWS_PROFILE": "",
			"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true"},
		settings: []string{"snapshot_provider = aws", "aws_region = " + awstest.Region, "holdfast_snapshot_endpoint = " + s.URL},
		device:   func(_ int, name string) string { return "/dev/xvd" + name }, // the kernel renames sd
		attach: func(_ int, name string) {
			s.Do(func() {
				s.Volumes = append(s.Volumes, &awstest.Volume{ID: volume(name), Name: name, Instance: "i-1", Device: "/dev/sd" + name, Type: "gp3"})
			})
		},
		creating: func(f func(func(string) bool)) { call = f },
		fill:     func(disk string) { full = disk },
		mend:     func(string) { full = "" },
		told:     "The maximum number of snapshots has been reached",
		cure:     "raise the quota",
		snapshots: func() (ids []string) {
			for _, one := range s.Snapshots() {
				ids = append(ids, one.ID)
			}
			return ids
		},
		expire: s.Unlock,
		hurry:  func() { s.Pending = 0 },
		addInstance: func(name string) {
			s.Do(func() {
				s.Instances = append(s.Instances, &awstest.Instance{ID: "i-2", Name: name, State: "running"})
			})
		},
		nobody: "nobody",
		info:   "{'provider': 'aws', 'provider_info': {'account_id': '" + awstest.Account + "', 'region': '" + awstest.Region + "'}, 'snapshots': [%s, %s]}",
		disk: func(d cloudDisk, _ int, snapshot string) string {
			id := ""
			for _, one := range s.Snapshots() {
				if one.Tags["Name"] == snapshot {
					id = one.ID
				}
			}
			return fmt.Sprintf("{'mount': {'mount_options': 'rw,noatime', 'mount_point': '%s'}, 'provider': {'device_name': '/dev/sd%s', 'snapshot_id': '%s', 'snapshot_name': '%s', 'snapshot_lock_mode': None}}",
				d.root, d.name, id, snapshot)
		},
	}
}

// clouds counts those that have disks here.
var clouds atomic.Int32

// newCloudDisks are two disks with a file system each.
func newCloudDisks(t *testing.T, c *cloudAPI, o *stacktest.Options) (disks [2]cloudDisk) {
	t.Helper()
	dir, n := pgtest.Dir(t), clouds.Add(1)
	for i := range disks {
		name := fmt.Sprintf("hf%d-%d-%d", os.Getpid(), n, i)
		d := cloudDisk{name, c.device(i, name), filepath.Join(dir, fmt.Sprint("image", i)), filepath.Join(dir, fmt.Sprintf("disk %d", i)), c.parted}
		if out, err := exec.Command("sh", "-ec", `truncate -s 512M "$1"; mkdir "$2"`, "sh", d.image, d.root).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		d.show(t, d.device, d.image)
		if out, err := exec.Command("sh", "-ec", `mkfs.ext4 -q "$1"; mount -o noatime "$1" "$2"; mkdir "$2/in"; chown postgres "$2" "$2/in"; chmod 755 "$2/in"`, "sh", d.volume(), d.root).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		c.attach(i, d.name)
		disks[i] = d
	}
	o.Data, o.Spaces = filepath.Join(disks[0].root, "in"), filepath.Join(disks[1].root, "in")
	return disks
}

// inText tells the disk whose address is in a request.
func inText(request string) func(disk string) bool {
	return func(disk string) bool { return strings.Contains(request, "/disks/"+disk+`"`) }
}

// cut copies the images of disks.
func cut(disks [2]cloudDisk, involved func(disk string) bool) error {
	for _, d := range disks {
		if !involved(d.name) {
			continue
		}
		if out, err := exec.Command("sh", "-c", `fsfreeze --freeze "$2"; cp --sparse=always "$1" "$1.cut"; e=$?; fsfreeze --unfreeze "$2"; exit $e`, "sh", d.image, d.root).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

// TestSnapshotCloud: a backup of a cloud's disks is shown as Barman's, restored from
// disks that were made of it, and deleted.
func TestSnapshotCloud(t *testing.T) {
	for name, open := range map[string]func(*testing.T) *cloudAPI{"AWS": amazon, "Google": google, "Azure": microsoft} {
		t.Run(name, func(t *testing.T) { snapshotCloud(t, open(t)) })
	}
}

// newRentedBed is a bed whose cluster lies on the disks of a cloud.
func newRentedBed(t *testing.T, c *cloudAPI, version string, settings ...string) (*bed, [2]cloudDisk) {
	o := stacktest.Options{Version: version, Method: config.MethodSnapshot, Env: c.env}
	disks := newCloudDisks(t, c, &o)
	far := sshtest.Start(t, sshtest.Options{As: pgtest.Credential(t)})
	c.settings = append(c.settings, "snapshot_instance = pg", "snapshot_disks = "+disks[0].name+","+disks[1].name, "ssh_command = "+far.Command(), "path_prefix = "+pgtest.BinDir(t, o.Version))
	c.settings = append(c.settings, settings...)
	o.Settings = c.settings
	b := newBedWith(t, o)
	b.rented = c
	return b, disks
}

func snapshotCloud(t *testing.T, c *cloudAPI) {
	b, disks := newRentedBed(t, c, barmantest.PostgreSQL)
	c.creating(func(func(string) bool) {})
	t.Run("the second disk fails", func(t *testing.T) {
		c.fill(disks[1].name)
		r := b.Holdfast(t, "backup", stacktest.Server, "--wait")
		c.mend(disks[1].name)
		id, _ := b.newest()
		said := b.Must(t, "show-backup", stacktest.Server, string(id)).Stdout
		if r.Code == 0 || !strings.Contains(said, "FAILED") || !strings.Contains(said, c.told) || !strings.Contains(said, c.cure) {
			t.Errorf("exit code %d, and show-backup says %s", r.Code, said)
		}
		if left := c.snapshots(); len(left) > 0 {
			t.Errorf("left of a failed backup: %v", left)
		}
		b.Must(t, "delete", stacktest.Server, string(id))
	})
	t.Run("killed before the answer", func(t *testing.T) {
		if c.expire == nil {
			c.hurry() // one cloud is waited for
		}
		var once sync.Once
		c.creating(func(func(string) bool) { once.Do(func() { b.Kill(t, "copy") }) })
		got := b.backup(t)
		if made := c.snapshots(); len(made) != len(disks) || got.Attempts != 1 {
			t.Errorf("the snapshots are %q, after %d attempts", made, got.Attempts)
		}
		b.Must(t, "delete", stacktest.Server, string(got.ID))
	})
	c.creating(func(involved func(string) bool) {
		if err := cut(disks, involved); err != nil {
			t.Error(err)
		}
	})
	got := b.backup(t)
	for _, item := range []string{"snapshot instance exists: OK", "snapshot disks attached to instance: OK", "snapshot disks mounted on instance: OK"} {
		if out := b.Must(t, "check", stacktest.Server).Stdout; !strings.Contains(out, item) {
			t.Errorf("check does not say %q:\n%s", item, out)
		}
	}
	name := func(d cloudDisk) string { return d.name + "-" + strings.ToLower(string(got.ID)) }
	info, err := b.cat.Get(got.ID)
	if err != nil || info.Snapshots == nil {
		t.Fatalf("backup.info has no snapshots_info: %v", err)
	}
	want := fmt.Sprintf(c.info, c.disk(disks[0], 0, name(disks[0])), c.disk(disks[1], 1, name(disks[1])))
	if info.Snapshots.String() != want {
		t.Errorf("snapshots_info is\n%s, not\n%s", info.Snapshots, want)
	}
	if out := b.Must(t, "show-backup", stacktest.Server, string(got.ID)).Stdout; !strings.Contains(out, name(disks[1])) {
		t.Errorf("show-backup says %s", out)
	}
	if c.expire != nil { // for others the judge lacks the modules of the vendors
		t.Run("Barman", func(t *testing.T) {
			if out := b.barman(t, filepath.Join(pgtest.Dir(t), "none"), "show-backup", stacktest.Server, string(got.ID)); !strings.Contains(out, name(disks[1])) {
				t.Errorf("Barman says %s", out)
			}
		})
		t.Run("locked", func(t *testing.T) { b.locked(t, c) })
	}
	t.Run("restored", func(t *testing.T) { b.fromDisks(t, c, disks, string(got.ID)) })
	b.Must(t, "delete", stacktest.Server, string(got.ID))
	if left := c.snapshots(); len(left) > 0 {
		t.Errorf("left of a deleted backup: %v", left)
	}
}

// onDisks makes sure that a backup that was killed on its way has exactly the snapshots
// that its record names, and forgets it.
func (b *bed) onDisks(t *testing.T, id backup.ID) {
	t.Helper()
	info, err := b.cat.Get(id)
	if err != nil || info.Snapshots == nil {
		t.Fatalf("backup.info has no snapshots_info: %v", err)
	}
	record, err := snapshot.FromBackupInfo(*info.Snapshots)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, r := range record.Snapshots {
		want = append(want, r.Provider.ID)
	}
	if got := b.rented.snapshots(); len(want) != 2 || !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("the snapshots are %q, and the record has %q", got, want)
	}
	if err := errors.Join(b.cat.Disown(info), b.cat.Remove(id)); err != nil {
		t.Error(err)
	}
}

// made are the snapshots that there are.
func (b *bed) made(t *testing.T) []string {
	if b.rented != nil {
		return b.rented.snapshots()
	}
	return b.disks.made(t)
}

// locked: a backup whose snapshots are locked stays, and is whole, until they are free.
func (b *bed) locked(t *testing.T, api *cloudAPI) {
	b.Configure(t, config.MethodSnapshot, append(api.settings[:len(api.settings):len(api.settings)], "aws_snapshot_lock_mode = governance", "aws_snapshot_lock_duration = 1")...)
	before := len(api.snapshots())
	got := b.backup(t)
	info, err := b.cat.Get(got.ID)
	if err != nil || strings.Count(info.Snapshots.String(), "'snapshot_lock_mode': 'governance'") != 2 {
		t.Errorf("snapshots_info is %s, %v", info.Snapshots, err)
	}
	if r := b.Holdfast(t, "delete", stacktest.Server, string(got.ID)); r.Code == 0 || !strings.Contains(r.Stderr, "it is locked (governance) until ") {
		t.Errorf("exit code %d: %s", r.Code, r.Stderr)
	}
	if info, err := b.cat.Get(got.ID); err != nil || info.Status != backup.Done || len(api.snapshots()) != before+2 {
		t.Errorf("a locked backup was touched: %v, %v", info, err)
	}
	api.expire()
	b.Must(t, "delete", stacktest.Server, string(got.ID))
	if n := len(api.snapshots()); n != before {
		t.Errorf("%d snapshots, not %d", n, before)
	}
	b.Configure(t, config.MethodSnapshot, api.settings...)
}

// restoring is held by the one whose new machine has disks.
var restoring sync.Mutex

// fromDisks restores on another instance, which is this host as well: the disks of the
// source make room for those that are made of the snapshots.
func (b *bed) fromDisks(t *testing.T, api *cloudAPI, disks [2]cloudDisk, id string, from ...string) {
	api.addInstance("new")
	dest := b.Cluster.DataDir
	args := []string{"restore", stacktest.Server, id, dest, "--snapshot-recovery-instance", "new"}
	run, must := b.Holdfast, b.Must
	if len(from) > 0 {
		run = func(t testing.TB, args ...string) stacktest.Result {
			return b.HoldfastAs(t, pgtest.Credential(t), append(args[:len(args):len(args)], from...)...)
		}
		must = func(t testing.TB, args ...string) stacktest.Result {
			r := run(t, args...)
			if r.Code != 0 {
				t.Fatalf("%q: exit code %d: %s", args, r.Code, r.Stderr)
			}
			return r
		}
	}
	refused := func(why string, args ...string) {
		t.Helper()
		if r := run(t, args...); r.Code == 0 || !strings.Contains(r.Stderr, why) {
			t.Errorf("exit code %d, not refused with %q: %s", r.Code, why, r.Stderr)
		}
	}
	refused("--snapshot-recovery-instance", args[:4]...)
	refused(api.nobody, append(args[:5:5], "nobody")...)
	refused("no disk of the instance was made of snapshot", args...)
	refused("--tablespace", append(args[:6:6], "--tablespace", "x:/y")...)
	out := must(t, append(args[:6:6], "--create-disks")...).Stdout
	again := must(t, append(args[:6:6], "--create-disks")...).Stdout
	if out != again {
		t.Errorf("disks are made twice: %s%s", out, again)
	}
	mounts := mountCommands(out)
	if len(mounts) != len(disks) {
		t.Fatalf("%d mounts are told: %s", len(mounts), out)
	}
	restoring.Lock() // each cloud gives its new machine disks of the same names
	t.Cleanup(restoring.Unlock)
	b.Cluster.Stop(t, pgtest.Fast)
	for i, d := range disks {
		if err := unix.Unmount(d.root, 0); err != nil {
			t.Fatal(err)
		}
		made := strings.Trim(strings.Fields(mounts[i])[3], "'")
		if d.partition != strings.HasSuffix(made, partSuffix) {
			t.Errorf("the file system is said to be on %s", made)
		}
		d.show(t, strings.TrimSuffix(made, partSuffix), d.image+".cut")
	}
	shell := func(command string) {
		t.Helper()
		if said, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, said)
		}
	}
	refused("is not mounted, and was at "+disks[0].root, args...)
	shell(mounts[0])
	elsewhere := pgtest.Dir(t)
	shell(strings.Replace(mounts[1], "'"+disks[1].root+"'", elsewhere, 1))
	refused("is mounted at "+elsewhere+", and was at "+disks[1].root, args...)
	shell("umount " + elsewhere)
	shell(strings.Replace(mounts[1], "noatime", "relatime", 1))
	refused("is mounted with the options rw,relatime, and was with rw,noatime", args...)
	shell("umount '" + disks[1].root + "'")
	shell(mounts[1])
	refused("and not on a disk of the backup", append(append([]string{}, args[:3]...), pgtest.Dir(t), "--snapshot-recovery-instance", "new")...)
	must(t, args...)
	c := pgtest.NewFromDataDir(t, b.Cluster.Version, dest)
	if rows := c.Fingerprint(t); rows != b.rows {
		t.Error("the restored rows are not those of the source")
	}
	c.AmCheck(t)
	refused("a server runs there", args...)
	c.Stop(t, pgtest.Immediate)
}

// mountCommands are those of what --create-disks says: mount -o OPTIONS DEVICE PLACE.
func mountCommands(said string) (commands []string) {
	for line := range strings.Lines(said) {
		if command := strings.TrimSpace(line); strings.HasPrefix(command, "mount ") {
			commands = append(commands, command)
		}
	}
	return commands
}
