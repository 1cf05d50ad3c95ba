package aws

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// Provider is the volumes of an instance in a region.
type Provider struct {
	Instance string   // ID or tag Name
	Names    []string // of volumes: IDs or tags Name
	Host     snapshot.Host
	Together bool     // cut several volumes at the same moment, where AWS can
	Locking  *Locking // of completed snapshots; nil for none
	// Timeout bounds the wait for a volume that is made or attached, Pause is between two
	// looks at it.
	Timeout, Pause time.Duration

	api     *api
	mu      sync.Mutex
	account string // that owns the snapshots, once one was seen
}

var (
	_ snapshot.Provider = (*Provider)(nil)
	_ snapshot.Atomic   = (*Provider)(nil)
	_ snapshot.Locker   = (*Provider)(nil)
	_ snapshot.Informer = (*Provider)(nil)
	_ snapshot.Instance = (*Provider)(nil)
)

// The tags of a snapshot; Name is Barman's.
const (
	nameTag    = "Name"
	ownerTag   = "holdfast-owner"
	backupTag  = "holdfast-backup"
	attemptTag = "holdfast-attempt"
)

func tag(key, value string) types.Tag { return types.Tag{Key: &key, Value: &value} }

// marks are the tags that say for whom a snapshot is made.
func marks(t snapshot.Tag) []types.Tag {
	return []types.Tag{tag(ownerTag, t.Owner), tag(backupTag, string(t.ID)), tag(attemptTag, strconv.Itoa(t.Attempt))}
}

