package main

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/disposal"
	"github.com/holdfast-pg/holdfast/internal/doctor"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/keeper"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/report"
	"github.com/holdfast-pg/holdfast/internal/rsync"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/snapshot/providers"
	"github.com/holdfast-pg/holdfast/internal/ssh"
)

func (a *app) cmdDoctor() *cobra.Command {
	var fix bool
	cmd := &cobra.Command{
		Use: "doctor [SERVER...]", Short: "Find and remove what killed processes have left",
		Long: `Lists what processes that were killed have left: programs that go on writing, here or on the host of the cluster, sessions
in PostgreSQL, a server in exclusive backup mode, records of sessions, interrupted deletions, directories and snapshots of no
backup, unfinished uploads in object stores, unfinished files and lock files; each with the proof that nobody owns it. --fix removes
what is proven; nothing of a backup that runs is touched. What cannot be proven, because
the engine or PostgreSQL does not answer or the owner would be on another host, is listed
with the reason and left alone. Most of it is found by the maintenance, too; abandoned
backups are ended by "holdfast cron" alone.`,
		Example:     "  holdfast doctor\n  holdfast doctor main --fix",
		Annotations: exitCodes("0 nothing is left, or all of it was removed", "1 something is left"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{allServers}
			}
			return a.doctor(cmd.Context(), args, fix)
		},
	}
	cmd.Flags().BoolVar(&fix, "fix", false, "remove what nobody owns")
	return cmd
}

func (a *app) doctor(ctx context.Context, names []string, fix bool) error {
	servers, err := a.usable(names)
	if err != nil {
		return err
	}
	running, done := a.owners(ctx)
	defer done()
	left := false
	told := map[string]bool{} // servers share a state directory
	for _, s := range servers {
		d, end, err := a.examination(ctx, s, running)
		if err != nil {
			return err
		}
		findings, err := d.Examine(ctx, time.Now())
		if err != nil {
			a.warnOf(err)
			left = true
		}
		a.print("Server %s:", s.Name)
		objects := []report.Object{}
		for _, f := range findings {
			if f.Kind == doctor.Temporary && told[f.Subject] {
				continue
			}
			told[f.Subject] = true
			o, still := a.treat(ctx, f, fix)
			left = left || still
			objects = append(objects, o)
		}
		if len(objects) == 0 {
			a.print("\tnothing is left over")
		}
		a.json[s.Name] = report.Object{"findings": objects}
		end()
	}
	if left {
		return exitError(1)
	}
	return nil
}

// treat tells of a leftover and removes it if that was asked for.
func (a *app) treat(ctx context.Context, f doctor.Finding, fix bool) (o report.Object, left bool) {
	o = report.Object{"kind": f.Kind, "subject": f.Subject, "proof": f.Proof, "doubt": f.Doubt, "removable": f.Removable(), "removed": false, "error": "", "way": f.Way}
	subject := string(f.Kind) + " " + f.Subject
	switch {
	case f.Doubt != "":
		a.print("\tleft alone: %s: %s", subject, f.Doubt)
		return o, true
	case f.Way != "":
		a.print("\tleft over: %s: %s; %s", subject, f.Proof, f.Way)
		return o, true
	case !fix:
		a.print("\tleft over: %s: %s", subject, f.Proof)
		return o, true
	}
	if err := f.Remove(ctx); err != nil {
		o["error"] = err.Error()
		a.warnOf(err)
		a.print("\tleft over: %s: %s", subject, f.Proof)
		return o, true
	}
	o["removed"] = true
	a.print("\tremoved: %s: %s", subject, f.Proof)
	return o, false
}

