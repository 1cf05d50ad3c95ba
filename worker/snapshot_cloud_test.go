//go:build integration

package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cloud.google.com/go/compute/apiv1/computepb"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/snapshot/gcp/gcptest"
	"github.com/holdfast-pg/holdfast/internal/sshtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// cloudDisk is a disk of an instance: an image behind a loop device, under the name that
// the cloud gives it below /dev. A snapshot of it is a copy of the image.
type cloudDisk struct{ name, image, root string }

const byID = "/dev/disk/by-id/google-"

// show puts an image behind the device of a name.
func (d cloudDisk) show(t *testing.T, name, image string) {
	t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", image).Output()
	loop := strings.TrimSpace(string(out))
	if err := errors.Join(err, os.MkdirAll(filepath.Dir(byID), 0o755), os.Symlink(loop, byID+name)); err != nil {
		t.Fatalf("%s cannot be put behind a device (the tests run as root): %v", image, err)
	}
	t.Cleanup(func() {
		_ = unix.Unmount(d.root, unix.MNT_DETACH)
		_ = exec.Command("losetup", "--detach", loop).Run()
		_ = os.Remove(byID + name)
	})
}

// newCloudDisks are two disks with a file system each.
func newCloudDisks(t *testing.T, s *gcptest.Server, o *stacktest.Options) (disks [2]cloudDisk) {
	t.Helper()
	dir := pgtest.Dir(t)
	for i := range disks {
		d := cloudDisk{fmt.Sprintf("hf%d-%d", os.Getpid(), i), filepath.Join(dir, fmt.Sprint("image", i)), filepath.Join(dir, fmt.Sprintf("disk %d", i))}
		if out, err := exec.Command("sh", "-ec", `truncate -s 512M "$1"; mkfs.ext4 -q "$1"; mkdir "$2"`, "sh", d.image, d.root).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		d.show(t, d.name, d.image)
		if out, err := exec.Command("sh", "-ec", `mount -o noatime "$1" "$2"; mkdir "$2/in"; chown postgres "$2" "$2/in"; chmod 755 "$2/in"`, "sh", byID+d.name, d.root).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		s.Attach("zones/"+gcptest.Zone, d.name, d.name)
		disks[i] = d
	}
	o.Data, o.Spaces = filepath.Join(disks[0].root, "in"), filepath.Join(disks[1].root, "in")
	return disks
}

