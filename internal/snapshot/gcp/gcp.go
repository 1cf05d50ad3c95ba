package gcp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/compute/apiv1/computepb"
	"github.com/google/uuid"
	"google.golang.org/api/iterator"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/lazyregexp"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// Provider is the disks of an instance in a zone of a project.
type Provider struct {
	Project, Zone, Instance string
	Names                   []string // of disks
	Host                    snapshot.Host
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

// The labels of a snapshot.
const (
	ownerLabel   = "holdfast-owner"
	backupLabel  = "holdfast-backup"
	attemptLabel = "holdfast-attempt"
)

// labelOf makes of an owner what a label can hold, another one for each.
func labelOf(owner string) string {
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, strings.ToLower(owner))
	if safe == owner && len(safe) <= 63 {
		return safe
	}
	sum := sha256.Sum256([]byte(owner))
	return safe[:min(len(safe), 54)] + "-" + hex.EncodeToString(sum[:4])
}

func labels(t snapshot.Tag) map[string]string {
	return map[string]string{ownerLabel: labelOf(t.Owner), backupLabel: strings.ToLower(string(t.ID)), attemptLabel: strconv.Itoa(t.Attempt)}
}

// tagOf reads the labels of a snapshot of an owner.
func tagOf(owner string, l map[string]string) (snapshot.Tag, bool) {
	id, err := backup.ParseID(strings.ToUpper(l[backupLabel]))
	n, bad := strconv.Atoi(l[attemptLabel])
	return snapshot.Tag{Owner: owner, ID: id, Attempt: n}, err == nil && bad == nil && n > 0 && l[ownerLabel] == labelOf(owner)
}

// phases are what the API says of a snapshot: the names of computepb.Snapshot_Status, which
// themselves would have every program of ours unpack the whole API when it begins. What is uploaded is the disk as it was
// before: Google's driver for Kubernetes returns from CreateSnapshot, which has to wait for the cut, when a snapshot is
// not CREATING any more (waitForSnapshotCreation in its gce-compute.go).
var phases = map[string]snapshot.Phase{
	"CREATING":  snapshot.Pending,
	"UPLOADING": snapshot.Cut,
	"READY":     snapshot.Completed,
	"FAILED":    snapshot.Failed,
	"DELETING":  snapshot.Failed,
}

// described is a snapshot of the API. An unknown status promises nothing.
func described(tag snapshot.Tag, s *computepb.Snapshot) snapshot.Snapshot {
	out := snapshot.Snapshot{Tag: tag, Name: s.GetName(), ID: s.GetName(), Phase: snapshot.Pending}
	if phase, known := phases[s.GetStatus()]; known {
		out.Phase = phase
	}
	if out.Phase == snapshot.Failed {
		out.Why = "its status is " + s.GetStatus()
	}
	return out
}

// devices is where the instance has its disks, by their device names.
const devices = "/dev/disk/by-id/google-"

var validName = lazyregexp.New(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)

// mostName is how long the name of a disk may be: that of its snapshot has 16
// characters more, and 63 at most.
const mostName = 63 - len("-20260101t000000")

// Disks finds the disks among those of the instance, and where they are mounted.
func (p *Provider) Disks(ctx context.Context) ([]snapshot.Disk, error) {
	has, err := p.attached(ctx, p.Instance)
	if err != nil {
		return nil, err
	}
	var out []snapshot.Disk
	for _, name := range p.Names {
		if len(name) > mostName || !validName.MatchString(name) {
			return nil, fault.New(fault.Refused, "look at disk", name, "no snapshot can be named after it").
				WithHint("let snapshot_disks list disks of Google Cloud by their names, which may have %d characters: lower case letters, digits and hyphens", mostName)
		}
		d, err := p.find(has, name)
		if err != nil {
			return nil, err
		}
		out = append(out, snapshot.Disk{Name: name, Device: devices + d.GetDeviceName()})
	}
	return snapshot.Mounted(ctx, p.Host, out)
}

