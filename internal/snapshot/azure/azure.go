package azure

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// Provider is the data disks of a virtual machine in a resource group.
type Provider struct {
	Subscription, Group, Instance string
	Names                         []string // of disks
	Host                          snapshot.Host
	// Timeout bounds the wait for one operation, Pause is the first one between two
	// looks at it.
	Timeout, Pause time.Duration

	api *api
}

var (
	_ snapshot.Provider = (*Provider)(nil)
	_ snapshot.Informer = (*Provider)(nil)
	_ snapshot.Instance = (*Provider)(nil)
)

// The tags of a snapshot.
const (
	ownerTag   = "holdfast-owner"
	backupTag  = "holdfast-backup"
	attemptTag = "holdfast-attempt"
)

func tags(t snapshot.Tag) map[string]*string {
	return map[string]*string{ownerTag: &t.Owner, backupTag: to.Ptr(string(t.ID)), attemptTag: to.Ptr(strconv.Itoa(t.Attempt))}
}

// tagOf reads the tags of a snapshot.
func tagOf(has map[string]*string) (snapshot.Tag, bool) {
	text := func(key string) string { return value(has[key]) }
	id, err := backup.ParseID(text(backupTag))
	n, bad := strconv.Atoi(text(attemptTag))
	return snapshot.Tag{Owner: text(ownerTag), ID: id, Attempt: n}, err == nil && bad == nil && n > 0 && text(ownerTag) != ""
}

// value is what a pointer of the library points to.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

const succeeded = "Succeeded"

// described is a snapshot of the API. Its content is fixed when its provisioning has
// succeeded: it can be read at once then, while data may be copied in the background,
// https://learn.microsoft.com/azure/virtual-machines/disks-incremental-snapshots
func described(tag snapshot.Tag, s armcompute.Snapshot) snapshot.Snapshot {
	out := snapshot.Snapshot{Tag: tag, Name: value(s.Name), ID: value(s.Name), Phase: snapshot.Pending}
	p := value(s.Properties)
	state, broken := value(p.ProvisioningState), value(p.CopyCompletionError)
	switch {
	case broken.ErrorMessage != nil:
		out.Phase, out.Why = snapshot.Failed, fmt.Sprintf("%s (%s)", *broken.ErrorMessage, value(broken.ErrorCode))
	case state == succeeded && p.CompletionPercent != nil && *p.CompletionPercent < 100:
		out.Phase = snapshot.Cut
	case state == succeeded:
		out.Phase = snapshot.Completed
	case slices.Contains([]string{"Failed", "Canceled", "Deleting"}, state):
		out.Phase, out.Why = snapshot.Failed, "its provisioning state is "+state
	}
	return out
}

// deviceOf is where a machine has the disk of a LUN: through SCSI, by the rules of Azure's
// agent, or through NVMe, by those of azure-vm-utils,
// https://learn.microsoft.com/azure/virtual-machines/linux/azure-virtual-machine-utilities
func deviceOf(vm armcompute.VirtualMachine, lun int32) string {
	if value(value(value(vm.Properties).StorageProfile).DiskControllerType) == armcompute.DiskControllerTypesNVMe {
		return fmt.Sprintf("/dev/disk/azure/data/by-lun/%d", lun)
	}
	return fmt.Sprintf("/dev/disk/azure/scsi1/lun%d", lun)
}

// mostName is how long the name of a disk may be: that of its snapshot has 16
// characters more, and 80 at most.
const mostName = 80 - len("-20260101t000000")

// Disks finds the disks among the data disks of the instance, and where they are mounted.
func (p *Provider) Disks(ctx context.Context) ([]snapshot.Disk, error) {
	vm, err := p.machine(ctx, p.Instance)
	if err != nil {
		return nil, err
	}
	var out []snapshot.Disk
	for _, name := range p.Names {
		if len(name) > mostName {
			return nil, fault.New(fault.Refused, "look at disk", name, "no snapshot can be named after it").WithHint("use a disk whose name has %d characters or fewer", mostName)
		}
		d, err := p.find(vm, name)
		if err != nil {
			return nil, err
		}
		out = append(out, snapshot.Disk{Name: name, Device: deviceOf(vm, value(d.Lun))})
	}
	return snapshot.Mounted(ctx, p.Host, out)
}

// machine reads an instance.
func (p *Provider) machine(ctx context.Context, instance string) (armcompute.VirtualMachine, error) {
	got, err := call(ctx, p.api, action{"look at instance", instance, "Microsoft.Compute/virtualMachines/read"}, func(ctx context.Context) (armcompute.VirtualMachinesClientGetResponse, error) {
		return p.api.machines.Get(ctx, p.Group, instance, nil)
	})
	if missing(err) && !groupMissing(err) {
		return armcompute.VirtualMachine{}, fault.New(fault.NotFound, "look at instance", instance, "the resource group %s has no such virtual machine", p.Group).
			WithHint("correct the name of the instance (snapshot_instance), azure_resource_group or azure_subscription_id")
	}
	return got.VirtualMachine, err
}

// dataDisks are the disks of a virtual machine but that of its system.
func dataDisks(vm armcompute.VirtualMachine) []*armcompute.DataDisk {
	return value(value(vm.Properties).StorageProfile).DataDisks
}