func tagOf(tags []types.Tag, key string) string {
	for _, t := range tags {
		if aws.ToString(t.Key) == key {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

func specification(kind types.ResourceType, tags []types.Tag) []types.TagSpecification {
	return []types.TagSpecification{{ResourceType: kind, Tags: tags}}
}

// phases are what the API says of a snapshot. One that is pending has the content that
// the volume had when the call returned:
// https://docs.aws.amazon.com/ebs/latest/userguide/ebs-create-snapshot.html
var phases = map[types.SnapshotState]snapshot.Phase{
	types.SnapshotStatePending:   snapshot.Cut,
	types.SnapshotStateCompleted: snapshot.Completed,
	types.SnapshotStateError:     snapshot.Failed,
}

// described is a snapshot of the API. An unknown state promises nothing. One of a set
// whose names were not given yet is called after its volume.
func (p *Provider) described(t snapshot.Tag, s types.Snapshot) snapshot.Snapshot {
	p.mu.Lock()
	if s.OwnerId != nil {
		p.account = *s.OwnerId
	}
	p.mu.Unlock()
	out := snapshot.Snapshot{Tag: t, Name: tagOf(s.Tags, nameTag), ID: aws.ToString(s.SnapshotId), Phase: snapshot.Pending}
	if out.Name == "" {
		out.Name = snapshot.NameOf(aws.ToString(s.VolumeId), t.ID)
	}
	if phase, known := phases[s.State]; known {
		out.Phase = phase
	}
	if out.Phase == snapshot.Failed {
		out.Why = "its state is error: " + aws.ToString(s.StateMessage)
	}
	return out
}

// Disks finds the volumes among those of the instance, and where they are mounted.
func (p *Provider) Disks(ctx context.Context) ([]snapshot.Disk, error) {
	i, err := p.instance(ctx, p.Instance)
	if err != nil {
		return nil, err
	}
	if p.Locking != nil && i.OutpostArn != nil {
		return nil, fault.New(fault.Refused, "look at instance", p.Instance, "it is on an Outpost, whose snapshots cannot be locked").
			WithHint("remove aws_snapshot_lock_mode")
	}
	has, err := p.volumes(ctx, i)
	if err != nil {
		return nil, err
	}
	var chosen []volume
	for _, name := range p.Names {
		v, err := p.find(has, name)
		if err != nil {
			return nil, err
		}
		if at := slices.IndexFunc(chosen, func(o volume) bool { return o.id == v.id }); at >= 0 {
			return nil, fault.New(fault.Refused, "look at disk", name, "it is volume %s, which is listed as %s, too", v.id, p.Names[at]).WithHint("let snapshot_disks list it once")
		}
		chosen = append(chosen, v)
	}
	if err := locate(ctx, p.Host, chosen); err != nil {
		return nil, err
	}
	var out []snapshot.Disk
	for n, v := range chosen {
		d := snapshot.Disk{Name: p.Names[n], Device: v.path}
		if d.Device == "" {
			return nil, fault.New(fault.NotFound, "look at disk", d.Name, "the host has no device for volume %s, which EC2 calls %s", v.id, v.device).
				WithHint("let ssh_command lead to the instance %s; a volume that was just attached needs some seconds", p.Instance)
		}
		out = append(out, d)
	}
	out, err = snapshot.Mounted(ctx, p.Host, out)
	if err == nil && !p.Together {
		err = snapshot.RefuseSpans(out)
	}
	return out, err
}

// find is the one volume with an ID or a Name.
func (p *Provider) find(has []volume, name string) (volume, error) {
	var found, all []string
	var one volume
	for _, v := range has {
		if v.id == name || v.name == name {
			one, found = v, append(found, v.id)
		}
		if !v.root {
			all = append(all, strings.TrimSpace(v.id+" "+v.name))
		}
	}
	switch {
	case len(found) == 0:
		return one, fault.New(fault.NotFound, "look at disk", name, "it is not attached to the instance %s, which has %s", p.Instance, strings.Join(all, ", ")).
			WithHint("attach it, or let snapshot_disks have its ID or its Name")
	case len(found) > 1:
		return one, fault.New(fault.Refused, "look at disk", name, "several volumes have this Name: %s", strings.Join(found, ", ")).
			WithHint("let snapshot_disks list IDs of volumes")
	case one.root:
		return one, fault.New(fault.Refused, "look at disk", name, "it is the root volume of the instance %s (%s)", p.Instance, one.device).
			WithHint("move the cluster to a volume of its own")
	}
	return one, nil
}

// chosen are the volumes of disks, and the instance that has them.
func (p *Provider) chosen(ctx context.Context, disks []snapshot.Disk) (i types.Instance, all, out []volume, err error) {
	if i, err = p.instance(ctx, p.Instance); err != nil {
		return i, nil, nil, err
	}
	if all, err = p.volumes(ctx, i); err != nil {
		return i, nil, nil, err
	}
	for _, d := range disks {
		v, err := p.find(all, d.Name)
		if err != nil {
			return i, nil, nil, err
		}
		out = append(out, v)
	}
	return i, all, out, nil
}

// createRights are what making a snapshot needs.
const createRights = "ec2:CreateSnapshot, ec2:CreateSnapshots and ec2:CreateTags"

// Create makes a snapshot. It does not look first for one that is there: Take has.
func (p *Provider) Create(ctx context.Context, t snapshot.Tag, d snapshot.Disk) (snapshot.Snapshot, error) {
	i, _, volumes, err := p.chosen(ctx, []snapshot.Disk{d})
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	name := snapshot.NameOf(d.Name, t.ID)
	do := action{"make a snapshot of", d.Name, createRights}
	return call(ctx, p.api, do, func(ctx context.Context, again bool) (snapshot.Snapshot, error) {
		if again {
			if made, err := p.made(ctx, t, name); err != nil || made.ID != "" {
				return made, err
			}
		}
		s, err := p.api.client.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: &volumes[0].id, OutpostArn: i.OutpostArn, Description: description(t),
			TagSpecifications: specification(types.ResourceTypeSnapshot, append(marks(t), tag(nameTag, name)))}, once)
		if err != nil {
			return snapshot.Snapshot{}, err
		}
		return p.described(t, types.Snapshot{SnapshotId: s.SnapshotId, OwnerId: s.OwnerId, State: s.State, StateMessage: s.StateMessage, VolumeId: s.VolumeId,
			Tags: []types.Tag{tag(nameTag, name)}}), nil
	})
}

func description(t snapshot.Tag) *string {
	return aws.String("Holdfast backup " + string(t.ID) + " of " + t.Owner)
}

// made looks for what an earlier call may have made.
func (p *Provider) made(ctx context.Context, t snapshot.Tag, name string) (snapshot.Snapshot, error) {
	all, err := p.List(ctx, t.Owner)
	for _, s := range all {
		if s.Tag == t && s.Name == name {
			return s, nil
		}
	}
	return snapshot.Snapshot{}, err
}

// mostLeftOut is how many volumes a set can leave out.
const mostLeftOut = 39

// CreateSet cuts volumes at the same moment, or none where that is not allowed or not
// possible. All get their names afterwards: a set has the same tags for all.
func (p *Provider) CreateSet(ctx context.Context, t snapshot.Tag, disks []snapshot.Disk) ([]snapshot.Snapshot, error) {
	if !p.Together {
		return nil, nil
	}
	i, all, volumes, err := p.chosen(ctx, disks)
	if err != nil {
		return nil, err
	}
	var left []string
	for _, v := range all {
		if !v.root && !slices.ContainsFunc(volumes, func(o volume) bool { return o.id == v.id }) {
			left = append(left, v.id)
		}
	}
	if len(left) > mostLeftOut {
		return nil, nil
	}
	do := action{"make snapshots at the same moment of", p.Instance, createRights}
	set, err := call(ctx, p.api, do, func(ctx context.Context, again bool) ([]types.SnapshotInfo, error) {
		if again {
			return nil, errUnsure
		}
		out, err := p.api.client.CreateSnapshots(ctx, &ec2.CreateSnapshotsInput{OutpostArn: i.OutpostArn, Description: description(t),
			InstanceSpecification: &types.InstanceSpecification{InstanceId: i.InstanceId, ExcludeBootVolume: aws.Bool(true), ExcludeDataVolumeIds: left},
			TagSpecifications:     specification(types.ResourceTypeSnapshot, marks(t))}, once)
		if err != nil {
			return nil, err
		}
		return out.Snapshots, nil
	})
	switch {
	case fault.Is(err, fault.Permission) && said(err, "UnauthorizedOperation", "AccessDenied"), said(err, "UnsupportedOperation", "InvalidAction", "InvalidParameterCombination", "InvalidParameterValue", "OperationNotPermitted"):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return p.named(ctx, t, disks, volumes, set)
}

// errUnsure ends an attempt that may have made snapshots: the next one removes them,
// because nobody knows the moment that they are of.
var errUnsure = fault.New(fault.Crashed, "make snapshots at the same moment for", "the backup", "AWS did not answer, and may have made them").
	WithHint("another attempt begins by itself")

// named gives the snapshots of a set their names.
func (p *Provider) named(ctx context.Context, t snapshot.Tag, disks []snapshot.Disk, volumes []volume, set []types.SnapshotInfo) ([]snapshot.Snapshot, error) {
	out := make([]snapshot.Snapshot, len(disks))
	for n, d := range disks {
		at := slices.IndexFunc(set, func(s types.SnapshotInfo) bool { return aws.ToString(s.VolumeId) == volumes[n].id })
		if at < 0 {
			return nil, fault.New(fault.Tool, "make a snapshot of", d.Name, "AWS has made none of volume %s with the others", volumes[n].id).
				WithHint("set holdfast_snapshot_multi_volume = off")
		}
		name := snapshot.NameOf(d.Name, t.ID)
		_, err := call(ctx, p.api, action{"name the snapshot of", d.Name, "ec2:CreateTags"}, func(ctx context.Context, _ bool) (*ec2.CreateTagsOutput, error) {
			return p.api.client.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{*set[at].SnapshotId}, Tags: []types.Tag{tag(nameTag, name)}})
		})
		if err != nil {
			return nil, err
		}
		out[n] = p.described(t, types.Snapshot{SnapshotId: set[at].SnapshotId, OwnerId: set[at].OwnerId, State: set[at].State, Tags: []types.Tag{tag(nameTag, name)}})
	}
	return out, nil
}

