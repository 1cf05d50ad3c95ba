package aws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pylit"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// volume is one that is attached to an instance.
type volume struct {
	id, name string
	device   string // as EC2 calls it
	path     string // on the host, see locate
	root     bool
	source   string // ID of a snapshot
}

// alive are the states of an instance that was not terminated.
var alive = []string{"pending", "running", "shutting-down", "stopping", "stopped"}

// instance is the one with an ID, or with a Name.
func (p *Provider) instance(ctx context.Context, name string) (types.Instance, error) {
	do := action{"look at instance", name, "ec2:DescribeInstances"}
	req := &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("instance-state-name"), Values: alive}}}
	if strings.HasPrefix(name, "i-") {
		req.InstanceIds = []string{name}
	} else {
		req.Filters = append(req.Filters, types.Filter{Name: aws.String("tag:" + nameTag), Values: []string{escaped(name)}})
	}
	found, err := call(ctx, p.api, do, func(ctx context.Context, _ bool) (out []types.Instance, err error) {
		pages := ec2.NewDescribeInstancesPaginator(p.api.client, req)
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, r := range page.Reservations {
				out = append(out, r.Instances...)
			}
		}
		return out, nil
	})
	switch {
	case err == nil && len(found) == 1:
		return found[0], nil
	case err == nil && len(found) > 1:
		var ids []string
		for _, i := range found {
			ids = append(ids, aws.ToString(i.InstanceId))
		}
		return types.Instance{}, fault.New(fault.Refused, do.op, name, "several instances have this Name: %s", strings.Join(ids, ", ")).
			WithHint("let snapshot_instance be the ID of one")
	case err == nil || said(err, "InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"):
		return types.Instance{}, fault.New(fault.NotFound, do.op, name, "region %s has no instance with this ID or Name", p.api.region).
			WithHint("correct the name of the instance (snapshot_instance), or aws_region")
	}
	return types.Instance{}, err
}

// volumes are those of an instance.
func (p *Provider) volumes(ctx context.Context, i types.Instance) ([]volume, error) {
	id := aws.ToString(i.InstanceId)
	known, err := call(ctx, p.api, action{"look at the volumes of", id, "ec2:DescribeVolumes"}, func(ctx context.Context, _ bool) (out []types.Volume, err error) {
		pages := ec2.NewDescribeVolumesPaginator(p.api.client, &ec2.DescribeVolumesInput{Filters: []types.Filter{{Name: aws.String("attachment.instance-id"), Values: []string{id}}}})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			out = append(out, page.Volumes...)
		}
		return out, nil
	})
	if err != nil {
		return nil, err
	}
	var out []volume
	for _, v := range known {
		for _, a := range v.Attachments {
			if aws.ToString(a.InstanceId) != id {
				continue
			}
			one := volume{id: aws.ToString(v.VolumeId), name: tagOf(v.Tags, nameTag), device: aws.ToString(a.Device), source: aws.ToString(v.SnapshotId)}
			one.root = one.device == aws.ToString(i.RootDeviceName) || slices.Contains([]string{"/dev/sda1", "/dev/xvda"}, one.device)
			out = append(out, one)
		}
	}
	slices.SortFunc(out, func(a, b volume) int { return strings.Compare(a.device, b.device) })
	return out, nil
}

// locate finds the device of each volume on a host: an NVMe disk has the ID of its
// volume as its serial number, and others are called as EC2 has it, or as the kernel's
// driver renames that. What is not there keeps no path.
func locate(ctx context.Context, h snapshot.Host, volumes []volume) error {
	var paths []string
	for _, v := range volumes {
		paths = append(paths, candidates(v.device)...)
	}
	said, err := snapshot.Tools{Host: h}.Script(ctx, "look at", "the devices of the host",
		"for s in /sys/block/*/device/serial; do if [ -r \"$s\" ]; then d=${s%/device/serial}; printf '%s %s\\n' \"$(tr -d ' ' < \"$s\")\" \"/dev/${d##*/}\"; fi; done\n"+
			"for d in "+snapshot.Words(paths...)+"; do if [ -b \"$d\" ]; then printf '= %s\\n' \"$d\"; fi; done")
	if err != nil {
		return err
	}
	serial, there := map[string]string{}, map[string]bool{}
	for line := range strings.Lines(said) {
		key, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key == "=" {
			there[path] = true
		} else {
			serial[strings.ReplaceAll(key, "-", "")] = path
		}
	}
	for i, v := range volumes {
		volumes[i].path = serial[strings.ReplaceAll(v.id, "-", "")]
		for _, c := range candidates(v.device) {
			if volumes[i].path == "" && there[c] {
				volumes[i].path = c
			}
		}
	}
	return nil
}