// cut copies the image of the disk that a request makes a snapshot of.
func cut(disks [2]cloudDisk, request string) error {
	for _, d := range disks {
		if !strings.Contains(request, "/disks/"+d.name+`"`) {
			continue
		}
		if out, err := exec.Command("sh", "-c", `fsfreeze --freeze "$2"; cp --sparse=always "$1" "$1.cut"; e=$?; fsfreeze --unfreeze "$2"; exit $e`, "sh", d.image, d.root).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

// TestSnapshotCloud: a backup of disks of Google Cloud, whose API is a server of the
// tests', is shown as Barman's, restored from disks that were made of it, and deleted.
func TestSnapshotCloud(t *testing.T) {
	s := gcptest.New(t)
	s.Creating, s.Uploading = 1, 1
	key := filepath.Join(pgtest.Dir(t), "credentials.json")
	text, err := os.ReadFile(os.Getenv("GOOGLE_APPLICATION_CREDENTIALS"))
	if err := errors.Join(err, os.WriteFile(key, text, 0o644)); err != nil {
		t.Fatal(err)
	}
	o := stacktest.Options{Version: barmantest.PostgreSQL, Method: config.MethodSnapshot, Env: map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": key}}
	disks := newCloudDisks(t, s, &o)
	s.Fail = func(r *http.Request) *gcptest.Failure {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/global/snapshots") {
			if err := cut(disks, s.Log[len(s.Log)-1]); err != nil {
				t.Error(err)
			}
		}
		return nil
	}
	far := sshtest.Start(t, sshtest.Options{As: pgtest.Credential(t)})
	o.Settings = []string{"snapshot_provider = gcp", "snapshot_instance = pg", "snapshot_disks = " + disks[0].name + "," + disks[1].name, "gcp_project = " + gcptest.Project,
		"gcp_zone = " + gcptest.Zone, "holdfast_snapshot_endpoint = " + s.URL, "ssh_command = " + far.Command(), "path_prefix = " + pgtest.BinDir(t, o.Version)}
	b := newBedWith(t, o)
	t.Run("the second disk fails", func(t *testing.T) {
		s.Breaks[disks[1].name] = &computepb.Errors{Code: proto.String("QUOTA_EXCEEDED"), Message: proto.String("Quota 'SNAPSHOTS' exceeded.")}
		r := b.Holdfast(t, "backup", stacktest.Server, "--wait")
		delete(s.Breaks, disks[1].name)
		id, _ := b.newest()
		said := b.Must(t, "show-backup", stacktest.Server, string(id)).Stdout
		if r.Code == 0 || !strings.Contains(said, "FAILED") || !strings.Contains(said, "Quota 'SNAPSHOTS' exceeded") || !strings.Contains(said, "raise the quota") {
			t.Errorf("exit code %d, and show-backup says %s", r.Code, said)
		}
		if left := s.Snapshots(); len(left) > 0 {
			t.Errorf("left of a failed backup: %v", left)
		}
		b.Must(t, "delete", stacktest.Server, string(id))
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
	one := "{'mount': {'mount_options': 'rw,noatime', 'mount_point': '%s'}, 'provider': {'device_name': '%s', 'snapshot_name': '%s', 'snapshot_project': 'prod'}}"
	want := fmt.Sprintf("{'provider': 'gcp', 'provider_info': {'project': 'prod'}, 'snapshots': ["+one+", "+one+"]}",
		disks[0].root, disks[0].name, name(disks[0]), disks[1].root, disks[1].name, name(disks[1]))
	if info.Snapshots.String() != want {
		t.Errorf("snapshots_info is\n%s, not\n%s", info.Snapshots, want)
	}
	if out := b.Must(t, "show-backup", stacktest.Server, string(got.ID)).Stdout; !strings.Contains(out, name(disks[1])) {
		t.Errorf("show-backup says %s", out)
	}
	t.Run("restored", func(t *testing.T) { b.fromDisks(t, s, disks, string(got.ID), name) })
	b.Must(t, "delete", stacktest.Server, string(got.ID))
	if left := s.Snapshots(); len(left) > 0 {
		t.Errorf("left of a deleted backup: %v", left)
	}
}

// fromDisks restores on another instance, which is this host as well: the disks of the
// source make room for those that are made of the snapshots.
func (b *bed) fromDisks(t *testing.T, s *gcptest.Server, disks [2]cloudDisk, id string, name func(cloudDisk) string) {
	s.AddInstance("new")
	dest := b.Cluster.DataDir
	args := []string{"restore", stacktest.Server, id, dest, "--snapshot-recovery-instance", "new"}
	refused := func(why string, args ...string) {
		t.Helper()
		if r := b.Holdfast(t, args...); r.Code == 0 || !strings.Contains(r.Stderr, why) {
			t.Errorf("exit code %d, not refused with %q: %s", r.Code, why, r.Stderr)
		}
	}
	refused("--snapshot-recovery-instance", args[:4]...)
	refused("has no such instance", append(args[:5:5], "nobody")...)
	refused("no disk of the instance was made of snapshot "+name(disks[0]), args...)
	refused("--tablespace", append(args[:6:6], "--tablespace", "x:/y")...)
	out := b.Must(t, append(args[:6:6], "--create-disks")...).Stdout
	again := b.Must(t, append(args[:6:6], "--create-disks")...).Stdout
	if out != again {
		t.Errorf("disks are made twice: %s%s", out, again)
	}
	b.Cluster.Stop(t, pgtest.Fast)
	for _, d := range disks {
		if err := unix.Unmount(d.root, 0); err != nil {
			t.Fatal(err)
		}
		d.show(t, name(d), d.image+".cut")
	}
	refused("is not mounted, and was at "+disks[0].root, args...)
	mounts := 0
	for line := range strings.Lines(out) {
		if command := strings.TrimSpace(line); strings.HasPrefix(command, "mount ") {
			mounts++
			if said, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", command, err, said)
			}
		}
	}
	if mounts != 2 {
		t.Fatalf("%d mounts are told: %s", mounts, out)
	}
	refused("and not on a disk of the backup", append(append([]string{}, args[:3]...), pgtest.Dir(t), "--snapshot-recovery-instance", "new")...)
	b.Must(t, args...)
	c := pgtest.NewFromDataDir(t, b.Cluster.Version, dest)
	if rows := c.Fingerprint(t); rows != b.rows {
		t.Error("the restored rows are not those of the source")
	}
	c.AmCheck(t)
	refused("a server runs there", args...)
	c.Stop(t, pgtest.Immediate)
}
