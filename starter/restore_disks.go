package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/restore"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/providers"
)

// instanceOptions say which instance has disks that were made of snapshots.
type instanceOptions struct {
	instance, awsRegion, gcpZone, azureGroup string
	create                                   bool
}

func (o instanceOptions) given() bool { return o != instanceOptions{} }

// cloudSnapshots is what a backup records of snapshots that only an instance can show;
// nil when it has none. Barman's records are read, too.
func cloudSnapshots(cat *catalog.Catalog, info *backupinfo.Info) (*snapshot.Record, error) {
	extra, err := cat.Extra(info.ID)
	switch {
	case err != nil:
		return nil, err
	case extra.Snapshots != nil && extra.Snapshots.Barman != "":
		return extra.Snapshots, nil
	case extra.Snapshots == nil && info.Snapshots != nil:
		return snapshot.FromBackupInfo(*info.Snapshots)
	}
	return nil, nil
}

func noSnapshots(info *backupinfo.Info) error {
	return fault.New(fault.Usage, "restore", "backup "+string(info.ID), "it consists of no snapshots of a cloud").WithHint("leave out the options of an instance")
}

// callsTake is how long what a cloud does may take where no configuration says it.
const callsTake = time.Hour

// settingsOf are what a backup's record tells of the place of its snapshots, for a server
// without a configuration.
func settingsOf(server string, record *snapshot.Record) *config.Server {
	s := &config.Server{Name: server}
	s.SnapshotProvider, s.AWSAwaitSnapshotsTimeout, s.HoldfastSnapshotTimeout = record.Provider, callsTake, callsTake
	s.AWSRegion, s.GCPProject = record.Place("region"), record.Place("project")
	s.AzureSubscriptionID, s.AzureResourceGroup = record.Place("subscription_id"), record.Place("resource_group")
	return s
}

// disksOf is the provider of the instance where a backup is restored: this host. close ends it.
func (o instanceOptions) disksOf(ctx context.Context, s *config.Server, record *snapshot.Record) (disks snapshot.Instance, closed func(), err error) {
	there := *s
	there.SnapshotProvider, there.SnapshotInstance = record.Provider, o.instance
	for _, c := range []struct {
		given string
		into  *string
	}{{o.awsRegion, &there.AWSRegion}, {o.gcpZone, &there.GCPZone}, {o.azureGroup, &there.AzureResourceGroup}} {
		if c.given != "" {
			*c.into = c.given
		}
	}
	a, err := providers.OpenHere(ctx, &there)
	if err != nil {
		return nil, nil, err
	}
	disks, can := a.Provider.(snapshot.Instance)
	if !can {
		a.Close()
		return nil, nil, fault.New(fault.Refused, "restore from", "snapshots of "+record.Provider, "no instance has disks of this provider").WithHint("restore it with Barman")
	}
	return disks, a.Close, nil
}

// mountedSnapshots makes sure that disks made of a backup's snapshots are mounted here
// as its were, and the destination is on one of them.
func (o instanceOptions) mountedSnapshots(ctx context.Context, s *config.Server, info *backupinfo.Info, record *snapshot.Record, req restoreplan.Request) error {
	id := info.ID
	if len(req.Tablespaces) > 0 {
		return fault.New(fault.Usage, "read", "--tablespace", "a backup that consists of snapshots is restored where its disks are mounted").WithHint("leave it out")
	}
	if o.instance == "" {
		return fault.New(fault.Usage, "restore", string(id), "it consists of snapshots of %s", record.Provider).
			WithHint("give the command on an instance whose disks were made of them, with --snapshot-recovery-instance; --create-disks makes and attaches them")
	}
	disks, closed, err := o.disksOf(ctx, s, record)
	if err != nil {
		return err
	}
	defer closed()
	has, err := disks.Attached(ctx, o.instance)
	if err != nil {
		return err
	}
	var points []string
	for _, r := range record.Snapshots {
		points = append(points, r.Mount.Point)
	}
	if wrong := sourcesAreMounted(ctx, s, has, record); len(wrong) > 0 {
		return fault.New(fault.Refused, "restore", string(id), "%s", strings.Join(wrong, "; ")).
			WithHint("attach disks that were made of the snapshots to %s and mount them as they were; --create-disks makes them and says how", o.instance)
	}
	dirs := []string{req.Dest}
	for _, t := range info.Tablespaces {
		dirs = append(dirs, t.Location)
	}
	for _, dir := range dirs {
		m, err := snapshot.MountOf(ctx, snapshot.Here{PathPrefix: s.PathPrefix}, dir)
		if err != nil {
			return fault.New(fault.Refused, "restore to", dir, "%w", err).WithHint("the directory comes with the disk that was made of its snapshot: mount that first")
		}
		if !slices.Contains(points, m.Target) {
			return fault.New(fault.Refused, "restore to", dir, "it is on what is mounted at %s, and not on a disk of the backup (%s)", m.Target, strings.Join(points, ", ")).
				WithHint("name the data directory on the disk that was made of its snapshot")
		}
	}
	return nil
}

