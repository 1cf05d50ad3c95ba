package main

import (
	"cmp"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/combinebackup"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/gpg"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/objstore/drivers"
	"github.com/holdfast-pg/holdfast/internal/pgtool"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/restore"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

type restoreOptions struct {
	tablespaces                  []string
	getWAL, noGetWAL             bool
	targetTime, targetLSN        string
	targetImmediate              bool
	targetTimeline, targetAction string
	standby                      bool
	jobs                         int
	combineMode, stagingPath     string
	server, backup, dest         string
	from                         from
	disks                        instanceOptions
}

func (a *app) cmdRestore() *cobra.Command {
	var o restoreOptions
	cmd := &cobra.Command{
		Use: "restore SERVER BACKUP DEST", Aliases: []string{"recover"}, Short: "Make a data directory of a backup",
		Long: `Restores a backup to a new or empty directory on this host. DEST is complete or absent:
a restore that is interrupted leaves nothing that a server could be started on, and
can be run again; out of an object store it then goes on with what is unpacked. WAL is
copied too, unless it is to be fetched by PostgreSQL (--get-wal). archive_command is
switched off in the restored configuration. A target that cannot be reached is refused
before anything is written. The engine need not run.

An incremental backup is combined with those that it builds on by pg_combinebackup of
its version, and the result is read back. Backups that are kept as tar archives are
unpacked before, and with --combine-mode link all are copied before.

A backup that consists of snapshots of a cloud's disks is restored on an instance
(--snapshot-recovery-instance) that has disks made of all of them, mounted where and how
the source's were: DEST is then the data directory on one of them, which gets the
backup_label, the WAL and the recovery configuration.
` + references + "\n" + fromHelp + `
The objects of a backup are then downloaded and unpacked at the same time (--jobs, 4
unless given), and WAL that lies below URL/SERVER/wals is copied; with --get-wal PostgreSQL
fetches it from there itself, with the credentials of its user. Give the command as the
user that PostgreSQL runs as: DEST belongs to who gives it.`,
		Example: `  holdfast restore main latest /srv/restored
  holdfast restore main latest /srv/restored --tablespace big:/srv/restored_big
  holdfast restore main oldest /srv/restored --target-time "2026-11-23 02:40:00+00" --target-action promote
  holdfast restore main latest /srv/standby --standby-mode --get-wal
  holdfast restore main latest /srv/restored --from s3://bucket/path
  holdfast restore main latest /srv/standby --from s3://bucket/path --standby-mode --get-wal`,
		Args:        exactly("SERVER", "BACKUP", "DEST"),
		Annotations: exitCodes("0 DEST is complete", "1 the restore failed", "2 wrong options", "3 no such server or backup", "4 DEST is not empty, the target is out of reach, or the backup cannot be restored", "130 interrupted"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.server, o.backup, o.dest = args[0], args[1], args[2]
			if o.from.given() {
				return a.restoreFrom(cmd.Context(), o)
			}
			return a.restore(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.tablespaces, "tablespace", nil, "`NAME:DIR`, another directory for a tablespace; may be given again")
	f.BoolVar(&o.getWAL, "get-wal", false, "let PostgreSQL fetch WAL while it recovers (default: recovery_options)")
	f.BoolVar(&o.noGetWAL, "no-get-wal", false, "copy WAL now")
	f.StringVar(&o.targetTime, "target-time", "", "recover to this `time`; without a zone it is local")
	f.StringVar(&o.targetLSN, "target-lsn", "", "recover to this WAL `position`")
	f.BoolVar(&o.targetImmediate, "target-immediate", false, "recover until the backup is consistent, no further")
	f.StringVar(&o.targetTimeline, "target-tli", "", "follow this `timeline`: a number, current or latest")
	f.StringVar(&o.targetAction, "target-action", "", "what PostgreSQL does at the target: `pause`, promote or shutdown")
	f.BoolVar(&o.standby, "standby-mode", false, "make a standby, which goes on recovering")
	f.IntVarP(&o.jobs, "jobs", "j", 0, "`number` of files copied at once (default: parallel_jobs)")
	f.StringVar(&o.combineMode, "combine-mode", "", "`how` files of incremental backups are combined: copy, link, clone or copy-file-range (default: combine_mode)")
	f.StringVar(&o.stagingPath, "staging-path", "", "`directory` for unpacking what is combined (default: staging_path, else the place of DEST)")
	f.StringVar(&o.disks.instance, "snapshot-recovery-instance", "", "the `instance` whose disks were made of the snapshots of a backup: this host")
	f.StringVar(&o.disks.awsRegion, "aws-region", "", "`region` of that instance (default: aws_region)")
	f.StringVar(&o.disks.gcpZone, "gcp-zone", "", "`zone` of that instance (default: gcp_zone)")
	f.StringVar(&o.disks.azureGroup, "azure-resource-group", "", "resource `group` of that instance (default: azure_resource_group)")
	f.BoolVar(&o.disks.create, "create-disks", false, "make disks of the snapshots, attach them to that instance, and say how to mount them; nothing is restored yet")
	offer(cmd, "combine-mode", combinebackup.Copy, combinebackup.Link, combinebackup.Clone, combinebackup.CopyFileRange)
	a.fromFlags(cmd, &o.from)
	cmd.MarkFlagsMutuallyExclusive("get-wal", "no-get-wal")
	cmd.MarkFlagsMutuallyExclusive("target-time", "target-lsn", "target-immediate")
	return cmd
}

func (a *app) restore(ctx context.Context, o restoreOptions) error {
	began := time.Now()
	s, cat, err := a.catalog(o.server)
	if err != nil {
		return err
	}
	req, err := a.restoreRequest(s, o)
	if err != nil {
		return err
	}
	info, err := cat.Resolve(o.backup)
	if err != nil {
		return err
	}
	parts, release, err := readingChain(cat, info)
	if err != nil {
		return err
	}
	defer release()
	req.Parents = parts[:len(parts)-1]
	record, err := cloudSnapshots(cat, info)
	if err != nil {
		return err
	}
	switch {
	case record == nil && o.disks.given():
		return noSnapshots(info)
	case record != nil && o.disks.create:
		return a.createDisks(ctx, s, info.ID, record, o.disks)
	case record != nil:
		if err := o.disks.mountedSnapshots(ctx, s, info, record, req); err != nil {
			return err
		}
		req.Mounted = true
	}
	plan, src, err := a.planRestore(ctx, s, cat, info, req, cmp.Or(o.jobs, s.ParallelJobs))
	if err != nil {
		return err
	}
	opt, err := a.howToRestore(ctx, s, o, src)
	if err != nil {
		return err
	}
	hooks, event, err := restoreHooks(s, cat, info, o, plan)
	if err == nil {
		err = hooks.Before(ctx, event)
	}
	if err != nil {
		return err
	}
	res, err := a.runRestore(ctx, src, plan, opt)
	if err != nil {
		event.Err = err.Error()
	}
	if hookErr := hooks.After(ctx, event); err == nil {
		err = hookErr
	}
	if err != nil {
		return err
	}
	a.tellRestore(s.Name, info, plan, res, began)
	return nil
}

// restoreRequest reads the options, and the configuration where they leave things open.
func (a *app) restoreRequest(s *config.Server, o restoreOptions) (restoreplan.Request, error) {
	req, err := a.readRequest(o)
	if err != nil {
		return req, err
	}
	for _, dir := range append([]string{req.Dest}, slices.Sorted(maps.Values(req.Tablespaces))...) {
		home := filepath.Clean(s.BackupDirectory)
		if dir == home || strings.HasPrefix(dir, home+"/") {
			return req, fault.New(fault.Usage, "restore to", dir, "it lies among the backups of server %s", s.Name).
				WithHint("name a directory outside %s", home)
		}
	}
	for _, option := range s.RecoveryOptions {
		if option == "get-wal" && !o.noGetWAL {
			req.GetWAL = true
		}
	}
	if req.GetWAL {
		req.RestoreWith, err = a.restoreCommand(s, o.standby)
	}
	return req, err
}

// readRequest reads the options.
func (a *app) readRequest(o restoreOptions) (restoreplan.Request, error) {
	req := restoreplan.Request{Tablespaces: map[string]string{}, Standby: o.standby, GetWAL: o.getWAL,
		Target: restoreplan.Target{Immediate: o.targetImmediate, Timeline: o.targetTimeline, Action: o.targetAction}}
	if o.jobs < 0 {
		return req, fault.New(fault.Usage, "read", "--jobs", "%d is not at least 1", o.jobs)
	}
	var err error
	if req.Dest, err = destination(o.dest); err != nil {
		return req, err
	}
	for _, text := range o.tablespaces {
		name, dir, ok := strings.Cut(text, ":")
		if !ok || name == "" || dir == "" {
			return req, fault.New(fault.Usage, "read", "--tablespace "+text, "it is not NAME:DIR")
		}
		if _, twice := req.Tablespaces[name]; twice {
			return req, fault.New(fault.Usage, "read", "--tablespace "+text, "tablespace %s is given twice", name)
		}
		if req.Tablespaces[name], err = destination(dir); err != nil {
			return req, err
		}
	}
	return req, a.readTarget(&req.Target, o)
}

// destination is a directory to restore to: absolute, and behind a link that
// exists already.
func destination(path string) (string, error) {
	dir, err := filepath.Abs(path)
	if err != nil {
		return "", fault.Wrap(fault.Internal, "find", path, err)
	}
	if path == "" {
		return "", fault.New(fault.Usage, "restore to", "DEST", "it is empty").WithHint("name a new or empty directory")
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return dir, nil
}

// planRestore looks at the backup and at the archive.
func (a *app) planRestore(ctx context.Context, s *config.Server, cat *catalog.Catalog, info *backupinfo.Info, req restoreplan.Request, jobs int) (*restoreplan.Plan, restore.Source, error) {
	src := restore.Source{Info: info}
	var err error
	if req.Mounted {
		src.Snapshot, err = mountedSource(cat, info)
	} else {
		src, err = a.sourceOf(ctx, s, cat, info, jobs)
	}
	if err != nil {
		return nil, src, err
	}
	archive, err := archiveOf(s)
	if err != nil {
		return nil, src, err
	}
	src.WAL = archive
	for _, parent := range req.Parents {
		part, err := a.sourceOf(ctx, s, cat, parent, jobs)
		if err != nil {
			return nil, src, err
		}
		src.Parents = append(src.Parents, part)
	}
	// Another archiver may be at work, or we may not be allowed to: what waits
	// is then not restored, unless the archive has it by the time of the plan.
	if _, err := archive.ArchiveArrived(ctx, time.Now()); err != nil && !fault.Is(err, fault.Refused) {
		a.warn("WAL that waits in %s was not archived: %v", s.IncomingWALsDirectory, err)
	}
	have, err := archive.ForRestore(ctx)
	if err != nil {
		return nil, src, err
	}
	plan, err := restoreplan.Make(info, req, have)
	return plan, src, err
}

func (a *app) sourceOf(ctx context.Context, s *config.Server, cat *catalog.Catalog, info *backupinfo.Info, jobs int) (restore.Source, error) {
	if s.BasebackupsCloud != nil {
		return a.sourceInStore(ctx, s, cat, info, jobs)
	}
	src := restore.Source{Info: info, Data: cat.DataDir(info.ID), TableDirs: map[uint32]string{}, Keys: gpg.Of(s)}
	for _, t := range info.Tablespaces {
		src.TableDirs[t.OID] = cat.TablespaceDir(info.ID, t.OID)
	}
	extra, err := cat.Extra(info.ID)
	if err == nil && extra.Snapshots != nil && extra.Snapshots.Barman == "" {
		err = fromSnapshots(&src, cat, extra.Snapshots)
	}
	return src, err
}

// sourceInStore is the backup in the first store that has it and can be read.
func (a *app) sourceInStore(ctx context.Context, s *config.Server, cat *catalog.Catalog, info *backupinfo.Info, jobs int) (restore.Source, error) {
	all, err := bucket.All(ctx, s, drivers.Open, func() *objstore.Policy { return &objstore.Policy{Patience: transferPatience} })
	if err != nil {
		return restore.Source{}, err
	}
	soon, err := bucket.All(ctx, s, drivers.Open, func() *objstore.Policy { return &objstore.Policy{Patience: checkPatience} })
	if err != nil {
		return restore.Source{}, err
	}
	d, err := cat.Destinations(info.ID)
	if err != nil {
		return restore.Source{}, err
	}
	src := restore.Source{Info: info}
	holding := bucket.Holding(all, d)
	if len(holding) == 0 {
		return src, fault.New(fault.Refused, "restore", string(info.ID), "no configured destination has all of it").
			WithHint("see where it is: holdfast show-backup %s %s, and restore it from there: --from URL", s.Name, info.ID)
	}
	var first error
	for i, b := range holding {
		var err error
		if len(holding) > 1 {
			err = soon[slices.Index(all, b)].Reach(ctx)
		}
		if err == nil {
			var doubts []error
			src.Objects, doubts, err = b.Restorable(ctx, info, jobs)
			for _, doubt := range doubts {
				a.warn("%v", doubt)
			}
		}
		if err == nil || ctx.Err() != nil {
			if b != all[0] && err == nil {
				why := "it lacks the backup"
				if first != nil {
					why = first.Error()
				}
				a.warn("the backup is read from the replica %s, not from %s: %s. If its WAL cannot be read either, add --from %s", b.URL, all[0].URL, why, b.URL)
			}
			return src, err
		}
		if i == 0 {
			first = err
		}
	}
	return src, first
}

// fromSnapshots lets a restore read what the snapshots of a backup show.
func fromSnapshots(src *restore.Source, cat *catalog.Catalog, record *snapshot.Record) error {
	place := func(of string, s snapshot.RecordedSnapshot, dir string) (string, error) {
		if dir == "" {
			return "", fault.New(fault.Refused, "restore", string(src.Info.ID), "snapshot %s of disk %s is not a directory that can be read", s.Name, s.Disk).
				WithHint("mount a copy of it by hand, and start PostgreSQL there as docs/snapshot.md says")
		}
		if _, err := os.Stat(dir); err != nil {
			return "", fault.New(fault.Refused, "restore", string(src.Info.ID), "%s is not here: %w", of, err).
				WithHint("give the command on the host of the snapshots (%s), as a user that may read them", record.Info.Instance)
		}
		return dir, nil
	}
	s, dir := record.Data()
	var err error
	if src.Data, err = place("the snapshot of the data directory", s, dir); err != nil {
		return err
	}
	for _, t := range src.Info.Tablespaces {
		s, dir := record.Tablespace(t.OID)
		if src.TableDirs[t.OID], err = place("the snapshot of tablespace "+t.Name, s, dir); err != nil {
			return err
		}
	}
	path := filepath.Join(cat.DataDir(src.Info.ID), "backup_label")
	label, err := os.ReadFile(path)
	src.Snapshot = &restore.Snapshot{Label: label}
	return fault.Wrap(fault.Corrupt, "read", path, err)
}

// howToRestore says how the files are copied or combined.
func (a *app) howToRestore(ctx context.Context, s *config.Server, o restoreOptions, src restore.Source) (restore.Options, error) {
	opt := restore.Options{Jobs: cmp.Or(o.jobs, s.ParallelJobs)}
	opt.Combine.Mode = cmp.Or(o.combineMode, s.CombineMode)
	opt.Combine.Staging = cmp.Or(o.stagingPath, s.StagingPath, s.LocalStagingPath, s.RecoveryStagingPath)
	return opt, a.howToCombine(ctx, &opt.Combine, s.PathPrefix, src)
}

// howToCombine finds the program for incremental backups.
func (a *app) howToCombine(ctx context.Context, c *restore.Combine, pathPrefix string, src restore.Source) error {
	if !slices.Contains([]string{combinebackup.Copy, combinebackup.Link, combinebackup.Clone, combinebackup.CopyFileRange}, c.Mode) {
		return fault.New(fault.Usage, "read", "--combine-mode "+c.Mode, "the modes are copy, link, clone and copy-file-range")
	}
	if len(src.Parents) == 0 {
		return nil
	}
	if src.Info.Version == nil {
		return fault.New(fault.Corrupt, "restore", "backup "+string(src.Info.ID), "its record does not say of which version of PostgreSQL it is")
	}
	major := postgres.Major(*src.Info.Version)
	if c.Mode == combinebackup.Link && !combinebackup.CanLink(major) {
		a.warn("pg_combinebackup of version %d cannot link files: they are copied", major)
		c.Mode = combinebackup.Copy
	}
	var err error
	c.Program, err = pgtool.Find(ctx, "pg_combinebackup", pathPrefix, major)
	return err
}

// restoreCommand makes PostgreSQL fetch WAL through the program that starts fast.
func (a *app) restoreCommand(s *config.Server, standby bool) (string, error) {
	file, err := filepath.Abs(a.cfg.Path)
	if err != nil {
		return "", fault.Wrap(fault.Internal, "find", a.cfg.Path, err)
	}
	return restoreCommand("-c "+restoreplan.ShellWord(file)+" wal-restore", s.Name, standby)
}

// restoreCommand calls the program with words that say where the WAL of a server is.
func restoreCommand(words, server string, standby bool) (string, error) {
	program, err := command.Sibling("holdfast")
	if err != nil {
		return "", err
	}
	partial := " --partial"
	if standby {
		partial = ""
	}
	return restoreplan.ShellWord(program) + " " + words + partial + " " + restoreplan.ShellWord(server) + ` %f "%p"`, nil
}