// find is the disk with exactly a name.
func (p *Provider) find(has []*computepb.AttachedDisk, name string) (*computepb.AttachedDisk, error) {
	var found []*computepb.AttachedDisk
	for _, d := range has {
		if path.Base(d.GetSource()) == name {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		var names []string
		for _, d := range has {
			names = append(names, path.Base(d.GetSource()))
		}
		return nil, fault.New(fault.NotFound, "look at disk", name, "it is not attached to the instance %s, which has %s", p.Instance, strings.Join(names, ", ")).
			WithHint("attach it, or correct snapshot_disks")
	}
	return nil, fault.New(fault.Refused, "look at disk", name, "the instance %s has a zonal and a regional disk of this name", p.Instance).
		WithHint("move the cluster to disks whose names differ")
}

// attached are the disks of an instance that can be cut.
func (p *Provider) attached(ctx context.Context, instance string) ([]*computepb.AttachedDisk, error) {
	if p.Zone == "" {
		return nil, fault.New(fault.Config, "look at instance", instance, "its zone is not set").WithHint("set gcp_zone, or give --gcp-zone")
	}
	i, err := call(ctx, p.api, action{"look at instance", instance, "compute.instances.get"}, func(ctx context.Context) (*computepb.Instance, error) {
		return p.api.instances.Get(ctx, &computepb.GetInstanceRequest{Project: p.Project, Zone: p.Zone, Instance: instance})
	})
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.NotFound, "look at instance", instance, "project %s has no such instance in zone %s", p.Project, p.Zone).
			WithHint("correct the name of the instance (snapshot_instance), gcp_zone or gcp_project")
	}
	var out []*computepb.AttachedDisk
	for _, d := range i.GetDisks() {
		if d.GetSource() != "" { // a local SSD has none
			out = append(out, d)
		}
	}
	return out, err
}

// mostRequests bounds the answers of the past that Create passes over.
const mostRequests = 20

// Create makes a snapshot, and returns when its content is fixed: an operation that
// fails before leaves no snapshot that would tell why.
func (p *Provider) Create(ctx context.Context, tag snapshot.Tag, disk snapshot.Disk) (snapshot.Snapshot, error) {
	name := snapshot.NameOf(disk.Name, tag.ID)
	do := action{"make a snapshot of", disk.Name, "compute.disks.createSnapshot, compute.snapshots.create and compute.snapshots.setLabels"}
	has, err := p.attached(ctx, p.Instance)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	d, err := p.find(has, disk.Name)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	for n := range mostRequests {
		req := &computepb.InsertSnapshotRequest{Project: p.Project, RequestId: requestID(n, tag.Owner, tag.String(), d.GetSource()),
			SnapshotResource: &computepb.Snapshot{Name: &name, SourceDisk: d.Source, Labels: labels(tag)}}
		op, err := call(ctx, p.api, do, func(ctx context.Context) (operation, error) { return p.api.snapshots.Insert(ctx, req) })
		if errors.Is(err, errTaken) {
			s, theirs, err := p.taken(ctx, tag, name)
			if err != nil || !theirs {
				return s, err
			}
			continue
		}
		if err != nil {
			return snapshot.Snapshot{}, err
		}
		// Google answers with the operation of an earlier call that had this ID, whose
		// snapshot may have failed or been removed since.
		past := op.Done()
		s, err := p.cut(ctx, do, op, tag, name)
		if (past && err != nil || errors.Is(err, errVanished)) && ctx.Err() == nil && n+1 < mostRequests {
			continue
		}
		return s, err
	}
	return snapshot.Snapshot{}, fault.New(fault.Conflict, do.op, do.subject, "%w", errTaken).WithHint("look at the snapshot %s, which others make again and again", name)
}

// requestID is the n-th ID of a request.
func requestID(n int, words ...string) *string {
	id := uuid.NewSHA1(uuid.NameSpaceURL, []byte("holdfast\x00"+strings.Join(words, "\x00")+"\x00"+strconv.Itoa(n))).String()
	return &id
}

