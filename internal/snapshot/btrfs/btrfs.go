// Package btrfs makes read-only snapshots of btrfs subvolumes with btrfs(8).
//
// A snapshot lies beside its subvolume, in a directory whose name tells whose it
// is, of which backup and of which attempt; so it has its tag from the moment
// that it exists. It is a directory with the files as they were, which can be
// read, and cloned file by file. It makes no subvolume and mounts nothing.
package btrfs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// Provider is the btrfs of a host.
type Provider struct {
	Tools snapshot.Tools
	Names []string // of the subvolumes, as the configuration has them
	// Keep is the directory of the snapshots, relative to the subvolume; or an
	// absolute one on the same file system.
	Keep string
}

// root is the directory of the snapshots of a disk.
func (p *Provider) root(disk string) string {
	if filepath.IsAbs(p.Keep) {
		return p.Keep
	}
	return filepath.Join(disk, p.Keep)
}

// firstInode is that of the root of every subvolume.
const firstInode = "256"

// Disks makes sure that each name is a subvolume, and that snapshots of it can be kept.
func (p *Provider) Disks(ctx context.Context) ([]snapshot.Disk, error) {
	var out []snapshot.Disk
	for _, name := range p.Names {
		d, err := p.disk(ctx, name)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

func (p *Provider) disk(ctx context.Context, name string) (snapshot.Disk, error) {
	said, err := p.Tools.Script(ctx, "look at disk", name, "realpath -e -z -- "+snapshot.Words(name)+"; stat -f -c %T -- "+snapshot.Words(name)+"; stat -L -c %i -- "+snapshot.Words(name))
	var exit *command.ExitError
	if errors.As(err, &exit) && strings.Contains(exit.Stderr, "No such file or directory") {
		return snapshot.Disk{}, fault.New(fault.NotFound, "look at disk", name, "there is no such directory").WithHint("let snapshot_disks list the directories of subvolumes")
	}
	if err != nil {
		return snapshot.Disk{}, err
	}
	path, rest, _ := strings.Cut(said, "\x00")
	if kind := strings.Fields(rest); !slices.Equal(kind, []string{"btrfs", firstInode}) {
		return snapshot.Disk{}, fault.New(fault.Refused, "look at disk", name, "it is not the root of a btrfs subvolume").
			WithHint("list the directory of the subvolume that has the cluster (btrfs subvolume show), or make one and move the cluster into it")
	}
	m, err := snapshot.MountOf(ctx, p.Tools.Host, path)
	if err != nil {
		return snapshot.Disk{}, err
	}
	return snapshot.Disk{Name: name, Path: path, Mount: m.Target, Options: m.Options}, p.canKeep(ctx, name, path, m)
}

// canKeep finds out whether the directory of the snapshots can be used, or made. A
// subvolume that is mounted by itself has its parent directory elsewhere.
func (p *Provider) canKeep(ctx context.Context, name, path string, m snapshot.Mount) error {
	root := p.root(path)
	there, err := p.Tools.Script(ctx, "keep snapshots in", root, "d="+snapshot.Words(root)+`; while [ ! -e "$d" ]; do d=$(dirname -- "$d"); done
[ -d "$d" ] && [ -w "$d" ] || { echo "$d: Permission denied" >&2; exit 1; }; printf %s "$d"`)
	if err != nil {
		return fault.New(fault.Permission, "keep snapshots in", root, "%w", err).
			WithHint("make the directory, of the user that makes the snapshots, with mode 0700; or name another one on the file system of disk %s with holdfast_snapshot_directory", name)
	}
	at, err := snapshot.MountOf(ctx, p.Tools.Host, there)
	if err != nil {
		return err
	}
	if device(at.Source) != device(m.Source) {
		return fault.New(fault.Refused, "keep snapshots in", root, "it is on %s, disk %s is on %s", at.Source, name, m.Source).
			WithHint("set holdfast_snapshot_directory to a directory on the file system of the disk: .holdfast-snapshots is one inside the subvolume")
	}
	return nil
}

// device is what findmnt's source has before the subvolume.
func device(source string) string {
	source, _, _ = strings.Cut(source, "[")
	return source
}

// Create makes the snapshot of a subvolume. It returns when the file system has
// committed it (btrfs-subvolume(8): a snapshot is made within one transaction). Who
// runs btrfs as somebody else may not remove the WAL from it.
func (p *Provider) Create(ctx context.Context, tag snapshot.Tag, d snapshot.Disk) (snapshot.Snapshot, error) {
	dir := filepath.Join(p.root(d.Path), tag.Owner, tag.String())
	s := made(tag, dir, snapshot.NameOf(d.Name, tag.ID))
	script := "d=" + snapshot.Words(dir) + " s=" + snapshot.Words(s.Path) + "; mkdir -p -- \"$d\"\n"
	if d.WAL == "" || len(p.Tools.Prefix) > 0 {
		script += `[ -e "$s" ] || ` + p.Tools.Command("btrfs", "-q", "subvolume", "snapshot", "-r", d.Path) + ` "$s"`
	} else {
		script += `[ -e "$s" ] || ` + p.Tools.Command("btrfs", "-q", "subvolume", "snapshot", d.Path) + ` "$s"
if [ "$(btrfs property get -t subvol "$s" ro)" = ro=false ]; then
  find "$s"/` + snapshot.Words(d.WAL) + ` -mindepth 1 -delete
  btrfs property set -t subvol "$s" ro true
fi`
	}
	_, err := p.Tools.Script(ctx, "make a snapshot of", d.Name, script)
	return s, err
}

func made(tag snapshot.Tag, dir, name string) snapshot.Snapshot {
	path := filepath.Join(dir, name)
	return snapshot.Snapshot{Tag: tag, Name: name, ID: path, Path: path, Phase: snapshot.Completed}
}

// List looks into the directories of the snapshots. One that can be written to was not
// finished, or is on its way to be deleted.
func (p *Provider) List(ctx context.Context, owner string) ([]snapshot.Snapshot, error) {
	var out []snapshot.Snapshot
	seen := map[string]bool{}
	for _, name := range p.Names {
		said, err := p.Tools.Script(ctx, "list snapshots of", name, "d="+snapshot.Words(name)+"; k="+snapshot.Words(p.Keep)+"; o="+snapshot.Words(owner)+`
case $k in /*) r=$k ;; *) [ -d "$d" ] || exit 0; r=$(realpath -e -- "$d"); r=$(realpath -m -- "$r/$k") ;; esac
printf '%s\0' "$r"
if [ -d "$r/$o" ]; then cd -- "$r/$o"; find . -mindepth 2 -maxdepth 2 -type d -inum `+firstInode+` -exec sh -ec 'for s; do printf "%s\0%s\0" "$s" "$(btrfs property get -t subvol "$s" ro)"; done' sh {} +; fi`)
		if err != nil {
			return nil, err
		}
		words := strings.Split(strings.TrimSuffix(said, "\x00"), "\x00")
		if seen[words[0]] {
			continue // several disks share it
		}
		seen[words[0]] = true
		for i := 1; i+1 < len(words); i += 2 {
			dir, name := filepath.Split(words[i])
			tag, err := snapshot.ParseTag(owner, filepath.Clean(dir))
			if err != nil {
				continue
			}
			s := made(tag, filepath.Join(words[0], owner, dir), name)
			if words[i+1] != "ro=true" {
				s.Phase, s.Why = snapshot.Failed, "it can be written to"
			}
			out = append(out, s)
		}
	}
	return out, nil
}

// Delete deletes the subvolume, and its directory when that is the last one there.
// Who may not delete subvolumes may delete those that can be written to, where the
// file system is mounted with user_subvol_rm_allowed.
func (p *Provider) Delete(ctx context.Context, s snapshot.Snapshot) error {
	if !filepath.IsAbs(s.ID) || filepath.Base(s.ID) != s.Name {
		return fault.New(fault.Refused, "delete snapshot", s.ID, "it is not the path of a snapshot named %s", s.Name).
			WithHint("it was not made with these settings: look at it, and delete it by hand if it is nothing")
	}
	_, err := p.Tools.Script(ctx, "delete snapshot", s.ID, "s="+snapshot.Words(s.ID)+`; if [ -e "$s" ]; then
`+p.Tools.Command("btrfs", "-q", "subvolume", "delete")+` "$s" || {
`+fmt.Sprintf(`%s "$s" ro false; %s "$s"; }`, p.Tools.Command("btrfs", "property", "set", "-t", "subvol"), p.Tools.Command("btrfs", "-q", "subvolume", "delete"))+`
fi; d=$(dirname -- "$s"); rmdir -- "$d" 2>/dev/null || :`)
	return err
}
