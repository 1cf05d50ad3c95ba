package activities

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/rsync"
	"github.com/holdfast-pg/holdfast/internal/ssh"
)

// Files copies with rsync, which resumes: whoever comes after a crash sends only
// what is missing.
type Files struct {
	Servers Servers
}

// CopyFiles fills the backup's data directory and tablespace directories from
// those of the server, on this host or on that of ssh_command, which is in
// backup mode.
func (f *Files) CopyFiles(ctx context.Context, ref Ref) (Copied, error) {
	s, err := f.Servers.Server(ref.Server)
	if err != nil {
		return Copied{}, report(ctx, err)
	}
	s = ref.Overrides.apply(s)
	var p rsync.Progress
	beating, stop := beat(ctx, func() Progress {
		return Progress{What: p.What(), Done: p.Done.Load(), Total: p.Total.Load(), Files: p.Files.Load()}
	})
	defer stop()
	cat := catalog.Open(catalog.LayoutOf(s))
	info, err := cat.Get(ref.ID)
	if err != nil {
		return Copied{}, final(beating, err)
	}
	guarded, unguard := guardSpace(beating, cat.BaseDir, sizeOf(info))
	defer unguard()
	copied, err := copyFiles(guarded, s, ref, &p)
	return copied, final(beating, explained(guarded, err, cat.BaseDir, sizeOf(info)))
}

func copyFiles(ctx context.Context, s *config.Server, ref Ref, p *rsync.Progress) (Copied, error) {
	cat := catalog.Open(catalog.LayoutOf(s))
	info, err := cat.Get(ref.ID)
	if err != nil {
		return Copied{}, err
	}
	guard, err := claim(ctx, cat, ref, 0, false)
	if err != nil {
		return Copied{}, err
	}
	place := place(datadir.Below)
	var link *ssh.Link
	if s.BackupMethod == config.MethodRsync {
		// What the link runs here is found like everything else that works for the claim.
		if link, err = ssh.Open(ctx, s.SSHCommand, guard.Marker()); err != nil {
			return Copied{}, err
		}
		defer link.Close()
		if place, err = placeOn(ctx, link, info); err != nil {
			return Copied{}, err
		}
	}
	job, err := planFiles(s, cat, info, place)
	if err != nil {
		return Copied{}, err
	}
	if job.Fence = guard; link != nil {
		job.From, job.Compress = link, s.NetworkCompression
	}
	if job.Program, err = command.Find("rsync", s.PathPrefix); err != nil {
		return Copied{}, err
	}
	job.Attempt, job.Progress, job.Boot = ref.Attempt, p, command.BootID()
	if job.Host, err = os.Hostname(); err != nil {
		return Copied{}, fault.Wrap(fault.Internal, "ask for the name of", "this host", err)
	}
	res, err := rsync.Copy(ctx, job)
	if err != nil {
		return Copied{}, err
	}
	copied := Copied{Bytes: res.Bytes, DedupBytes: res.DedupBytes, Files: res.Files, SentFiles: res.Sent, ReusedFiles: res.Kept,
		CopyTime: res.Copy, AnalysisTime: res.Analysis, Workers: res.Jobs}
	for _, i := range res.Items {
		copied.Items = append(copied.Items, CopiedItem(i))
	}
	if outside := place.includedOutside(info); len(outside) > 0 && !s.ExternalConfiguration {
		copied.Warnings = append(copied.Warnings, "The configuration includes files outside the data directory, which are not in the backup: "+
			strings.Join(outside, ", ")+". "+lookAfter)
	}
	return copied, nil
}

// place tells where a path lies below a directory of the cluster, on the host that
// has both.
type place func(dir, path string) (string, bool)

// placeOn knows the links that a cluster's paths lead through on another host.
func placeOn(ctx context.Context, host rsync.Host, info *backupinfo.Info) (place, error) {
	paths := slices.Concat([]string{*info.PGData}, info.IncludedFiles)
	for _, file := range []*string{info.ConfigFile, info.HBAFile, info.IdentFile} {
		if file != nil && *file != "" {
			paths = append(paths, *file)
		}
	}
	for _, t := range info.Tablespaces {
		paths = append(paths, locationOf(info, t))
	}
	real, err := rsync.RealPaths(ctx, host, paths)
	return func(dir, path string) (string, bool) {
		if rel, inside := datadir.Inside(dir, path); inside {
			return rel, true
		}
		return datadir.Inside(real[dir], real[path])
	}, err
}

// locationOf is the directory of a tablespace.
func locationOf(info *backupinfo.Info, t backupinfo.Tablespace) string {
	if filepath.IsAbs(t.Location) {
		return t.Location
	}
	return filepath.Join(*info.PGData, t.Location)
}

const lookAfter = "Look after them yourself, or set backup_options = concurrent_backup, external_configuration to keep this quiet."

