package azure

import (
	"context"
	"path"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pylit"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// SnapshotsInfo is Barman's record of the snapshots.
func (p *Provider) SnapshotsInfo(ctx context.Context, disks []snapshot.Disk, made []snapshot.Snapshot) (pylit.Value, error) {
	vm, err := p.machine(ctx, p.Instance)
	if err != nil {
		return pylit.Value{}, err
	}
	var list []pylit.Value
	for i, disk := range disks {
		d, err := p.find(vm, disk.Name)
		if err != nil {
			return pylit.Value{}, err
		}
		list = append(list, pylit.D(
			pylit.P("mount", pylit.D(pylit.P("mount_options", pylit.Str(disk.Options)), pylit.P("mount_point", pylit.Str(disk.Mount)))),
			pylit.P("provider", pylit.D(pylit.P("location", pylit.Str(value(vm.Location))), pylit.P("lun", pylit.I(int64(value(d.Lun)))),
				pylit.P("snapshot_name", pylit.Str(made[i].Name))))))
	}
	return pylit.D(pylit.P("provider", pylit.Str("azure")),
		pylit.P("provider_info", pylit.D(pylit.P("subscription_id", pylit.Str(p.Subscription)), pylit.P("resource_group", pylit.Str(p.Group)))),
		pylit.P("snapshots", pylit.L(list...))), nil
}

// disk reads a disk by its resource ID.
func (p *Provider) disk(ctx context.Context, id string) (armcompute.Disk, error) {
	at, err := arm.ParseResourceID(id)
	if err != nil {
		return armcompute.Disk{}, fault.Wrap(fault.Unavailable, "look at disk", id, err)
	}
	got, err := call(ctx, p.api, action{"look at disk", at.Name, "Microsoft.Compute/disks/read"}, func(ctx context.Context) (armcompute.DisksClientGetResponse, error) {
		return p.api.disks.Get(ctx, at.ResourceGroupName, at.Name, nil)
	})
	return got.Disk, err
}

// sourceOf is the name of the snapshot that a disk was made of.
func sourceOf(d armcompute.Disk) string {
	id := value(value(value(d.Properties).CreationData).SourceResourceID)
	if !strings.Contains(strings.ToLower(id), "/snapshots/") {
		return ""
	}
	return path.Base(id)
}

// Attached has the data disks of an instance.
func (p *Provider) Attached(ctx context.Context, instance string) ([]snapshot.AttachedDisk, error) {
	vm, err := p.machine(ctx, instance)
	if err != nil {
		return nil, err
	}
	var out []snapshot.AttachedDisk
	for _, d := range dataDisks(vm) {
		one := snapshot.AttachedDisk{Disk: snapshot.Disk{Name: value(d.Name), Device: deviceOf(vm, value(d.Lun))}}
		if id := value(d.ManagedDisk).ID; id != nil {
			about, err := p.disk(ctx, *id)
			if err != nil {
				return nil, err
			}
			one.Source = sourceOf(about)
		}
		out = append(out, one)
	}
	return out, nil
}

func (p *Provider) resource(kind, name string) string {
	return "/subscriptions/" + p.Subscription + "/resourceGroups/" + p.Group + "/providers/Microsoft.Compute/" + kind + "/" + name
}

// CreateDisk makes a disk with the name of the snapshot, in the zone of the instance,
// of the kind of the disk that was cut while that one is there, and else of Azure's
// default; and attaches it at the first LUN that is free.
func (p *Provider) CreateDisk(ctx context.Context, instance string, s snapshot.Snapshot) (snapshot.AttachedDisk, error) {
	vm, err := p.machine(ctx, instance)
	if err != nil {
		return snapshot.AttachedDisk{}, err
	}
	at := p.resource("disks", s.Name)
	out := snapshot.AttachedDisk{Disk: snapshot.Disk{Name: s.Name}, Source: s.Name}
	made, err := p.disk(ctx, at)
	switch {
	case missing(err) && !groupMissing(err):
		err = p.makeDisk(ctx, vm, s.Name)
	case err == nil && !strings.EqualFold(sourceOf(made), s.Name):
		err = fault.New(fault.Conflict, "make disk", s.Name, "there is a disk of this name that is not made of the snapshot").WithHint("delete or rename it")
	}
	if err != nil {
		return out, err
	}
	used := map[int32]bool{}
	for _, d := range dataDisks(vm) {
		used[value(d.Lun)] = true
		if strings.EqualFold(value(value(d.ManagedDisk).ID), at) {
			out.Device = deviceOf(vm, value(d.Lun))
			return out, nil
		}
	}
	lun := int32(0)
	for used[lun] {
		lun++
	}
	out.Device = deviceOf(vm, lun)
	do := action{"attach disk", s.Name, "Microsoft.Compute/virtualMachines/write and Microsoft.Compute/disks/write"}
	run, err := call(ctx, p.api, do, func(ctx context.Context) (operation, error) {
		return begun(p.api.machines.BeginAttachDetachDataDisks(ctx, p.Group, instance,
			armcompute.AttachDetachDataDisksRequest{DataDisksToAttach: []*armcompute.DataDisksToAttach{{DiskID: &at, Lun: &lun}}}, nil))
	})
	if err != nil {
		return out, err
	}
	return out, p.wait(ctx, do, run)
}

// makeDisk makes a disk of a snapshot, for an instance.
func (p *Provider) makeDisk(ctx context.Context, vm armcompute.VirtualMachine, name string) error {
	got, err := call(ctx, p.api, action{"look at snapshot", name, "Microsoft.Compute/snapshots/read"}, func(ctx context.Context) (armcompute.SnapshotsClientGetResponse, error) {
		return p.api.snapshots.Get(ctx, p.Group, name, nil)
	})
	if err != nil {
		return err
	}
	d := armcompute.Disk{Location: vm.Location, Zones: vm.Zones, Properties: &armcompute.DiskProperties{
		CreationData: &armcompute.CreationData{CreateOption: to.Ptr(armcompute.DiskCreateOptionCopy), SourceResourceID: to.Ptr(p.resource("snapshots", name))}}}
	if origin := value(value(got.Properties).CreationData).SourceResourceID; origin != nil {
		was, err := p.disk(ctx, *origin)
		if err != nil && !missing(err) {
			return err
		}
		if was.SKU != nil {
			d.SKU = &armcompute.DiskSKU{Name: was.SKU.Name}
		}
	}
	do := action{"make disk", name, "Microsoft.Compute/disks/write and Microsoft.Compute/snapshots/beginGetAccess/action"}
	run, err := call(ctx, p.api, do, func(ctx context.Context) (operation, error) {
		return begun(p.api.disks.BeginCreateOrUpdate(ctx, p.Group, name, d, nil))
	})
	if err != nil {
		return err
	}
	return p.wait(ctx, do, run)
}
