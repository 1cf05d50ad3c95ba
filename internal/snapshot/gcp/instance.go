package gcp

import (
	"context"
	"errors"
	"path"
	"strings"

	"cloud.google.com/go/compute/apiv1/computepb"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pylit"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// SnapshotsInfo is Barman's record of the snapshots.
func (p *Provider) SnapshotsInfo(_ context.Context, disks []snapshot.Disk, made []snapshot.Snapshot) (pylit.Value, error) {
	var list []pylit.Value
	for i, d := range disks {
		list = append(list, pylit.D(
			pylit.P("mount", pylit.D(pylit.P("mount_options", pylit.Str(d.Options)), pylit.P("mount_point", pylit.Str(d.Mount)))),
			pylit.P("provider", pylit.D(pylit.P("device_name", pylit.Str(strings.TrimPrefix(d.Device, devices))),
				pylit.P("snapshot_name", pylit.Str(made[i].Name)), pylit.P("snapshot_project", pylit.Str(p.Project))))))
	}
	return pylit.D(pylit.P("provider", pylit.Str("gcp")), pylit.P("provider_info", pylit.D(pylit.P("project", pylit.Str(p.Project)))),
		pylit.P("snapshots", pylit.L(list...))), nil
}

// Attached has the disks of an instance, local SSDs apart.
func (p *Provider) Attached(ctx context.Context, instance string) ([]snapshot.AttachedDisk, error) {
	has, err := p.attached(ctx, instance)
	if err != nil {
		return nil, err
	}
	var out []snapshot.AttachedDisk
	for _, d := range has {
		about, err := p.disk(ctx, d.GetSource())
		if err != nil {
			return nil, err
		}
		one := snapshot.AttachedDisk{Disk: snapshot.Disk{Name: path.Base(d.GetSource()), Device: devices + d.GetDeviceName()}}
		if source := about.GetSourceSnapshot(); source != "" {
			one.Source = path.Base(source)
		}
		out = append(out, one)
	}
	return out, nil
}

// place is where a disk is: in a zone or in a region, by its URL.
func place(source string) (zone, region, name string) {
	words := strings.Split(source, "/")
	if n := len(words); n >= 4 {
		switch name = words[n-1]; words[n-4] {
		case "zones":
			zone = words[n-3]
		case "regions":
			region = words[n-3]
		}
	}
	return zone, region, name
}

// disk reads a disk by its URL.
func (p *Provider) disk(ctx context.Context, source string) (*computepb.Disk, error) {
	zone, region, name := place(source)
	return call(ctx, p.api, action{"look at disk", path.Base(source), "compute.disks.get"}, func(ctx context.Context) (*computepb.Disk, error) {
		if region != "" {
			return p.api.regionDisks.Get(ctx, &computepb.GetRegionDiskRequest{Project: p.Project, Region: region, Disk: name})
		}
		return p.api.disks.Get(ctx, &computepb.GetDiskRequest{Project: p.Project, Zone: zone, Disk: name})
	})
}

// CreateDisk makes a zonal disk with the name of the snapshot, of the type of the
// disk that was cut while that one is there, and else of Google's default.
func (p *Provider) CreateDisk(ctx context.Context, instance string, s snapshot.Snapshot) (snapshot.AttachedDisk, error) {
	has, err := p.attached(ctx, instance)
	if err != nil {
		return snapshot.AttachedDisk{}, err
	}
	from := "projects/" + p.Project + "/global/snapshots/" + s.Name
	at := "projects/" + p.Project + "/zones/" + p.Zone + "/disks/" + s.Name
	out := snapshot.AttachedDisk{Disk: snapshot.Disk{Name: s.Name, Device: devices + s.Name}, Source: s.Name}
	made, err := p.disk(ctx, at)
	switch {
	case fault.Is(err, fault.NotFound):
		err = p.insert(ctx, s.Name, from)
	case err == nil && path.Base(made.GetSourceSnapshot()) != s.Name:
		err = fault.New(fault.Conflict, "make disk", s.Name, "there is a disk of this name that is not made of the snapshot").WithHint("delete or rename it")
	}
	if err != nil {
		return out, err
	}
	for _, d := range has {
		if zone, _, name := place(d.GetSource()); zone == p.Zone && name == s.Name {
			out.Device = devices + d.GetDeviceName()
			return out, nil
		}
	}
	do := action{"attach disk", s.Name, "compute.instances.attachDisk, compute.disks.use"}
	op, err := call(ctx, p.api, do, func(ctx context.Context) (operation, error) {
		return p.api.instances.AttachDisk(ctx, &computepb.AttachDiskInstanceRequest{Project: p.Project, Zone: p.Zone, Instance: instance,
			AttachedDiskResource: &computepb.AttachedDisk{Source: &at, DeviceName: &s.Name}})
	})
	if err != nil {
		return out, err
	}
	return out, p.api.wait(ctx, do, op, p.Timeout, p.Pause, func() (bool, error) { return op.Done(), nil })
}

// insert makes a disk of a snapshot.
func (p *Provider) insert(ctx context.Context, name, from string) error {
	cut, err := call(ctx, p.api, action{"look at snapshot", name, "compute.snapshots.get"}, func(ctx context.Context) (*computepb.Snapshot, error) {
		return p.api.snapshots.Get(ctx, &computepb.GetSnapshotRequest{Project: p.Project, Snapshot: name})
	})
	if err != nil {
		return err
	}
	made := &computepb.Disk{Name: &name, SourceSnapshot: &from}
	if origin, err := p.disk(ctx, cut.GetSourceDisk()); err == nil {
		kind := "projects/" + p.Project + "/zones/" + p.Zone + "/diskTypes/" + path.Base(origin.GetType())
		made.Type = &kind
	} else if !fault.Is(err, fault.NotFound) {
		return err
	}
	do := action{"make disk", name, "compute.disks.create, compute.snapshots.useReadOnly"}
	op, err := call(ctx, p.api, do, func(ctx context.Context) (operation, error) {
		return p.api.disks.Insert(ctx, &computepb.InsertDiskRequest{Project: p.Project, Zone: p.Zone, DiskResource: made})
	})
	if errors.Is(err, errTaken) { // by a call whose answer was lost
		return nil
	}
	if err != nil {
		return err
	}
	return p.api.wait(ctx, do, op, p.Timeout, p.Pause, func() (bool, error) { return op.Done(), nil })
}