// List has the snapshots with the tag of an owner.
func (p *Provider) List(ctx context.Context, owner string) ([]snapshot.Snapshot, error) {
	do := action{"list snapshots of", owner, "ec2:DescribeSnapshots"}
	out, err := call(ctx, p.api, do, func(ctx context.Context, _ bool) (out []snapshot.Snapshot, err error) {
		pages := ec2.NewDescribeSnapshotsPaginator(p.api.client, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"},
			Filters: []types.Filter{{Name: aws.String("tag:" + ownerTag), Values: []string{escaped(owner)}}}})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, s := range page.Snapshots {
				if t, ours := markOf(owner, s.Tags); ours {
					out = append(out, p.described(t, s))
				}
			}
		}
		return out, nil
	})
	if err != nil || !slices.ContainsFunc(out, func(s snapshot.Snapshot) bool { return s.Phase == snapshot.Completed }) {
		return out, err
	}
	return p.Locks(ctx, out)
}

// escaped lets a filter take a value as it is.
func escaped(value string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`).Replace(value)
}

// markOf reads the tags of a snapshot of an owner.
func markOf(owner string, tags []types.Tag) (snapshot.Tag, bool) {
	id, err := backup.ParseID(tagOf(tags, backupTag))
	n, bad := strconv.Atoi(tagOf(tags, attemptTag))
	return snapshot.Tag{Owner: owner, ID: id, Attempt: n}, err == nil && bad == nil && n > 0 && tagOf(tags, ownerTag) == owner
}

// Delete removes a snapshot, unless it is locked.
func (p *Provider) Delete(ctx context.Context, s snapshot.Snapshot) error {
	_, err := call(ctx, p.api, action{"delete snapshot", s.Name, "ec2:DeleteSnapshot"}, func(ctx context.Context, _ bool) (*ec2.DeleteSnapshotOutput, error) {
		return p.api.client.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &s.ID})
	})
	switch {
	case said(err, "InvalidSnapshot.NotFound"):
		return nil
	case said(err, "SnapshotLocked"):
		if found, lockErr := p.Locks(ctx, []snapshot.Snapshot{s}); lockErr == nil && found[0].Lock != nil {
			return fault.New(fault.Refused, "delete snapshot", s.Name, "it is locked (%s) until %s", found[0].Lock.Mode, found[0].Lock.Until.UTC().Format(time.DateTime+"Z")).
				WithHint("delete the backup after that; the backup stays until then")
		}
	}
	return err
}