// find is the data disk with exactly a name.
func (p *Provider) find(vm armcompute.VirtualMachine, name string) (*armcompute.DataDisk, error) {
	var names []string
	for _, d := range dataDisks(vm) {
		if value(d.Name) != name {
			names = append(names, value(d.Name))
			continue
		}
		if value(d.ManagedDisk).ID == nil {
			return nil, fault.New(fault.Refused, "look at disk", name, "it is no managed disk").WithHint("convert the disk to a managed one")
		}
		return d, nil
	}
	return nil, fault.New(fault.NotFound, "look at disk", name, "it is no data disk of the instance %s, which has %s", p.Instance, strings.Join(names, ", ")).
		WithHint("attach it, or correct snapshot_disks")
}

// Create makes an incremental snapshot, and returns when its content is fixed.
func (p *Provider) Create(ctx context.Context, tag snapshot.Tag, disk snapshot.Disk) (snapshot.Snapshot, error) {
	name := snapshot.NameOf(disk.Name, tag.ID)
	do := action{"make a snapshot of", disk.Name, "Microsoft.Compute/snapshots/write and Microsoft.Compute/disks/beginGetAccess/action"}
	vm, err := p.machine(ctx, p.Instance)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	d, err := p.find(vm, disk.Name)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	made := armcompute.Snapshot{Location: vm.Location, Tags: tags(tag), Properties: &armcompute.SnapshotProperties{
		CreationData: &armcompute.CreationData{CreateOption: to.Ptr(armcompute.DiskCreateOptionCopy), SourceResourceID: d.ManagedDisk.ID}, Incremental: to.Ptr(true)}}
	run, err := call(ctx, p.api, do, func(ctx context.Context) (operation, error) {
		// The call before this one may have been carried out, and the call replaces what it meets.
		there, err := p.taken(ctx, tag, name)
		if err != nil || there {
			return nil, err
		}
		return begun(p.api.snapshots.BeginCreateOrUpdate(ctx, p.Group, name, made, nil))
	})
	if err == nil && run != nil {
		err = p.wait(ctx, do, run)
	}
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	var s snapshot.Snapshot
	err = p.until(ctx, do, func() (bool, error) {
		var ours bool
		s, ours, err = p.get(ctx, tag, name)
		if err == nil && !ours {
			err = fault.New(fault.Superseded, do.op, do.subject, "the snapshot %s is of attempt %d", name, s.Tag.Attempt)
		}
		return s.Phase != snapshot.Pending, err
	})
	return s, err
}

// get reads a snapshot; ours reports whether it is of the tag.
func (p *Provider) get(ctx context.Context, tag snapshot.Tag, name string) (s snapshot.Snapshot, ours bool, err error) {
	got, err := call(ctx, p.api, action{"look at snapshot", name, "Microsoft.Compute/snapshots/read"}, func(ctx context.Context) (armcompute.SnapshotsClientGetResponse, error) {
		return p.api.snapshots.Get(ctx, p.Group, name, nil)
	})
	if err != nil {
		return s, false, err
	}
	known, tagged := tagOf(got.Tags)
	if !tagged || known.ID != tag.ID || known.Owner != tag.Owner {
		return s, false, fault.New(fault.Conflict, "make snapshot", name, "there is one of this name that is not of this backup").
			WithHint("look at its tags, and delete or keep it; then take the backup again")
	}
	return described(known, got.Snapshot), known == tag, nil
}

// taken reports whether the snapshot of a tag is there already. What an earlier
// attempt has left under its name is removed.
func (p *Provider) taken(ctx context.Context, tag snapshot.Tag, name string) (bool, error) {
	s, ours, err := p.get(ctx, tag, name)
	switch {
	case missing(err) && !groupMissing(err):
		return false, nil
	case err != nil || ours && s.Phase != snapshot.Failed:
		return true, err
	case s.Tag.Attempt > tag.Attempt:
		return true, fault.New(fault.Superseded, "make snapshot", name, "attempt %d has begun", s.Tag.Attempt)
	}
	return false, p.Delete(ctx, s)
}

// List has the snapshots in the resource group with the tag of an owner.
func (p *Provider) List(ctx context.Context, owner string) ([]snapshot.Snapshot, error) {
	return call(ctx, p.api, action{"list snapshots of", owner, "Microsoft.Compute/snapshots/read"}, func(ctx context.Context) (out []snapshot.Snapshot, err error) {
		for pages := p.api.snapshots.NewListByResourceGroupPager(p.Group, nil); pages.More(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, s := range page.Value {
				if tag, tagged := tagOf(s.Tags); tagged && tag.Owner == owner && value(value(s.Properties).ProvisioningState) != "Deleting" {
					out = append(out, described(tag, *s))
				}
			}
		}
		return out, nil
	})
}

// Delete returns when the name is free again.
func (p *Provider) Delete(ctx context.Context, s snapshot.Snapshot) error {
	do := action{"delete snapshot", s.Name, "Microsoft.Compute/snapshots/delete"}
	run, err := call(ctx, p.api, do, func(ctx context.Context) (operation, error) {
		return begun(p.api.snapshots.BeginDelete(ctx, p.Group, s.Name, nil))
	})
	if err == nil {
		err = p.wait(ctx, do, run)
	}
	if missing(err) && !groupMissing(err) {
		return nil
	}
	return err
}