// examination is the doctor of a server, and its connection's end.
func (a *app) examination(ctx context.Context, s *config.Server, running func(keeper.Owner) (bool, error)) (*doctor.Doctor, func(), error) {
	archive, err := archiveOf(s)
	if err != nil {
		return nil, nil, err
	}
	cat := catalog.Open(catalog.LayoutOf(s))
	d := &doctor.Doctor{Catalog: cat, Archive: archive, StateDir: a.cfg.Global.HoldfastStateDirectory, CleanLocks: a.cfg.Global.LockDirectoryCleanup,
		Applications: []string{pg.BackupApplication, s.StreamingBackupName}, Running: running,
		FinishDeletions: func(ctx context.Context) error {
			bin, err := disposal.Of(ctx, s, drivers.Open, providers.Open)
			if err != nil {
				return err
			}
			_, err = bin.FinishDeletions(ctx, time.Now())
			return err
		}}
	d.Stores = a.storesOf(ctx, s)
	if !s.Active || s.Passive {
		return d, func() {}, nil
	}
	leave, err := a.reach(ctx, s, d)
	if err != nil {
		return nil, nil, err
	}
	connecting, cancel := context.WithTimeout(ctx, max(s.CheckTimeout, 5*time.Second))
	defer cancel()
	c, err := pg.Connect(connecting, s.Conninfo.Reveal())
	if err != nil {
		a.warn("sessions in PostgreSQL were not looked for: %v", err)
		return d, leave, nil
	}
	d.Server = c
	return d, func() { c.Close(); leave() }, nil
}

// storesOf are the object stores that a server's backups and WAL go to, of those that know uploads.
func (a *app) storesOf(ctx context.Context, s *config.Server) map[string]doctor.Uploads {
	out := map[string]doctor.Uploads{}
	urls := slices.Clone(s.HoldfastReplicas)
	for _, cloud := range []*config.CloudURL{s.BasebackupsCloud, s.WALsCloud} {
		if cloud != nil {
			urls = append(urls, cloud.URL)
		}
	}
	for _, url := range urls {
		at, err := objstore.ParseURL(url)
		var store objstore.Store
		if err == nil {
			store, err = drivers.Open(ctx, at, s.StoreOptions(url), &objstore.Policy{Patience: checkPatience})
		}
		if err != nil {
			a.warn("uploads in %s were not looked for: %v", url, err)
			continue
		}
		if many, is := store.(objstore.Multipart); is {
			out[at.String()] = many
		}
	}
	return out
}

// reach lets the doctor look on the host of the cluster, if files are copied from
// another one, or snapshots made there.
func (a *app) reach(ctx context.Context, s *config.Server, d *doctor.Doctor) (leave func(), err error) {
	if s.BackupMethod == config.MethodSnapshot {
		disks, err := providers.Open(ctx, s)
		if err != nil {
			a.warn("snapshots were not looked for: %v", err)
			return func() {}, nil
		}
		d.Snapshots, d.Owner = disks, snapshot.OwnerOf(s)
		return disks.Close, nil
	}
	if s.BackupMethod != config.MethodRsync {
		return func() {}, nil
	}
	us, err := os.Hostname()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "ask for the name of", "this host", err)
	}
	link, err := ssh.Open(ctx, s.SSHCommand)
	if err != nil {
		a.warn("programs on the host of the cluster were not looked for: %v", err)
		return func() {}, nil
	}
	d.Host = farHost{link, us, d.Catalog.BaseDir}
	return link.Close, nil
}

// farHost is the host of the cluster.
type farHost struct {
	link    *ssh.Link
	us, dir string
}

func (h farHost) Strays(ctx context.Context) (map[string]int, error) {
	return rsync.Strays(ctx, h.link, h.us, h.dir)
}

func (h farHost) End(ctx context.Context, workDir string) error {
	return rsync.EndStrays(ctx, h.link, h.us, workDir)
}

// owners answers whether workflow runs go on. An engine that does not answer
// is asked once.
func (a *app) owners(ctx context.Context) (running func(keeper.Owner) (bool, error), done func()) {
	var c client.Client
	var silent error
	running = func(o keeper.Owner) (bool, error) {
		if c == nil && silent == nil {
			var err error
			if c, err = a.engine(ctx); err != nil {
				silent = fault.New(fault.Unavailable, "ask", "the engine", "it does not answer (holdfast up starts it)")
			}
		}
		if silent != nil {
			return false, silent
		}
		return runGoesOn(ctx, c, o.WorkflowID, o.RunID)
	}
	return running, func() {
		if c != nil {
			c.Close()
		}
	}
}
