// Package lvm makes thin snapshots of thin logical volumes with lvm(8).
//
// LVM's tags carry ours. A snapshot is a block device, which nobody mounts for us:
// its files are not read, and a restore needs a DBA. It has never met a real device
// mapper here: its tests compare commands and read what lvm(8) prints.
package lvm

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// Provider is the LVM of a host.
type Provider struct {
	Tools snapshot.Tools
	Names []string // VG/LV
}

// Tags begin like this.
const (
	ownerTag = "holdfast.server="
	idTag    = "holdfast.backup="
)

// volume is one as lvs reports it.
type volume struct {
	Group string `json:"vg_name"`
	Name  string `json:"lv_name"`
	Path  string `json:"lv_path"`
	Pool  string `json:"pool_lv"`
	Tags  string `json:"lv_tags"`
}

func (p *Provider) volumes(ctx context.Context, subject string, selection ...string) ([]volume, error) {
	said, err := p.Tools.Script(ctx, "list volumes of", subject, p.Tools.Command(append([]string{"lvs", "--reportformat", "json", "-o", "vg_name,lv_name,lv_path,pool_lv,lv_tags"}, selection...)...))
	if err != nil {
		return nil, err
	}
	var out struct {
		Report []struct {
			LV []volume `json:"lv"`
		} `json:"report"`
	}
	if err := json.Unmarshal([]byte(said), &out); err != nil || len(out.Report) != 1 {
		return nil, fault.New(fault.Tool, "list volumes of", subject, "lvs says %q", said)
	}
	return out.Report[0].LV, nil
}

func absent(err error) bool {
	var exit *command.ExitError
	return errors.As(err, &exit) && strings.Contains(exit.Stderr, "Failed to find logical volume")
}

// Disks makes sure that each volume is there, thin and mounted.
func (p *Provider) Disks(ctx context.Context) ([]snapshot.Disk, error) {
	var out []snapshot.Disk
	for _, name := range p.Names {
		found, err := p.volumes(ctx, name, name)
		if absent(err) || err == nil && len(found) == 0 {
			return nil, fault.New(fault.NotFound, "look at disk", name, "there is no such volume").WithHint("let snapshot_disks list volumes as VG/LV")
		}
		if err != nil {
			return nil, err
		}
		if found[0].Pool == "" {
			return nil, fault.New(fault.Refused, "look at disk", name, "it is no thin volume").
				WithHint("only snapshots of thin volumes need no space of a fixed size; use another backup_method")
		}
		m, err := snapshot.MountOfDevice(ctx, p.Tools.Host, found[0].Path)
		if err != nil {
			return nil, err
		}
		out = append(out, snapshot.Disk{Name: name, Path: m.Target, Mount: m.Target, Options: m.Options})
	}
	return out, nil
}

// Create makes a thin snapshot. The kernel freezes the file system for it.
func (p *Provider) Create(ctx context.Context, tag snapshot.Tag, d snapshot.Disk) (snapshot.Snapshot, error) {
	group, _, _ := strings.Cut(d.Name, "/")
	name := snapshot.NameOf(d.Name, tag.ID)
	_, err := p.Tools.Script(ctx, "make a snapshot of", d.Name, p.Tools.Command("lvcreate", "-q", "-s", "-n", name, "--addtag", ownerTag+tag.Owner, "--addtag", idTag+tag.String(), d.Name))
	return snapshot.Snapshot{Tag: tag, Name: name, ID: group + "/" + name, Phase: snapshot.Completed}, err
}

// List asks for the volumes with our tags.
func (p *Provider) List(ctx context.Context, owner string) ([]snapshot.Snapshot, error) {
	found, err := p.volumes(ctx, owner, "-S", "tags="+ownerTag+owner)
	if err != nil {
		return nil, err
	}
	var out []snapshot.Snapshot
	for _, v := range found {
		for _, text := range strings.Split(v.Tags, ",") {
			text, ours := strings.CutPrefix(text, idTag)
			if !ours {
				continue
			}
			if tag, err := snapshot.ParseTag(owner, text); err == nil {
				out = append(out, snapshot.Snapshot{Tag: tag, Name: v.Name, ID: v.Group + "/" + v.Name, Phase: snapshot.Completed})
			}
		}
	}
	return out, nil
}

// Delete removes a snapshot that is not in use.
func (p *Provider) Delete(ctx context.Context, s snapshot.Snapshot) error {
	if group, name, is := strings.Cut(s.ID, "/"); !is || group == "" || name != s.Name {
		return fault.New(fault.Refused, "delete snapshot", s.ID, "it is not a volume named %s", s.Name).
			WithHint("it was not made with these settings: look at it, and delete it by hand if it is nothing")
	}
	_, err := p.Tools.Script(ctx, "delete snapshot", s.ID, p.Tools.Command("lvremove", "-q", "-y", s.ID))
	if absent(err) {
		return nil
	}
	return err
}