// planFiles says what is copied to where, and what of it may be reused.
func planFiles(s *config.Server, cat *catalog.Catalog, info *backupinfo.Info, place place) (rsync.Job, error) {
	systemID, err := strconv.ParseUint(*info.SystemID, 10, 64)
	if err != nil {
		return rsync.Job{}, fault.Wrap(fault.Corrupt, "read", "systemid", err)
	}
	major := postgres.Major(*info.Version)
	pgdata, data, work := *info.PGData, cat.DataDir(info.ID), cat.WorkDir(info.ID)
	job := rsync.Job{
		WorkDir: work, Journal: filepath.Join(work, runPrefix+"files"), Manifest: filepath.Join(work, "backup_manifest"),
		Control:  rsync.Single{Name: "pg_control", Source: filepath.Join(pgdata, "global", "pg_control"), Dest: filepath.Join(data, "global", "pg_control"), Path: "global/pg_control"},
		SystemID: systemID, ManifestV2: major >= 17, Reuse: rsync.ReuseOff,
		Jobs: s.ParallelJobs, StartBatch: s.ParallelJobsStartBatchSize, StartPeriod: s.ParallelJobsStartPeriod,
		RetryTimes: s.BasebackupRetryTimes, RetrySleep: s.BasebackupRetrySleep,
	}
	main := rsync.Tree{Name: "pgdata", Source: pgdata, Dest: data, Exclude: slices.Concat(datadir.DataExclusions, datadir.Exclusions), RateKB: s.BandwidthLimit}
	for _, t := range info.Tablespaces {
		oid := strconv.FormatUint(uint64(t.OID), 10)
		location := locationOf(info, t)
		if rel, inside := place(pgdata, location); inside {
			main.Exclude = append(main.Exclude, datadir.Literal(rel))
		}
		rate, own := s.TablespaceBandwidthLimit[t.Name]
		if !own {
			rate = s.BandwidthLimit
		}
		job.Trees = append(job.Trees, rsync.Tree{Name: t.Name, Source: location, Dest: cat.TablespaceDir(info.ID, t.OID), Path: "pg_tblspc/" + oid,
			Only: fmt.Sprintf("PG_%d_*", major), Exclude: datadir.Exclusions, RateKB: rate})
	}
	if job.Singles, err = place.configFiles(info, data); err != nil {
		return job, err
	}
	for _, c := range job.Singles {
		main.Exclude = append(main.Exclude, datadir.Literal(c.Path))
	}
	job.Trees = append(job.Trees, main)
	return job, reuseFiles(&job, s, cat, info)
}

// configFiles are the configuration files outside the data directory. They are
// copied into it, side by side.
func (p place) configFiles(info *backupinfo.Info, data string) ([]rsync.Single, error) {
	var out []rsync.Single
	for _, file := range []struct {
		option   string
		path     *string
		optional bool
	}{{"config_file", info.ConfigFile, false}, {"hba_file", info.HBAFile, false}, {"ident_file", info.IdentFile, true}} {
		if file.path == nil || *file.path == "" || p.insideData(info, *file.path) {
			continue
		}
		name := filepath.Base(*file.path)
		for _, other := range out {
			if other.Path == name {
				return nil, fault.New(fault.Refused, "back up", *file.path, "it has the same name as %s, and both would be copied into the data directory", other.Source).
					WithHint("give one of them another name: config_file, hba_file and ident_file in postgresql.conf")
			}
		}
		out = append(out, rsync.Single{Name: file.option, Source: *file.path, Dest: filepath.Join(data, name), Path: name, Optional: file.optional})
	}
	return out, nil
}

func (p place) insideData(info *backupinfo.Info, path string) bool {
	_, inside := p(*info.PGData, path)
	return inside
}

func (p place) includedOutside(info *backupinfo.Info) []string {
	var out []string
	for _, path := range info.IncludedFiles {
		if !p.insideData(info, path) {
			out = append(out, path)
		}
	}
	return out
}

// reuseFiles lets a job take files from the newest earlier backup of the same
// cluster that was copied by rsync too.
func reuseFiles(job *rsync.Job, s *config.Server, cat *catalog.Catalog, info *backupinfo.Info) error {
	if s.ReuseBackup == "" || s.ReuseBackup == string(rsync.ReuseOff) {
		return nil
	}
	all, _, err := cat.List()
	if err != nil {
		return err
	}
	var prev *backupinfo.Info
	for _, b := range all {
		if b.ID < info.ID && b.Status.CopyDone() && b.BeginTime != nil && b.Mode != nil && strings.HasPrefix(*b.Mode, "rsync") &&
			b.SystemID != nil && *b.SystemID == *info.SystemID {
			prev = b
		}
	}
	if prev == nil {
		return nil
	}
	job.Reuse, job.Horizon = rsync.Reuse(s.ReuseBackup), *prev.BeginTime
	job.PreviousManifest = filepath.Join(cat.WorkDir(prev.ID), "backup_manifest")
	job.Trees[len(job.Trees)-1].Previous = cat.DataDir(prev.ID)
	for i, t := range info.Tablespaces {
		if slices.ContainsFunc(prev.Tablespaces, func(p backupinfo.Tablespace) bool { return p.OID == t.OID }) {
			job.Trees[i].Previous = cat.TablespaceDir(prev.ID, t.OID)
		}
	}
	return nil
}
