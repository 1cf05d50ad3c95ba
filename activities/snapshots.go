package activities

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pgcontrol"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

// Snapshots makes snapshots of the disks of a cluster.
type Snapshots struct {
	Servers Servers
	Open    snapshot.Open
}

// pollSnapshots is how long a look at snapshots that are not complete is apart
// from the next.
const (
	pollSnapshots = 5 * time.Second
	pollCloud     = 15 * time.Second
)

// newJob says for what snapshots are made, how long they may take, and how often they
// are looked at: a cloud bills and bounds the calls.
func newJob(s *config.Server, ref Ref, until snapshot.Phase) snapshot.Job {
	j := snapshot.Job{Tag: snapshot.Tag{Owner: snapshot.OwnerOf(s), ID: ref.ID, Attempt: ref.Attempt}, Until: until,
		Timeout: s.HoldfastSnapshotTimeout, Option: "holdfast_snapshot_timeout", Pause: pollSnapshots}
	switch s.SnapshotProvider {
	case "aws":
		j.Timeout, j.Option, j.Pause = s.AWSAwaitSnapshotsTimeout, "aws_await_snapshots_timeout", pollCloud
	case "gcp", "azure":
		j.Pause = pollCloud
	}
	return j
}

// CutSnapshots makes a snapshot of each disk while the server is in backup mode. It
// returns when the content of all is fixed, or, with holdfast_snapshot_hold =
// completed, when all are complete. Whoever comes after a crash adopts what was made
// for the same attempt.
func (a *Snapshots) CutSnapshots(ctx context.Context, ref Ref, plan Plan) (Copied, error) {
	var doing atomic.Value
	doing.Store("makes snapshots of the disks")
	beating, stop := beat(ctx, func() Progress { return Progress{What: doing.Load().(string)} })
	defer stop()
	copied, err := a.cut(beating, ref, plan, func(text string) { doing.Store(text) })
	return copied, report(beating, err)
}

func (a *Snapshots) cut(ctx context.Context, ref Ref, plan Plan, said func(string)) (Copied, error) {
	began := time.Now()
	s, err := a.Servers.Server(ref.Server)
	if err != nil {
		return Copied{}, err
	}
	s = ref.Overrides.apply(s)
	cat := catalog.Open(catalog.LayoutOf(s))
	info, err := cat.Get(ref.ID)
	if err != nil {
		return Copied{}, err
	}
	guard, err := claim(ctx, cat, ref, 0, false)
	if err != nil {
		return Copied{}, err
	}
	disks, err := a.Open(ctx, s, guard.Marker())
	if err != nil {
		return Copied{}, err
	}
	defer disks.Close()
	layout, err := lookAtDisks(ctx, disks, clusterOf(info))
	if err != nil {
		return Copied{}, err
	}
	job := newJob(s, ref, snapshot.Phase(s.HoldfastSnapshotHold))
	job.Disks, job.Said = layout.Disks, said
	if plan.Standby {
		job.Last = layout.DataDisk()
	}
	made, err := snapshot.Take(ctx, snapshot.Fenced(disks.Provider, guard.Do), job)
	if err != nil {
		return Copied{}, err
	}
	after, err := lookAtDisks(ctx, disks, clusterOf(info))
	if err == nil {
		err = layout.Same(after)
	}
	if err != nil {
		return Copied{}, err
	}
	copied := Copied{CopyTime: time.Since(began), Workers: 1, Warnings: layout.Notes}
	if outside := place(datadir.Inside).outside(info); len(outside) > 0 && !s.ExternalConfiguration {
		copied.Warnings = append(copied.Warnings, "Configuration files lie outside the data directory, and a restore does not place them: "+
			strings.Join(outside, ", ")+". "+lookAfter)
	}
	record := snapshot.NewRecord(s.SnapshotProvider, s.SnapshotInstance, layout, made)
	if err := record.Describe(ctx, disks.Provider, layout.Disks, made); err != nil {
		return Copied{}, err
	}
	return copied, guard.Do(func() error {
		extra, err := cat.Extra(ref.ID)
		if err != nil {
			return err
		}
		extra.Snapshots = record
		return cat.SaveExtra(ref.ID, extra)
	})
}