// candidates are what the kernel may call a device of EC2's.
func candidates(device string) []string {
	name := strings.TrimPrefix(device, "/dev/")
	out := []string{"/dev/" + name}
	if rest, sd := strings.CutPrefix(name, "sd"); sd {
		out = append(out, "/dev/xvd"+rest, "/dev/hd"+rest)
	}
	return out
}

// SnapshotsInfo is Barman's record of the snapshots.
func (p *Provider) SnapshotsInfo(ctx context.Context, disks []snapshot.Disk, made []snapshot.Snapshot) (pylit.Value, error) {
	_, _, volumes, err := p.chosen(ctx, disks)
	if err != nil {
		return pylit.Value{}, err
	}
	var list []pylit.Value
	for i, d := range disks {
		mode := pylit.Value{}
		if made[i].Lock != nil {
			mode = pylit.Str(made[i].Lock.Mode)
		}
		list = append(list, pylit.D(
			pylit.P("mount", pylit.D(pylit.P("mount_options", pylit.Str(d.Options)), pylit.P("mount_point", pylit.Str(d.Mount)))),
			pylit.P("provider", pylit.D(pylit.P("device_name", pylit.Str(volumes[i].device)), pylit.P("snapshot_id", pylit.Str(made[i].ID)),
				pylit.P("snapshot_name", pylit.Str(made[i].Name)), pylit.P("snapshot_lock_mode", mode)))))
	}
	p.mu.Lock()
	account := p.account
	p.mu.Unlock()
	return pylit.D(pylit.P("provider", pylit.Str("aws")),
		pylit.P("provider_info", pylit.D(pylit.P("account_id", pylit.Str(account)), pylit.P("region", pylit.Str(p.api.region)))),
		pylit.P("snapshots", pylit.L(list...))), nil
}

// Attached has the volumes of an instance, the root apart.
func (p *Provider) Attached(ctx context.Context, instance string) ([]snapshot.AttachedDisk, error) {
	i, err := p.instance(ctx, instance)
	if err != nil {
		return nil, err
	}
	has, err := p.volumes(ctx, i)
	if err != nil {
		return nil, err
	}
	has = slices.DeleteFunc(has, func(v volume) bool { return v.root })
	if len(has) == 0 {
		return nil, nil
	}
	if err := locate(ctx, p.Host, has); err != nil {
		return nil, err
	}
	var out []snapshot.AttachedDisk
	for _, v := range has {
		out = append(out, v.attached())
	}
	return out, nil
}

func (v volume) attached() snapshot.AttachedDisk {
	d := snapshot.AttachedDisk{Disk: snapshot.Disk{Name: v.id, Device: v.path}, Source: v.source}
	if d.Device == "" {
		d.Device = v.device
	}
	return d
}

// CreateDisk makes a volume in the zone of the instance, of the type of the volume that
// was cut while that one is there, and else of EC2's default; and attaches it under the
// first name that is free.
func (p *Provider) CreateDisk(ctx context.Context, instance string, s snapshot.Snapshot) (snapshot.AttachedDisk, error) {
	i, err := p.instance(ctx, instance)
	if err != nil {
		return snapshot.AttachedDisk{}, err
	}
	id := aws.ToString(i.InstanceId)
	has, err := p.volumes(ctx, i)
	if err != nil {
		return snapshot.AttachedDisk{}, err
	}
	if at := slices.IndexFunc(has, func(v volume) bool { return v.source == s.ID && !v.root }); at >= 0 {
		if err := p.await(ctx, has[at].id, types.VolumeStateInUse); err != nil {
			return snapshot.AttachedDisk{}, err
		}
		err := locate(ctx, p.Host, has[at:at+1])
		return has[at].attached(), err
	}
	made, err := p.makeVolume(ctx, i, s)
	if err != nil {
		return snapshot.AttachedDisk{}, err
	}
	if err := p.await(ctx, made, types.VolumeStateAvailable); err != nil {
		return snapshot.AttachedDisk{}, err
	}
	device := freeDevice(has)
	if device == "" {
		return snapshot.AttachedDisk{}, fault.New(fault.Refused, "attach disk", made, "the instance %s has no device name free from /dev/sdf to /dev/sdp", instance).WithHint("detach a volume")
	}
	if _, err := call(ctx, p.api, action{"attach disk", made, "ec2:AttachVolume"}, func(ctx context.Context, _ bool) (*ec2.AttachVolumeOutput, error) {
		return p.api.client.AttachVolume(ctx, &ec2.AttachVolumeInput{InstanceId: &id, VolumeId: &made, Device: &device})
	}); err != nil {
		return snapshot.AttachedDisk{}, err
	}
	if err := p.await(ctx, made, types.VolumeStateInUse); err != nil {
		return snapshot.AttachedDisk{}, err
	}
	one := []volume{{id: made, device: device, source: s.ID}}
	err = locate(ctx, p.Host, one)
	return one[0].attached(), err
}

