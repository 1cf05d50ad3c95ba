//go:build integration

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/sshtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
	"github.com/holdfast-pg/holdfast/workflows"
)

// disks are two file systems with a directory each, that of the cluster and that of
// its tablespaces, of which snapshots can be made.
type disks struct {
	provider     string
	roots        [2]string // where they are mounted
	data, spaces string
	tools        string // a directory for programs
}

// newDisks makes them in files: btrfs with subvolumes, or XFS with directories.
func newDisks(t *testing.T, provider string) *disks {
	t.Helper()
	dir := pgtest.Dir(t)
	d := &disks{provider: provider, tools: filepath.Join(dir, "tools")}
	script := `mkfs.btrfs -q "$1"; mkdir "$2"; mount -o loop,user_subvol_rm_allowed "$1" "$2"; btrfs -q subvolume create "$2/vol ume"`
	if provider == "command" {
		script = `mkfs.xfs -q -m reflink=1 "$1"; mkdir "$2"; mount -o loop "$1" "$2"; mkdir "$2/vol ume" "$2/keep"; chown postgres "$2/keep"`
	}
	for i := range d.roots {
		image := filepath.Join(dir, fmt.Sprintf("image-%d", i))
		d.roots[i] = filepath.Join(dir, fmt.Sprintf("disk %d", i))
		if out, err := exec.Command("sh", "-ec", `truncate -s 2G "$1"; `+script+`; chown postgres "$2" "$2/vol ume"; chmod 755 "$2/vol ume"`, "sh", image, d.roots[i]).CombinedOutput(); err != nil {
			t.Fatalf("a file system for snapshots cannot be mounted (the tests run as root): %v: %s", err, out)
		}
		t.Cleanup(func() { _ = unix.Unmount(d.roots[i], unix.MNT_DETACH) })
	}
	d.data, d.spaces = filepath.Join(d.roots[0], "vol ume"), filepath.Join(d.roots[1], "vol ume")
	if err := os.Mkdir(d.tools, 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

// settings are the lines of the server's section.
func (d *disks) settings(t *testing.T) []string {
	t.Helper()
	lines := []string{"snapshot_provider = " + d.provider, "snapshot_instance = localhost", "snapshot_disks = " + d.data + "," + d.spaces}
	if d.provider != "command" {
		return lines
	}
	text, err := os.ReadFile("../deploy/snapshot/reflink")
	program := filepath.Join(d.tools, "reflink")
	if err := errors.Join(err, os.WriteFile(program, text, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"create", "list", "delete"} {
		lines = append(lines, fmt.Sprintf("holdfast_snapshot_%s_command = %s %s '%s/keep' '%s/keep'", verb, program, verb, d.roots[0], d.roots[1]))
	}
	return lines
}

// made are the snapshots that there are.
func (d *disks) made(t *testing.T) []string {
	t.Helper()
	keep := ".holdfast-snapshots"
	if d.provider == "command" {
		keep = "keep"
	}
	var out []string
	for _, root := range d.roots {
		found, err := filepath.Glob(filepath.Join(root, keep, "*", "*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, found...)
	}
	return out
}

// newSnapshotBed is a bed whose cluster lies on disks.
func newSnapshotBed(t *testing.T, provider, version string, settings ...string) *bed {
	o := stacktest.Options{Version: version, Method: config.MethodSnapshot}
	d := place(t, provider, &o)
	d.bend(t)
	o.Settings = append(slices.Concat(d.settings(t), settings), "path_prefix = "+d.tools+":"+pgtest.BinDir(t, version))
	b := newBedWith(t, o)
	b.disks = d
	return b
}

// place lets a stack lie on new disks, unless no provider is named.
func place(t *testing.T, provider string, o *stacktest.Options) *disks {
	t.Helper()
	if provider == "" {
		return nil
	}
	d := newDisks(t, provider)
	o.Data, o.Spaces = d.data, d.spaces
	return d
}

// standbyDirs are directories for a standby on the same disks.
func (d *disks) standbyDirs(t *testing.T) (home, spaces string) {
	t.Helper()
	home, spaces = filepath.Join(d.data, "standby"), filepath.Join(d.spaces, "standby")
	c := pgtest.Credential(t)
	for _, dir := range []string{home, spaces} {
		if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, int(c.Uid), int(c.Gid))); err != nil {
			t.Fatal(err)
		}
	}
	return home, spaces
}

// bend puts another btrfs before the real one: it fails for the second disk while
// there is a file "fail", kills the process of ours that called it after a
// snapshot when there is a file "kill", and takes its time with the disk that a file "wait" names.
func (d *disks) bend(t *testing.T) {
	t.Helper()
	real, err := exec.LookPath("btrfs")
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`#!/bin/sh
disk=
if [ "$3" = snapshot ]; then disk=$4; [ "$4" != -r ] || disk=$5; fi
if [ -e '%[1]s/fail' ] && [ "$disk" = '%[2]s' ]; then echo "ERROR: cannot snapshot '$disk': Disk quota exceeded" >&2; exit 1; fi
if [ -n "$disk" ] && [ "$disk" = "$(cat '%[1]s/wait' 2>/dev/null)" ]; then sleep 2; fi
'%[3]s' "$@" || exit
if [ "$3" = snapshot ] && rm '%[1]s/kill' 2>/dev/null; then read -r _ _ _ caller _ < /proc/$PPID/stat; kill -9 "$caller"; fi
`, d.tools, d.spaces, real)
	if err := errors.Join(os.WriteFile(filepath.Join(d.tools, "btrfs"), []byte(text), 0o755), os.Chmod(d.tools, 0o777)); err != nil {
		t.Fatal(err)
	}
}

// order makes the bent btrfs do something.
func (d *disks) order(t *testing.T, what, text string) (end func()) {
	t.Helper()
	path := filepath.Join(d.tools, what)
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return func() { _ = os.Remove(path) }
}

// oneOfEach makes sure that a backup, which the catalogue has forgotten, has left one
// snapshot of each disk, and that the doctor finds and removes them.
func (b *bed) oneOfEach(t *testing.T) {
	t.Helper()
	made := b.made(t)
	if len(made) != 2 {
		t.Errorf("the snapshots are %q", made)
	}
	if r := b.Holdfast(t, "doctor", stacktest.Server); r.Code != 1 || strings.Count(r.Stdout, "left over: snapshot ") != len(made) {
		t.Errorf("the doctor says %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	b.Must(t, "doctor", stacktest.Server, "--fix")
	if left := b.made(t); len(left) > 0 {
		t.Errorf("the doctor leaves %q", left)
	}
}

// onlyThese makes sure that there is one snapshot of each disk for the backup, and no other.
func (d *disks) onlyThese(t *testing.T, id backup.ID) {
	t.Helper()
	made := d.made(t)
	for _, path := range made {
		if !strings.HasSuffix(path, "-"+strings.ToLower(string(id))) {
			t.Errorf("%s is not of backup %s", path, id)
		}
	}
	if len(made) != 2 || made[0] == made[1] {
		t.Errorf("the snapshots are %q", made)
	}
}

// TestSnapshot: a backup of a server that works is DONE, is cloned and started while
// the server goes on, and goes with its snapshots when it is deleted.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ provider, version, options string }{
		{"btrfs", "18", ""}, {"btrfs", pgtest.AllVersions()[0], "backup_options = exclusive_backup"}, {"command", "15", ""},
	} {
		t.Run(c.provider+"/"+c.version, func(t *testing.T) {
			t.Parallel()
			b := newSnapshotBed(t, c.provider, c.version, c.options)
			d := b.disks
			f := &field{bed: b, primary: b.Cluster}
			f.pgbench(t, "--initialize", "--quiet", "--scale=2").wait(t)
			work := f.pgbench(t, "--no-vacuum", "--client=2", "--time=600", "--rate=50")
			got := b.backup(t)
			work.stop(t)
			f.idle(t)
			b.rows = b.Cluster.Fingerprint(t)
			f.archived(t)
			d.onlyThese(t, got.ID)
			info, err := b.cat.Get(got.ID)
			if err != nil {
				t.Fatal(err)
			}
			took := info.EndTime.Sub(*info.BeginTime)
			t.Logf("in backup mode for %s", took)
			if want := "snapshot-" + map[bool]string{true: "exclusive", false: "concurrent"}[c.options != ""]; *info.Mode != want || took > 20*time.Second {
				t.Errorf("mode %s, not %s, in backup mode for %s", *info.Mode, want, took)
			}
			t.Run("told", func(t *testing.T) { b.told(t, d, got.ID) })
			t.Run("cloned", func(t *testing.T) { b.cloned(t, d, got.ID) })
			if c.version == barmantest.PostgreSQL {
				b.keepHistory(t, "snapshot", workflows.BackupID(stacktest.Server))
				t.Run("Barman", func(t *testing.T) {
					for _, args := range [][]string{{"list-backups", stacktest.Server}, {"show-backup", stacktest.Server, string(got.ID)}} {
						if out := b.barman(t, filepath.Join(pgtest.Dir(t), "none"), args...); !strings.Contains(out, string(got.ID)) {
							t.Errorf("Barman says %s", out)
						}
					}
				})
			}
			t.Run("of an idle server", func(t *testing.T) { b.costsNothing(t, d) })
			b.Must(t, "delete", stacktest.Server, string(got.ID))
			if left := d.made(t); len(left) > 0 {
				t.Errorf("left of a deleted backup: %q", left)
			}
			if c.version == barmantest.PostgreSQL {
				t.Run("lost session", func(t *testing.T) {
					if got := b.try(t, scenario{"", "", "session", "after:CutSnapshots"}); got.Attempts != 2 {
						t.Errorf("%d attempts", got.Attempts)
					}
					b.oneOfEach(t)
				})
				t.Run("over ssh", func(t *testing.T) { b.snapshotsOverSSH(t) })
			}
			if c.version == pgtest.AllVersions()[0] {
				t.Run("in trouble", func(t *testing.T) { b.inTrouble(t) })
			}
		})
	}
}

// snapshotsOverSSH: the disks may be another host's.
func (b *bed) snapshotsOverSSH(t *testing.T) {
	s := sshtest.Start(t, sshtest.Options{As: pgtest.Credential(t)})
	settings := b.settings(t)
	settings[slices.Index(settings, "snapshot_instance = localhost")] = "snapshot_instance = pg"
	b.Configure(t, config.MethodSnapshot, append(settings, "ssh_command = "+s.Command(), "holdfast_snapshot_hold = completed")...)
	got := b.backup(t)
	b.onlyThese(t, got.ID)
	b.verify(t, got, 0)
	b.oneOfEach(t)
	for _, item := range []string{"ssh: OK", "snapshot instance exists: OK", "snapshot disks attached to instance: OK", "snapshot disks mounted on instance: OK"} {
		if out := b.Must(t, "check", stacktest.Server).Stdout; !strings.Contains(out, item) {
			t.Errorf("check does not say %q:\n%s", item, out)
		}
	}
	settings[slices.Index(settings, "snapshot_disks = "+b.data+","+b.spaces)] = "snapshot_disks = " + b.data
	b.Configure(t, config.MethodSnapshot, append(settings, "ssh_command = "+s.Command())...)
	for _, args := range [][]string{{"check", stacktest.Server}, {"backup", stacktest.Server, "--wait"}} {
		if r := b.Holdfast(t, args...); r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, "tablespace odd name's: "+b.spaces) {
			t.Errorf("%v without the disk of a tablespace: exit code %d: %s%s", args, r.Code, r.Stdout, r.Stderr)
		}
	}
	if n := b.count(t); n > 0 {
		t.Errorf("%d backups were entered", n)
	}
}

// inTrouble: whatever is killed, a backup has one snapshot of each disk; and none
// when it has failed.
func (b *bed) inTrouble(t *testing.T) {
	for _, s := range []scenario{{"", "", "copy", "before:CutSnapshots"}, {"", "", "keeper", "after:CutSnapshots"}, {"", "", "workflow", "after:StopBackup"}} {
		t.Run(s.Victim+" "+s.Point, func(t *testing.T) {
			b.try(t, s)
			b.oneOfEach(t)
			b.leftBackupMode(t)
		})
	}
	t.Run("between two snapshots", func(t *testing.T) {
		before := b.count(t)
		b.order(t, "kill", "")
		b.verify(t, b.backup(t), before)
		b.oneOfEach(t)
		b.leftBackupMode(t)
	})
	t.Run("quota", func(t *testing.T) {
		end := b.order(t, "fail", "")
		r := b.Holdfast(t, "backup", stacktest.Server, "--wait")
		end()
		id, _ := b.newest()
		text := b.Must(t, "show-backup", stacktest.Server, string(id)).Stdout
		if r.Code == 0 || !strings.Contains(text, "FAILED") || !strings.Contains(text, "Disk quota exceeded") || !strings.Contains(text, "free space where the snapshots are kept") {
			t.Errorf("exit code %d, %s, and show-backup says %s", r.Code, r.Stderr, text)
		}
		if left := b.made(t); len(left) > 0 {
			t.Errorf("left of a failed backup: %q", left)
		}
		b.leftBackupMode(t)
		b.Must(t, "delete", stacktest.Server, string(id))
	})
}

// TestCutApart: the disks of a server that works on both of them all the time are cut
// seconds apart, and what is restored is consistent.
func TestCutApart(t *testing.T) {
	t.Parallel()
	for _, column := range []string{pgtest.AllVersions()[0], "standby " + barmantest.PostgreSQL} {
		t.Run(column, func(t *testing.T) {
			t.Parallel()
			f := newField(t, column, "btrfs")
			f.primary.Exec(t, `ALTER TABLE pgbench_accounts SET TABLESPACE "odd name's"`)
			f.primary.Exec(t, `ALTER TABLE pgbench_history SET TABLESPACE "odd name's"`)
			f.disks.bend(t)
			later := []string{f.disks.data, f.disks.spaces}
			if f.Cluster != f.primary {
				later = later[1:] // its data directory comes last by itself
			}
			for _, disk := range later {
				f.disks.order(t, "wait", disk)
				began := time.Now()
				f.try(t, way{method: config.MethodSnapshot, settings: []string{"path_prefix = " + f.disks.tools + ":" + pgtest.BinDir(t, f.Cluster.Version)}})
				t.Logf("%s was late: restored after %s", disk, time.Since(began))
			}
		})
	}
}

// told: show-backup names the snapshots.
func (b *bed) told(t *testing.T, d *disks, id backup.ID) {
	text := b.Must(t, "show-backup", stacktest.Server, string(id)).Stdout
	var said map[string]struct {
		Info struct {
			Provider  string `json:"provider"`
			Snapshots []struct {
				Mount    map[string]string `json:"mount"`
				Provider map[string]any    `json:"provider"`
			} `json:"snapshots"`
		} `json:"snapshots_info"`
	}
	if err := json.Unmarshal([]byte(b.Must(t, "-f", "json", "show-backup", stacktest.Server, string(id)).Stdout), &said); err != nil {
		t.Fatal(err)
	}
	info := said[stacktest.Server].Info
	if info.Provider != d.provider || len(info.Snapshots) != 2 {
		t.Fatalf("snapshots_info is %+v", info)
	}
	for i, s := range info.Snapshots {
		if s.Mount["mount_point"] != d.roots[i] || !strings.Contains(s.Mount["mount_options"], "rw") {
			t.Errorf("mount %v, not %s", s.Mount, d.roots[i])
		}
		if !strings.Contains(text, "pg_control of 2 complete snapshots, WAL 0") {
			t.Errorf("show-backup does not tell how it was proven: %s", text)
		}
		if name, _ := s.Provider["snapshot_name"].(string); name == "" || !strings.Contains(text, name) {
			t.Errorf("%v is not in %s", s.Provider, text)
		}
	}
}

// cloned restores beside the source, which runs on, and changes the clone.
func (b *bed) cloned(t *testing.T, d *disks, id backup.ID) {
	info, err := b.cat.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	dest := filepath.Join(d.roots[0], "clone")
	space := filepath.Join(d.roots[1], "clone")
	before := d.used(t)
	began := time.Now()
	b.Must(t, "restore", stacktest.Server, string(id), dest, "--tablespace", info.Tablespaces[0].Name+":"+space)
	t.Logf("restored in %s, %d KiB used, of a cluster of %d", time.Since(began), (d.used(t)-before)>>10, *info.ClusterSize>>10)
	c := pgtest.NewFromDataDir(t, b.Cluster.Version, dest)
	if rows := c.Fingerprint(t); rows != b.rows {
		t.Error("the rows of the clone are not those of the source")
	}
	c.AmCheck(t)
	c.Exec(t, "DROP TABLE elsewhere; CREATE TABLE mine AS SELECT * FROM plain")
	c.Stop(t, pgtest.Immediate)
	if rows := b.Cluster.Fingerprint(t); rows != b.rows {
		t.Error("the source has other rows than before the clone was changed")
	}
	b.Cluster.AmCheck(t)
}

// costsNothing: while nobody writes, a backup takes next to nothing of the disks.
func (b *bed) costsNothing(t *testing.T, d *disks) {
	b.Cluster.Exec(t, "CHECKPOINT") // WAL files that are not needed become new ones
	before := d.used(t)
	b.backup(t)
	cost := d.used(t) - before
	t.Logf("it takes %d KiB", cost>>10)
	if cost > 5<<20 {
		t.Errorf("it takes %d bytes", cost)
	}
	b.Must(t, "delete", stacktest.Server, "latest")
}

// used are the bytes in use on both disks.
func (d *disks) used(t *testing.T) (bytes int64) {
	t.Helper()
	for _, root := range d.roots {
		var st unix.Statfs_t
		unix.Sync()
		if err := unix.Statfs(root, &st); err != nil {
			t.Fatal(err)
		}
		bytes += int64(st.Blocks-st.Bfree) * st.Bsize
	}
	return bytes
}