// lookAtDisks finds the disks, and what of a cluster lies on them.
func lookAtDisks(ctx context.Context, disks *snapshot.Access, c snapshot.Cluster) (*snapshot.Layout, error) {
	listed, err := disks.Disks(ctx)
	if err != nil {
		return nil, err
	}
	return locate(ctx, disks, listed, c)
}

// locate finds what of a cluster lies on disks that can be cut.
func locate(ctx context.Context, disks *snapshot.Access, listed []snapshot.Disk, c snapshot.Cluster) (*snapshot.Layout, error) {
	if err := snapshot.CheckSpans(disks.Provider, listed); err != nil {
		return nil, err
	}
	return snapshot.Locate(ctx, disks.Host, listed, c)
}

// outside are the configuration files that are not in the data directory.
func (p place) outside(info *backupinfo.Info) []string {
	out := p.includedOutside(info)
	for _, file := range []*string{info.ConfigFile, info.HBAFile, info.IdentFile} {
		if file != nil && *file != "" && !p.insideData(info, *file) {
			out = append(out, *file)
		}
	}
	return out
}

func clusterOf(info *backupinfo.Info) snapshot.Cluster {
	c := snapshot.Cluster{Data: *info.PGData, Tablespaces: map[uint32]snapshot.Tablespace{}}
	for _, t := range info.Tablespaces {
		c.Tablespaces[t.OID] = snapshot.Tablespace{Name: t.Name, Dir: locationOf(info, t)}
	}
	return c
}

// checkSnapshots makes sure that the disks are there, and hold the whole cluster.
func checkSnapshots(ctx context.Context, s *config.Server, f postgres.Facts, open snapshot.Open) error {
	disks, err := open(ctx, s)
	if err != nil {
		return err
	}
	defer disks.Close()
	listed, err := disks.Disks(ctx)
	if err != nil {
		return err
	}
	if err := CheckLayout(ctx, disks, listed, f); err != nil {
		return err
	}
	_, err = disks.List(ctx, snapshot.OwnerOf(s))
	return err
}

// CheckLayout makes sure that disks hold the whole cluster that a server has.
func CheckLayout(ctx context.Context, disks *snapshot.Access, listed []snapshot.Disk, f postgres.Facts) error {
	c := snapshot.Cluster{Data: f.DataDirectory, Tablespaces: map[uint32]snapshot.Tablespace{}}
	for _, t := range f.Tablespaces {
		dir := t.Location
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(f.DataDirectory, dir)
		}
		c.Tablespaces[t.OID] = snapshot.Tablespace{Name: t.Name, Dir: dir}
	}
	layout, err := locate(ctx, disks, listed, c)
	if err != nil {
		return err
	}
	return layout.Walk(ctx, disks.Host)
}

// isSnapshot reports whether a backup consists of snapshots.
func isSnapshot(info *backupinfo.Info) bool {
	return info.Mode != nil && strings.HasPrefix(*info.Mode, config.MethodSnapshot+"-")
}

// dropSnapshots removes what was made for a backup that has failed. While one of
// them cannot be removed, the record names them all.
func dropSnapshots(ctx context.Context, s *config.Server, cat *catalog.Catalog, id backup.ID, open snapshot.Open) error {
	info, err := cat.Get(id)
	if err != nil || !isSnapshot(info) || s.BackupMethod != config.MethodSnapshot {
		return err
	}
	extra, err := cat.Extra(id)
	if err != nil {
		return err
	}
	disks, err := open(ctx, s)
	if err != nil {
		return err
	}
	defer disks.Close()
	if err := snapshot.RemoveAll(ctx, disks, snapshot.OwnerOf(s), id, extra.Snapshots); err != nil {
		return err
	}
	extra.Snapshots = nil
	if err := cat.SaveExtra(id, extra); err != nil || info.Snapshots == nil {
		return err
	}
	info.Snapshots = nil
	return cat.Save(info)
}