// errVanished is that an operation has ended, and what it made is not there.
var errVanished = errors.New("it was removed while it was made")

// cut waits until the content of a snapshot that is being made is fixed.
func (p *Provider) cut(ctx context.Context, do action, op operation, tag snapshot.Tag, name string) (s snapshot.Snapshot, err error) {
	err = p.api.wait(ctx, do, op, p.Timeout, p.Pause, func() (bool, error) {
		var ours bool
		s, ours, err = p.get(ctx, tag, name)
		switch {
		case fault.Is(err, fault.NotFound) && !op.Done():
			return false, nil
		case fault.Is(err, fault.NotFound) || err == nil && !ours:
			return false, fault.New(fault.Conflict, do.op, do.subject, "%w", errVanished).WithHint("find out who removed the snapshot %s", name)
		}
		return s.Phase != snapshot.Pending, err
	})
	return s, err
}

// get reads a snapshot; ours reports whether it is of the tag.
func (p *Provider) get(ctx context.Context, tag snapshot.Tag, name string) (s snapshot.Snapshot, ours bool, err error) {
	one, err := call(ctx, p.api, action{"look at snapshot", name, "compute.snapshots.get"}, func(ctx context.Context) (*computepb.Snapshot, error) {
		return p.api.snapshots.Get(ctx, &computepb.GetSnapshotRequest{Project: p.Project, Snapshot: name})
	})
	if err != nil {
		return s, false, err
	}
	known, labelled := tagOf(tag.Owner, one.GetLabels())
	if !labelled || known.ID != tag.ID {
		return s, false, fault.New(fault.Conflict, "make snapshot", name, "there is one of this name that is not of this backup").
			WithHint("look at its labels, and delete or keep it; then take the backup again")
	}
	return described(known, one), known == tag, nil
}

// taken: a name is there already. What an earlier attempt has left is removed, and
// gone is true then; what is ours is returned.
func (p *Provider) taken(ctx context.Context, tag snapshot.Tag, name string) (s snapshot.Snapshot, gone bool, err error) {
	s, ours, err := p.get(ctx, tag, name)
	switch {
	case fault.Is(err, fault.NotFound):
		return s, true, nil
	case err != nil || ours && s.Phase != snapshot.Failed:
		return s, false, err
	case s.Tag.Attempt > tag.Attempt:
		return s, false, fault.New(fault.Superseded, "make snapshot", name, "attempt %d has begun", s.Tag.Attempt)
	}
	return s, true, p.Delete(ctx, s)
}

// List has the snapshots with the label of an owner.
func (p *Provider) List(ctx context.Context, owner string) ([]snapshot.Snapshot, error) {
	filter := fmt.Sprintf("labels.%s=%s", ownerLabel, labelOf(owner))
	return call(ctx, p.api, action{"list snapshots of", owner, "compute.snapshots.list"}, func(ctx context.Context) (out []snapshot.Snapshot, err error) {
		pages := p.api.snapshots.List(ctx, &computepb.ListSnapshotsRequest{Project: p.Project, Filter: &filter})
		for {
			s, err := pages.Next()
			if errors.Is(err, iterator.Done) {
				return out, nil
			}
			if err != nil {
				return nil, err
			}
			if tag, ours := tagOf(owner, s.GetLabels()); ours && s.GetStatus() != computepb.Snapshot_DELETING.String() {
				out = append(out, described(tag, s))
			}
		}
	})
}

// Delete returns when the name is free again.
func (p *Provider) Delete(ctx context.Context, s snapshot.Snapshot) error {
	do := action{"delete snapshot", s.Name, "compute.snapshots.delete"}
	op, err := call(ctx, p.api, do, func(ctx context.Context) (operation, error) {
		return p.api.snapshots.Delete(ctx, &computepb.DeleteSnapshotRequest{Project: p.Project, Snapshot: s.Name})
	})
	if err == nil {
		err = p.api.wait(ctx, do, op, p.Timeout, p.Pause, func() (bool, error) { return op.Done(), nil })
	}
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}
