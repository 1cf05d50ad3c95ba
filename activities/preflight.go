package activities

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/basebackup"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/gpg"
	"github.com/holdfast-pg/holdfast/internal/hook"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/pgtool"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/rsync"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/ssh"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

// Server is what a preflight and the end of a backup ask PostgreSQL.
type Server interface {
	Facts(context.Context) (postgres.Facts, error)
	MeasuredFacts(context.Context) (postgres.Facts, error)
	CheckPrivileges(context.Context) error
	CheckExclusive(context.Context) error
	Archiver(context.Context) (postgres.Archiver, error)
	// EndSegment ends a segment if the server writes to it; a standby cannot.
	EndSegment(ctx context.Context, name string) (standby bool, err error)
	SwitchWAL(ctx context.Context, force bool) (string, error)
	CreateRestorePoint(ctx context.Context, name string) error
	Close()
}

// Connect opens a connection to the server that conninfo names.
type Connect func(ctx context.Context, conninfo string) (Server, error)

// Preflight finds out, before anything is written, whether a backup can be taken.
type Preflight struct {
	Servers   Servers
	Stores    objstore.Stores
	Connect   Connect
	Snapshots snapshot.Open
	Heartbeat time.Duration
}

// PlanBackup chooses the pieces of a backup. What it refuses, no retry cures.
func (p *Preflight) PlanBackup(ctx context.Context, req Request) (Plan, error) {
	var plan Plan
	err := during(ctx, "looks whether a backup can be taken", func(ctx context.Context) (err error) {
		plan, err = p.plan(ctx, req)
		if fault.Is(err, fault.Connection) && ctx.Err() == nil {
			// Somebody waits for an answer: a server that is down is one.
			err = &fault.Error{Op: "back up", Subject: req.Server, Kind: fault.Unavailable, Err: err, Hint: fault.HintOf(err)}
		}
		return err
	})
	return plan, err
}

func (p *Preflight) plan(ctx context.Context, req Request) (Plan, error) {
	s, err := p.Servers.Server(req.Server)
	if err != nil {
		return Plan{}, err
	}
	if err := checkConfigured(s, req.Configured); err != nil {
		return Plan{}, err
	}
	s = req.Overrides.apply(s)
	if err := refuseOptions(s, s.UnsupportedForBackup()); err != nil {
		return Plan{}, err
	}
	if err := catalog.Open(catalog.LayoutOf(s)).EnsureDirs(); err != nil {
		return Plan{}, err
	}
	c, err := p.Connect(ctx, s.Conninfo.Reveal())
	if err != nil {
		return Plan{}, err
	}
	defer c.Close()
	facts := c.MeasuredFacts
	if s.BackupMethod == config.MethodLocalToCloud {
		facts = c.Facts // the copy lists the files, and tells
	}
	f, err := facts(ctx)
	if err == nil {
		err = postgres.CheckVersion(f.Version)
	}
	if err == nil {
		err = c.CheckPrivileges(ctx)
	}
	var primary *postgres.Facts
	if err == nil && f.InRecovery {
		primary, err = p.askPrimary(ctx, s, f)
	}
	if err == nil {
		err = checkArchiving(ctx, s, f, primary)
	}
	if err == nil && s.WALsCloud != nil {
		err = p.checkBucket(ctx, s)
	}
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Method: s.BackupMethod, Bracket: Concurrent, SystemID: f.SystemID, Version: f.Version, Bytes: f.ClusterSize, Deadline: s.HoldfastBackupDeadline,
		WALWait: s.HoldfastWALWait, Heartbeat: p.Heartbeat, Standby: f.InRecovery, Checkpoint: "spread",
		Hooks: hook.Of(s).Has(hook.Backup)}
	if s.ImmediateCheckpoint {
		plan.Checkpoint = "fast"
	}
	if req.BuildOn != "" {
		if plan.Parent, err = parentOf(ctx, s, p.Stores, req.BuildOn, f); err != nil {
			return Plan{}, err
		}
	}
	if s.BackupMethod == "postgres" {
		plan.Bracket, plan.Mode = Native, "postgres"
		return plan, checkBaseBackup(ctx, s, f)
	}
	if s.BackupMethod == config.MethodLocalToCloud {
		plan.Mode, plan.Replicas = "local-to-cloud-concurrent", len(s.HoldfastReplicas) > 0
		return plan, p.checkCloud(ctx, s, f)
	}
	kind := "rsync"
	if s.BackupMethod == config.MethodSnapshot {
		kind = config.MethodSnapshot
	}
	plan.Mode = kind + "-" + Concurrent
	if s.Exclusive {
		plan.Bracket, plan.Mode = Exclusive, kind+"-"+Exclusive
		if err := c.CheckExclusive(ctx); err != nil {
			return plan, err
		}
	}
	if s.BackupMethod == config.MethodSnapshot {
		if err := p.checkStores(ctx, s); err != nil {
			return plan, err
		}
		return plan, checkSnapshots(ctx, s, f, p.Snapshots)
	}
	return plan, checkRsync(ctx, s, f)
}

// checkBucket makes sure that the WAL of the backup will be found in its bucket.
func (p *Preflight) checkBucket(ctx context.Context, s *config.Server) error {
	archive, err := walarchive.ForServer(s, p.Stores)
	if err == nil {
		_, err = archive.Histories(ctx)
	}
	return err
}

func refuseOptions(s *config.Server, problems []config.Problem) error {
	if len(problems) == 0 {
		return nil
	}
	var list []string
	for _, one := range problems {
		list = append(list, one.String())
	}
	return fault.New(fault.Config, "back up", s.Name, "%s", strings.Join(list, "\n")).
		WithHint("remove or change what is named; a backup never ignores an option")
}