// proveSnapshots waits until the snapshots of a backup are complete, removes others
// that were made for it, and reads of them what can be read: pg_control, and the
// label of an exclusive backup; and the WAL from begin to end.
func (p *Proof) proveSnapshots(ctx context.Context, s *config.Server, cat *catalog.Catalog, info *backupinfo.Info, archive *walarchive.Archive, ref Ref) (Proven, error) {
	extra, err := cat.Extra(info.ID)
	if err != nil {
		return Proven{}, err
	}
	record := extra.Snapshots
	if record == nil {
		return Proven{}, fault.New(fault.Corrupt, "check", string(info.ID), "which snapshots it consists of is not recorded").WithHint("take another backup")
	}
	disks, err := p.Snapshots(ctx, s)
	if err != nil {
		return Proven{}, err
	}
	defer disks.Close()
	made, err := reconcile(ctx, disks, snapshot.OwnerOf(s), info.ID, record)
	if err != nil {
		return Proven{}, err
	}
	if made, err = snapshot.Await(ctx, disks, newJob(s, ref, snapshot.Completed), made); err != nil {
		return Proven{}, err
	}
	label, err := os.ReadFile(filepath.Join(cat.DataDir(info.ID), "backup_label"))
	if err != nil {
		return Proven{}, fault.Wrap(fault.Corrupt, "read", "backup_label", err)
	}
	c := content{label: string(label), unread: true}
	if _, dir := record.Data(); dir != "" {
		if err := c.readSnapshot(ctx, disks.Host, dir, info); err != nil {
			return Proven{}, err
		}
	}
	proven, err := c.proven(ctx, info, string(info.ID), archive)
	if err != nil {
		return Proven{}, err
	}
	proven.Snapshots, proven.Unread = len(made), c.unread
	// What is locked cannot be taken back: the rest of the backup is good by now.
	if made, err = snapshot.LockAll(ctx, disks.Provider, made); err != nil {
		return Proven{}, err
	}
	proven.Locks = make([]*snapshot.Lock, len(made))
	for i, one := range made {
		proven.Locks[i] = one.Lock
	}
	return proven, nil
}

// reconcile returns the recorded snapshots as they are now, and removes any other
// that was made for the backup.
func reconcile(ctx context.Context, p snapshot.Provider, owner string, id backup.ID, record *snapshot.Record) ([]snapshot.Snapshot, error) {
	all, err := p.List(ctx, owner)
	if err != nil {
		return nil, err
	}
	made := make([]snapshot.Snapshot, 0, len(record.Snapshots))
	for _, r := range record.Snapshots {
		at := slices.IndexFunc(all, func(s snapshot.Snapshot) bool { return s.ID == r.Provider.ID && s.Tag.ID == id })
		if at < 0 {
			return nil, fault.New(fault.Corrupt, "check", "snapshot "+r.Provider.Name, "it is not there any more").
				WithHint("find out who deleted it, and take another backup")
		}
		made = append(made, all[at])
	}
	for _, s := range all {
		if s.Tag.ID != id || slices.ContainsFunc(made, func(m snapshot.Snapshot) bool { return m.ID == s.ID }) {
			continue
		}
		if err := snapshot.Remove(ctx, p, id, s); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// readSnapshot reads what tells that a data directory is that of the backup.
func (c *content) readSnapshot(ctx context.Context, h snapshot.Host, dir string, info *backupinfo.Info) error {
	read := func(name string) ([]byte, error) {
		path := filepath.Join(dir, name)
		var out bytes.Buffer
		err := h.Run(ctx, "cat -- "+snapshot.Words(path), &out)
		if err != nil && fault.KindOf(err) == fault.Internal {
			err = fault.New(fault.Corrupt, "read", path, "%w", err).WithHint("the user that makes the snapshots has to be able to read the data directory")
		}
		return out.Bytes(), err
	}
	data, err := read("global/pg_control")
	if err != nil {
		return err
	}
	if c.control, err = pgcontrol.Parse(data); err != nil {
		return fault.Wrap(fault.Corrupt, "read", filepath.Join(dir, "global/pg_control"), err)
	}
	c.unread = false
	if !strings.HasSuffix(*info.Mode, "-"+Exclusive) {
		return nil
	}
	label, err := read("backup_label")
	if err == nil && string(label) != c.label {
		err = fault.New(fault.Corrupt, "check", filepath.Join(dir, "backup_label"), "it is not the label that the server gave").WithHint("take another backup")
	}
	return err
}

// told is what of a snapshot backup was proven, for people.
func (p Proven) told() string {
	what := "and show the pg_control of the cluster"
	if p.Unread {
		what = "and were not opened"
	}
	return fmt.Sprintf("%d snapshots are complete %s; %d WAL segments were read back and are what was written.", p.Snapshots, what, p.Segments-p.Locked)
}