// sourcesAreMounted says what is wrong with the disks of snapshots.
func sourcesAreMounted(ctx context.Context, s *config.Server, has []snapshot.AttachedDisk, record *snapshot.Record) (wrong []string) {
	var disks []snapshot.AttachedDisk
	var of []snapshot.RecordedDisk
	var devices []string
	for _, r := range record.Snapshots {
		at := slices.IndexFunc(has, func(d snapshot.AttachedDisk) bool {
			return d.Source != "" && strings.EqualFold(d.Source, r.Provider.ID)
		})
		if at < 0 {
			wrong = append(wrong, fmt.Sprintf("no disk of the instance was made of snapshot %s", r.Provider.ID))
			continue
		}
		disks, of, devices = append(disks, has[at]), append(of, r), append(devices, has[at].Device)
	}
	found, errs := snapshot.FileSystems(ctx, snapshot.Here{PathPrefix: s.PathPrefix}, devices)
	for i, d := range disks {
		m, r := found[i], of[i]
		switch {
		case errors.Is(errs[i], snapshot.ErrUnmounted):
			wrong = append(wrong, fmt.Sprintf("disk %s (%s) is not mounted, and was at %s", d.Name, d.Device, r.Mount.Point))
		case errs[i] != nil:
			wrong = append(wrong, errs[i].Error())
		case m.Target != r.Mount.Point:
			wrong = append(wrong, fmt.Sprintf("disk %s (%s) is mounted at %s, and was at %s", d.Name, d.Device, m.Target, r.Mount.Point))
		case m.Options != r.Mount.Options:
			wrong = append(wrong, fmt.Sprintf("disk %s (%s) is mounted with the options %s, and was with %s", d.Name, d.Device, m.Options, r.Mount.Options))
		}
	}
	return wrong
}

// createDisks makes disks of a backup's snapshots, attaches them, and says how they are mounted.
func (a *app) createDisks(ctx context.Context, s *config.Server, id backup.ID, record *snapshot.Record, o instanceOptions) error {
	if o.instance == "" {
		return fault.New(fault.Usage, "read", "--create-disks", "it needs --snapshot-recovery-instance").WithHint("name the instance that the disks are for")
	}
	disks, closed, err := o.disksOf(ctx, s, record)
	if err != nil {
		return err
	}
	defer closed()
	var made []map[string]any
	var devices []string
	for _, r := range record.Snapshots {
		d, err := disks.CreateDisk(ctx, o.instance, snapshot.Snapshot{Tag: snapshot.Tag{ID: id}, Name: r.Provider.Name, ID: r.Provider.ID})
		if err != nil {
			return err
		}
		devices = append(devices, d.Device)
		made = append(made, map[string]any{"disk": d.Name, "device": d.Device, "snapshot": r.Provider.ID, "mount_point": r.Mount.Point, "mount_options": r.Mount.Options})
	}
	commands := record.Mounts(devices)
	a.json["disks"], a.json["commands"] = made, commands
	if a.format == "json" {
		return nil
	}
	a.print("%s of backup %s attached to %s. Mount them there as root, then give the command without --create-disks:", count(len(made), "disk"), id, o.instance)
	for _, c := range commands {
		a.print("  %s", c)
	}
	return nil
}

// mountedSource is the source of such a restore. An exclusive backup of Barman's has its
// label on the disk.
func mountedSource(cat *catalog.Catalog, info *backupinfo.Info) (*restore.Snapshot, error) {
	path := filepath.Join(cat.DataDir(info.ID), "backup_label")
	label, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return &restore.Snapshot{Label: label, Mounted: true}, fault.Wrap(fault.Corrupt, "read", path, err)
}
