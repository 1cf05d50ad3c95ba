// Package zfs makes snapshots of ZFS datasets with zfs(8).
//
// User properties carry the tag. Datasets of one pool are cut at the same moment.
// A snapshot's files are read below .zfs/snapshot of its dataset. It has never
// met a real ZFS here: its tests compare commands and read what zfs(8) prints.
package zfs

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// Provider is the ZFS of a host.
type Provider struct {
	Tools snapshot.Tools
	Names []string // of datasets
}

const (
	ownerProperty = "holdfast:server"
	tagProperty   = "holdfast:backup"
)

// Disks makes sure that each dataset is there and mounted.
func (p *Provider) Disks(ctx context.Context) ([]snapshot.Disk, error) {
	var out []snapshot.Disk
	for _, name := range p.Names {
		said, err := p.Tools.Script(ctx, "look at disk", name, p.Tools.Command("zfs", "list", "-H", "-p", "-t", "filesystem", "-o", "mounted,mountpoint", name))
		if absent(err) {
			return nil, fault.New(fault.NotFound, "look at disk", name, "there is no such dataset").WithHint("let snapshot_disks list names as zfs list shows them")
		}
		if err != nil {
			return nil, err
		}
		mounted, path, _ := strings.Cut(strings.TrimSuffix(said, "\n"), "\t")
		if mounted != "yes" {
			return nil, fault.New(fault.Refused, "look at disk", name, "the dataset is not mounted").WithHint("mount it: zfs mount %s", name)
		}
		m, err := snapshot.MountOf(ctx, p.Tools.Host, path)
		if err != nil {
			return nil, err
		}
		out = append(out, snapshot.Disk{Name: name, Path: path, Mount: m.Target, Options: m.Options})
	}
	return out, nil
}

func absent(err error) bool {
	var exit *command.ExitError
	return errors.As(err, &exit) && (strings.Contains(exit.Stderr, "does not exist") || strings.Contains(exit.Stderr, "could not find any snapshots to destroy"))
}

func made(tag snapshot.Tag, d snapshot.Disk) snapshot.Snapshot {
	name := snapshot.NameOf(d.Name, tag.ID)
	return snapshot.Snapshot{Tag: tag, Name: name, ID: d.Name + "@" + name, Path: filepath.Join(d.Path, ".zfs/snapshot", name), Phase: snapshot.Completed}
}

// Create makes one snapshot.
func (p *Provider) Create(ctx context.Context, tag snapshot.Tag, d snapshot.Disk) (snapshot.Snapshot, error) {
	all, err := p.create(ctx, tag, []snapshot.Disk{d}, d.Name)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	return all[0], nil
}

// CreateSet makes snapshots of datasets of one pool, at the same moment.
func (p *Provider) CreateSet(ctx context.Context, tag snapshot.Tag, disks []snapshot.Disk) ([]snapshot.Snapshot, error) {
	pool, _, _ := strings.Cut(disks[0].Name, "/")
	for _, d := range disks[1:] {
		if d.Name != pool && !strings.HasPrefix(d.Name, pool+"/") {
			return nil, nil
		}
	}
	return p.create(ctx, tag, disks, "pool "+pool)
}

func (p *Provider) create(ctx context.Context, tag snapshot.Tag, disks []snapshot.Disk, subject string) ([]snapshot.Snapshot, error) {
	words := []string{"zfs", "snapshot", "-o", ownerProperty + "=" + tag.Owner, "-o", tagProperty + "=" + tag.String()}
	var out []snapshot.Snapshot
	for _, d := range disks {
		s := made(tag, d)
		words, out = append(words, s.ID), append(out, s)
	}
	_, err := p.Tools.Script(ctx, "make a snapshot of", subject, p.Tools.Command(words...))
	return out, err
}

// List asks for the snapshots of the datasets.
func (p *Provider) List(ctx context.Context, owner string) ([]snapshot.Snapshot, error) {
	var out []snapshot.Snapshot
	for _, dataset := range p.Names {
		said, err := p.Tools.Script(ctx, "list snapshots of", dataset,
			p.Tools.Command("zfs", "list", "-H", "-p", "-d", "1", "-t", "snapshot", "-o", "name,"+ownerProperty+","+tagProperty, dataset)+"\n"+
				p.Tools.Command("zfs", "get", "-H", "-p", "-o", "value", "mountpoint", dataset))
		if absent(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
		d := snapshot.Disk{Path: lines[len(lines)-1]}
		for _, line := range lines[:len(lines)-1] {
			f := strings.Split(line, "\t")
			if len(f) != 3 || f[1] != owner {
				continue
			}
			tag, err := snapshot.ParseTag(owner, f[2])
			if err != nil {
				continue
			}
			_, name, _ := strings.Cut(f[0], "@")
			out = append(out, snapshot.Snapshot{Tag: tag, Name: name, ID: f[0], Path: filepath.Join(d.Path, ".zfs/snapshot", name), Phase: snapshot.Completed})
		}
	}
	return out, nil
}

// Delete destroys a snapshot. Clones of it keep ZFS from doing so.
func (p *Provider) Delete(ctx context.Context, s snapshot.Snapshot) error {
	if dataset, name, is := strings.Cut(s.ID, "@"); !is || dataset == "" || name != s.Name {
		return fault.New(fault.Refused, "delete snapshot", strconv.Quote(s.ID), "it is not a snapshot named %s", s.Name).
			WithHint("it was not made with these settings: look at it, and delete it by hand if it is nothing")
	}
	_, err := p.Tools.Script(ctx, "delete snapshot", s.ID, p.Tools.Command("zfs", "destroy", s.ID))
	if absent(err) {
		return nil
	}
	return err
}