// freeDevice is the first name that no volume has.
func freeDevice(has []volume) string {
	for c := 'f'; c <= 'p'; c++ {
		if !slices.ContainsFunc(has, func(v volume) bool {
			return strings.TrimPrefix(v.device, "/dev/") == "sd"+string(c) || v.device == "/dev/xvd"+string(c)
		}) {
			return "/dev/sd" + string(c)
		}
	}
	return ""
}

// makeVolume makes one of a snapshot; the same call again is answered with the same one.
func (p *Provider) makeVolume(ctx context.Context, i types.Instance, s snapshot.Snapshot) (string, error) {
	sum := sha256.Sum256([]byte(aws.ToString(i.InstanceId) + "\x00" + s.ID))
	req := &ec2.CreateVolumeInput{SnapshotId: &s.ID, ClientToken: aws.String(hex.EncodeToString(sum[:16])), OutpostArn: i.OutpostArn,
		TagSpecifications: specification(types.ResourceTypeVolume, []types.Tag{tag(nameTag, s.Name)})}
	if i.Placement != nil {
		req.AvailabilityZone = i.Placement.AvailabilityZone
	}
	if err := p.likeTheSource(ctx, s, req); err != nil {
		return "", err
	}
	v, err := call(ctx, p.api, action{"make a disk of", s.ID, "ec2:CreateVolume and ec2:CreateTags"}, func(ctx context.Context, _ bool) (*ec2.CreateVolumeOutput, error) {
		return p.api.client.CreateVolume(ctx, req)
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(v.VolumeId), nil
}

// likeTheSource takes over the type of the volume that a snapshot is of.
func (p *Provider) likeTheSource(ctx context.Context, s snapshot.Snapshot, req *ec2.CreateVolumeInput) error {
	cut, err := call(ctx, p.api, action{"look at snapshot", s.ID, "ec2:DescribeSnapshots"}, func(ctx context.Context, _ bool) (*ec2.DescribeSnapshotsOutput, error) {
		return p.api.client.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{s.ID}})
	})
	if err != nil || len(cut.Snapshots) == 0 {
		return err
	}
	from, err := p.look(ctx, aws.ToString(cut.Snapshots[0].VolumeId))
	switch {
	case said(err, "InvalidVolume.NotFound"):
		return nil
	case err != nil:
		return err
	}
	req.VolumeType, req.Throughput = from.VolumeType, from.Throughput
	if slices.Contains([]types.VolumeType{types.VolumeTypeIo1, types.VolumeTypeIo2, types.VolumeTypeGp3}, from.VolumeType) {
		req.Iops = from.Iops
	}
	return nil
}

// look reads a volume.
func (p *Provider) look(ctx context.Context, id string) (types.Volume, error) {
	out, err := call(ctx, p.api, action{"look at disk", id, "ec2:DescribeVolumes"}, func(ctx context.Context, _ bool) (*ec2.DescribeVolumesOutput, error) {
		return p.api.client.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{id}})
	})
	if err != nil || len(out.Volumes) == 0 {
		return types.Volume{}, err
	}
	return out.Volumes[0], nil
}

// await returns when a volume is in a state, and attached if that is in use.
func (p *Provider) await(ctx context.Context, id string, state types.VolumeState) error {
	for over := time.After(p.Timeout); ; {
		v, err := p.look(ctx, id)
		if err != nil && !said(err, "InvalidVolume.NotFound") { // of one that was just made
			return err
		}
		attached := slices.ContainsFunc(v.Attachments, func(a types.VolumeAttachment) bool { return a.State == types.VolumeAttachmentStateAttached })
		switch {
		case v.State == types.VolumeStateError:
			return fault.New(fault.Tool, "wait for disk", id, "its state is error").WithHint("delete it, and see whether the key of an encrypted snapshot can be used")
		case v.State == types.VolumeStateInUse && attached, v.State == state && state != types.VolumeStateInUse:
			return nil
		}
		select {
		case <-ctx.Done():
			return fault.Wrap(fault.Cancelled, "wait for disk", id, context.Cause(ctx))
		case <-over:
			return fault.New(fault.Unavailable, "wait for disk", id, "it was not %s within %s", state, p.Timeout).WithHint("look at it in EC2's console, and give the command again")
		case <-time.After(p.Pause):
		}
	}
}
