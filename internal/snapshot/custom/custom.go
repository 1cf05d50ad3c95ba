// Package custom makes snapshots with commands of the user.
//
// Each command gets what it needs in its environment and answers in JSON; see
// docs/snapshot.md, which has an example that works. It knows nothing of how the
// commands do it.
package custom

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// Provider is a set of commands, which sh runs on the host of the disks.
type Provider struct {
	Tools                         snapshot.Tools
	Names                         []string // directories
	CreateCmd, ListCmd, DeleteCmd string
}

// answer is one snapshot as a command describes it.
type answer struct {
	ID       string         `json:"id"`
	Name     string         `json:"name"`
	BackupID string         `json:"backup_id"`
	Attempt  int            `json:"attempt"`
	Status   snapshot.Phase `json:"status"`
	Path     string         `json:"path"`
	Message  string         `json:"message"`
}

// snapshot is an answer of which nothing is missing.
func (a answer) snapshot(owner string) (snapshot.Snapshot, error) {
	id, err := backup.ParseID(a.BackupID)
	switch {
	case err != nil:
		return snapshot.Snapshot{}, errors.New(`"backup_id" is no ID of a backup`)
	case a.ID == "" || a.Name == "" || a.Attempt < 1:
		return snapshot.Snapshot{}, errors.New(`"id", "name" or "attempt" is missing`)
	}
	switch a.Status {
	case snapshot.Pending, snapshot.Cut, snapshot.Completed, snapshot.Failed:
	default:
		return snapshot.Snapshot{}, errors.New(`"status" is not pending, cut, completed or failed`)
	}
	return snapshot.Snapshot{Tag: snapshot.Tag{Owner: owner, ID: id, Attempt: a.Attempt}, Name: a.Name, ID: a.ID, Path: a.Path, Phase: a.Status, Why: a.Message}, nil
}

// Disks makes sure that each name is a directory.
func (p *Provider) Disks(ctx context.Context) ([]snapshot.Disk, error) {
	var out []snapshot.Disk
	for _, name := range p.Names {
		said, err := p.Tools.Script(ctx, "look at disk", name, "cd -- "+snapshot.Words(name)+"; pwd -P")
		var exit *command.ExitError
		if errors.As(err, &exit) && !fault.Is(err, fault.Permission) {
			return nil, fault.New(fault.NotFound, "look at disk", name, "there is no such directory").WithHint("let snapshot_disks list the directories that your commands make snapshots of")
		}
		if err != nil {
			return nil, err
		}
		path := strings.TrimSuffix(said, "\n")
		m, err := snapshot.MountOf(ctx, p.Tools.Host, path)
		if err != nil {
			return nil, err
		}
		out = append(out, snapshot.Disk{Name: name, Path: path, Mount: m.Target, Options: m.Options})
	}
	return out, nil
}

// Create runs the command that makes a snapshot.
func (p *Provider) Create(ctx context.Context, tag snapshot.Tag, d snapshot.Disk) (snapshot.Snapshot, error) {
	name := snapshot.NameOf(d.Name, tag.ID)
	var a answer
	err := p.ask(ctx, "make a snapshot of", d.Name, "holdfast_snapshot_create_command", p.CreateCmd, &a,
		"SERVER="+tag.Owner, "BACKUP_ID="+string(tag.ID), "ATTEMPT="+strconv.Itoa(tag.Attempt), "DISK="+d.Path, "WAL="+d.WAL, "NAME="+name)
	if err != nil {
		return snapshot.Snapshot{}, err
	}
	s, err := a.snapshot(tag.Owner)
	if err == nil && (s.Tag != tag || s.Name != name) {
		err = errors.New("it describes another snapshot than the one that was to be made")
	}
	return s, misunderstood("holdfast_snapshot_create_command", err)
}

// List runs the command that lists snapshots.
func (p *Provider) List(ctx context.Context, owner string) ([]snapshot.Snapshot, error) {
	var all []answer
	if err := p.ask(ctx, "list snapshots of", owner, "holdfast_snapshot_list_command", p.ListCmd, &all, "SERVER="+owner); err != nil {
		return nil, err
	}
	var out []snapshot.Snapshot
	for _, a := range all {
		s, err := a.snapshot(owner)
		if err != nil {
			return nil, misunderstood("holdfast_snapshot_list_command", err)
		}
		out = append(out, s)
	}
	return out, nil
}

// Delete runs the command that deletes a snapshot.
func (p *Provider) Delete(ctx context.Context, s snapshot.Snapshot) error {
	_, err := p.run(ctx, "delete snapshot", s.ID, p.DeleteCmd, "ID="+s.ID, "NAME="+s.Name)
	return err
}

func (p *Provider) run(ctx context.Context, op, subject, text string, env ...string) (string, error) {
	var words []string
	for _, kv := range env {
		key, value, _ := strings.Cut(kv, "=")
		words = append(words, "export HOLDFAST_"+key+"="+snapshot.Words(value))
	}
	return p.Tools.Script(ctx, op, subject, strings.Join(words, "\n")+"\n"+text+"\n")
}

func (p *Provider) ask(ctx context.Context, op, subject, option, text string, into any, env ...string) error {
	said, err := p.run(ctx, op, subject, text, env...)
	if err != nil {
		return err
	}
	return misunderstood(option, json.Unmarshal([]byte(said), into))
}

func misunderstood(option string, err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Tool, "read what is printed by", option, "%w", err).WithHint("docs/snapshot.md says what the command has to print")
}
