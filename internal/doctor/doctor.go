// Package doctor finds what killed processes have left of a server's backups,
// and proves of each leftover that nobody owns it, before it may be removed.
//
// What cannot be proven, because the engine or PostgreSQL does not answer or
// another host may know better, is reported with that doubt and never touched.
// Each removal proves its case anew. It is not the maintenance, which does the
// same for what it can prove by itself, nor a check of the backups.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/exclusive"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/keeper"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

// Server is the PostgreSQL server whose sessions are examined.
type Server interface {
	// Clients lists the sessions under any of the names.
	Clients(ctx context.Context, applications []string) ([]postgres.Client, error)
	// Address is where the server sees this host; "" when that proves nothing.
	Address(ctx context.Context) (string, error)
	// Terminate ends a session, and no other that has got its PID since.
	Terminate(ctx context.Context, c postgres.Client) error
	exclusive.Server
}

// Host is the host of the cluster, when files are copied from another one.
type Host interface {
	// Strays counts the programs of copies there, by the copies' working directories.
	Strays(ctx context.Context) (map[string]int, error)
	// End ends those of one copy.
	End(ctx context.Context, workDir string) error
}

// Doctor examines one server.
type Doctor struct {
	Catalog      *catalog.Catalog
	Archive      *walarchive.Archive
	StateDir     string
	CleanLocks   bool               // lock files that nobody needs are leftovers
	Applications []string           // names of the sessions that backups open
	Server       Server             // nil when sessions cannot be examined
	Host         Host               // nil when there is none, or it cannot be reached
	Snapshots    snapshot.Provider  // nil when there is none, or it cannot be reached
	Owner        string             // of snapshots, see snapshot.OwnerOf
	Stores       map[string]Uploads // by URL; those that cannot be reached are left out
	// Running tells whether the workflow run of an owner still runs.
	Running func(keeper.Owner) (bool, error)
	// FinishDeletions finishes interrupted deletions, unless somebody deletes.
	FinishDeletions func(context.Context) error
}

// Kind says what a leftover is.
type Kind string

// The kinds.
const (
	Process   Kind = "process"
	Session   Kind = "session"
	Mode      Kind = "backup mode"
	Record    Kind = "session record"
	Lock      Kind = "lock file"
	Directory Kind = "directory"
	Temporary Kind = "temporary file"
	Deletion  Kind = "deletion"
	Abandoned Kind = "abandoned backup"
	Snapshot  Kind = "snapshot"
	Upload    Kind = "unfinished upload"
)

// Finding is a leftover, or what may be one.
type Finding struct {
	Kind    Kind
	Subject string
	Proof   string // why nobody owns it; "" when there is a doubt
	Doubt   string // why it is left alone
	Way     string // how to remove it, when that is not our business

	remove func(context.Context) error
}

// Removable reports whether Remove may be called.
func (f Finding) Removable() bool { return f.remove != nil }

// Remove proves the case anew and removes the leftover.
func (f Finding) Remove(ctx context.Context) error { return f.remove(ctx) }

// quiet is how long nobody may have written a temporary file.
const quiet = time.Hour

// Examine looks for everything that may be left. It changes nothing. What
// cannot be examined keeps nothing else from being; the error tells of it.
func (d *Doctor) Examine(ctx context.Context, now time.Time) ([]Finding, error) {
	all, err := d.Catalog.All()
	if err != nil {
		return nil, err
	}
	c := &chart{Doctor: d, now: now, backups: map[backup.ID]*backupinfo.Info{}}
	for _, b := range all {
		c.backups[b.ID] = b
	}
	var errs []error
	for _, look := range []func(context.Context) error{c.processes, c.farProcesses, c.sessions, c.mode, c.records, c.deletions, c.directories, c.snapshots, c.uploads, c.temporary, c.locks, c.abandoned} {
		errs = append(errs, look(ctx))
	}
	return c.findings, errors.Join(errs...)
}

// chart is one examination.
type chart struct {
	*Doctor
	now      time.Time
	backups  map[backup.ID]*backupinfo.Info
	findings []Finding
}

func (c *chart) found(kind Kind, subject string, v verdict, remove func(context.Context) error) {
	switch {
	case v.owned:
	case v.doubt != "":
		c.findings = append(c.findings, Finding{Kind: kind, Subject: subject, Doubt: v.doubt})
	default:
		c.findings = append(c.findings, Finding{Kind: kind, Subject: subject, Proof: v.proof, remove: remove})
	}
}

// verdict says whether something has an owner.
type verdict struct {
	owned bool
	proof string // that it has none
	doubt string // why that is not known
}

// stillRuns judges by the workflow run that something was made for.
func (d *Doctor) stillRuns(o keeper.Owner) verdict {
	switch running, err := d.Running(o); {
	case err != nil:
		return verdict{doubt: "whether workflow " + o.WorkflowID + " still runs is not known: " + err.Error()}
	case running:
		return verdict{owned: true}
	}
	return verdict{proof: fmt.Sprintf("run %s of workflow %s has ended", o.RunID, o.WorkflowID)}
}

// writer judges whether somebody may still write the files of a backup.
func (d *Doctor) writer(id backup.ID) (verdict, error) {
	info, err := d.Catalog.Get(id)
	switch {
	case fault.Is(err, fault.NotFound):
		return verdict{proof: fmt.Sprintf("there is no backup %s", id)}, nil
	case err != nil:
		return verdict{}, err
	case info.Status != backup.Empty && info.Status != backup.Started:
		return verdict{proof: fmt.Sprintf("backup %s is %s: nothing writes its files any more", id, info.Status)}, nil
	}
	extra, err := d.Catalog.Extra(id)
	if err != nil {
		return verdict{}, err
	}
	if extra.RunID == "" {
		return verdict{doubt: fmt.Sprintf("who makes backup %s is not recorded", id)}, nil
	}
	v := d.stillRuns(keeper.Owner{WorkflowID: extra.WorkflowID, RunID: extra.RunID})
	if v.proof == "" {
		return v, nil
	}
	// An engine that was asked in error knows nothing of any run.
	by, err := d.backupLock()
	if by != "" {
		v = verdict{doubt: fmt.Sprintf("%s, but somebody has the server's backup lock: %s", v.proof, by)}
	}
	return v, err
}

// changed is what a removal says whose case no longer holds.
func changed(what, why string) error {
	return fault.New(fault.Refused, "remove", what, "meanwhile %s", why).WithHint("look again: holdfast doctor")
}