// checkConfigured refuses to back up elsewhere, or something else, than the configuration says that
// whoever asks has named.
func checkConfigured(s *config.Server, marks map[string]string) error {
	if marks == nil {
		return nil
	}
	var list []string
	for _, name := range s.Unlike(marks) {
		list = append(list, name+" ("+s.Origin(name).String()+")")
	}
	if list == nil {
		return nil
	}
	return fault.New(fault.Config, "back up", s.Name, "this command has read another configuration than the workers, which have other values of %s", strings.Join(list, ", ")).
		WithHint("name the workers' configuration with -c, or start them with that of this command: holdfast -c FILE up")
}

// askPrimary asks the primary of a standby, when the configuration names it. One
// that does not answer keeps no backup from being taken: it may be the reason.
func (p *Preflight) askPrimary(ctx context.Context, s *config.Server, standby postgres.Facts) (*postgres.Facts, error) {
	if s.PrimaryConninfo.IsZero() {
		return nil, nil
	}
	c, err := p.Connect(ctx, s.PrimaryConninfo.Reveal())
	if fault.Is(err, fault.Connection) && ctx.Err() == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer c.Close()
	f, err := c.Facts(ctx)
	if err == nil {
		err = postgres.CheckPrimary(f, standby)
	}
	if err == nil {
		err = c.CheckPrivileges(ctx)
	}
	return &f, err
}

// checkArchiving refuses a server whose WAL can never arrive. That of a standby
// may come from its primary.
func checkArchiving(ctx context.Context, s *config.Server, f postgres.Facts, primary *postgres.Facts) error {
	refuse := func(why, remedy string) error {
		return fault.New(fault.Refused, "back up", "PostgreSQL", "%s", why).WithHint("%s", remedy)
	}
	if f.WALLevel == "minimal" {
		return refuse("wal_level is minimal", "set wal_level = replica in postgresql.conf and restart the server")
	}
	if s.StreamingArchiver {
		return awaitReceiver(ctx, s)
	}
	switch {
	case f.ArchiveMode == "off":
		return refuse("archive_mode is off: the WAL that makes a backup consistent would never be archived",
			"set archive_mode = on and archive_command = 'holdfast wal-archive SERVER %p' in postgresql.conf, and restart the server; or set streaming_archiver = on in section ["+s.Name+"]")
	case f.ArchiveMode == "on" && f.InRecovery && (primary == nil || primary.ArchiveMode == "off"):
		return refuse("the server is a standby, which archives nothing with archive_mode = on",
			"set archive_mode = always on the standby, or let its primary archive here and name that in primary_conninfo")
	}
	return nil
}

// receiverComes is how long a receiver that was interrupted has to come back.
const receiverComes = 10 * time.Second

// awaitReceiver makes sure that WAL is streamed. One that archive_command
// delivers beside it would not do: it may be delivered late on purpose.
func awaitReceiver(ctx context.Context, s *config.Server) error {
	for deadline := time.Now().Add(receiverComes); ; {
		_, runs, err := catalog.LayoutOf(s).Receiver()
		if err != nil || runs {
			return err
		}
		if time.Now().After(deadline) {
			return fault.New(fault.Refused, "back up", s.Name, "its WAL is not streamed: pg_receivewal does not run").
				WithHint("holdfast cron %s starts it, and says why it does not run; holdfast up keeps it running", s.Name)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func checkBaseBackup(ctx context.Context, s *config.Server, f postgres.Facts) error {
	for _, t := range f.Tablespaces {
		if !filepath.IsAbs(t.Location) { // it cannot be told where the copy goes
			return fault.New(fault.Config, "back up", s.Name, "tablespace %s was made in place (%s), which pg_basebackup does not map", t.Name, t.Location).
				WithHint("use another backup_method, such as local-rsync, or move what is in it to a tablespace with a directory")
		}
	}
	path, err := command.Find("pg_basebackup", s.PathPrefix)
	if err != nil {
		return err
	}
	tool, err := pgtool.Version(ctx, path)
	if err != nil {
		return err
	}
	server := postgres.Major(f.Version)
	if err := basebackup.CheckVersion(path, tool, server); err != nil {
		return err
	}
	if err := refuseOptions(s, s.CompressionProblems(tool, server)); err != nil {
		return err
	}
	if keys := gpg.Of(s); keys.Encrypts() {
		return keys.Try(ctx)
	}
	return nil
}

// checkRsync makes sure that the program is there, is recent enough, and that
// the cluster's files can be read where they lie.
func checkRsync(ctx context.Context, s *config.Server, f postgres.Facts) error {
	if _, err := rsync.Find(ctx, s.PathPrefix); err != nil {
		return err
	}
	if s.BackupMethod == config.MethodRsync {
		link, err := ssh.Open(ctx, s.SSHCommand)
		if err != nil {
			return err
		}
		defer link.Close()
		return rsync.CheckHost(ctx, link, f.DataDirectory)
	}
	control := filepath.Join(f.DataDirectory, "global", "pg_control")
	file, err := os.Open(control)
	if err == nil {
		return file.Close()
	}
	e := fault.New(fault.KindOf(err), "read the cluster's files", control, "%w", err)
	if errors.Is(err, fs.ErrNotExist) {
		return e.WithHint("backup_method = local-rsync reads the cluster on this host; use backup_method = rsync or postgres for a server elsewhere")
	}
	return e.WithHint("local-rsync runs as a user that may read every file of the cluster, usually postgres: set barman_user, or use backup_method = postgres")
}
