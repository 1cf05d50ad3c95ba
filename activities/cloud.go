package activities

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/cloudcopy"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/frame"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/volumes"
)

const (
	// storePatience is for how long a copy bears with a store that does not answer, or
	// asks to be left alone.
	storePatience = 15 * time.Minute
	// recordPatience is the same for a record, which the next attempt of the activity writes.
	recordPatience = 30 * time.Second
	// largestArchive is what every provider takes.
	largestArchive = 1 << 40
)

// Cloud copies into an object store, and resumes what was interrupted.
type Cloud struct {
	Servers Servers
	Stores  objstore.Stores
}

// CopyVolumes stores the files of the cluster on this host, which is in backup mode, as
// tar volumes.
func (c *Cloud) CopyVolumes(ctx context.Context, ref Ref) (Copied, error) {
	s, err := c.Servers.Server(ref.Server)
	if err != nil {
		return Copied{}, report(ctx, err)
	}
	s = ref.Overrides.apply(s)
	var p cloudcopy.Progress
	stores := newCloudStores(s)
	beating, stop := beat(ctx, func() Progress {
		return Progress{What: "copies the cluster into the object store", Trouble: stores.trouble(), Done: p.Done.Load(), Total: p.Total.Load(), Files: p.Files.Load()}
	})
	defer stop()
	copied, err := c.copyVolumes(beating, s, stores, ref, &p)
	return copied, final(beating, err)
}

func (c *Cloud) copyVolumes(ctx context.Context, s *config.Server, stores *cloudStores, ref Ref, p *cloudcopy.Progress) (Copied, error) {
	cat := catalog.Open(catalog.LayoutOf(s))
	info, err := cat.Get(ref.ID)
	if err != nil {
		return Copied{}, err
	}
	guard, err := claim(ctx, cat, ref, 0, false)
	if err != nil {
		return Copied{}, err
	}
	if err := stores.open(ctx, s, c.Stores, cat, info.ID, guard); err != nil {
		return Copied{}, err
	}
	job, err := cloudJob(s, stores, cat, info)
	if err != nil {
		return Copied{}, err
	}
	job.Fence, job.Attempt, job.Progress = guard, ref.Attempt, p
	res, err := cloudcopy.Copy(ctx, job)
	if err != nil {
		return Copied{}, err
	}
	copied := Copied{Bytes: res.Stored, DedupBytes: res.Stored, StoreBytes: res.Sent, ClusterBytes: res.Bytes, Files: res.Files, SentFiles: res.Files - res.Kept, ReusedFiles: res.Kept,
		CopyTime: res.Copy - res.Analysis, AnalysisTime: res.Analysis, Workers: max(job.Jobs, 1)}
	for _, i := range res.Items {
		copied.Items = append(copied.Items, CopiedItem(i))
	}
	copied.BadPages, err = judgeBadPages(s, res.BadPages)
	if err != nil {
		return Copied{}, err
	}
	copied.Warnings = cloudWarnings(s, info, res, copied.BadPages)
	return copied, nil
}

// mostNamed is how many of many things people are told by name.
const mostNamed = 10

// judgeBadPages names the pages whose checksum is wrong, as the error that they are
// when the configuration says so.
func judgeBadPages(s *config.Server, bad []cloudcopy.BadPages) ([]string, error) {
	var out []string
	for _, b := range bad {
		blocks := fmt.Sprint(b.Blocks[:min(len(b.Blocks), mostNamed)])
		if b.Bad > mostNamed {
			blocks += " and others"
		}
		out = append(out, fmt.Sprintf("%s, block %s", b.Path, strings.Trim(blocks, "[]")))
	}
	if len(out) > 0 && s.HoldfastBadPages == "fail" {
		return nil, fault.New(fault.Corrupt, "read", strings.Join(out[:min(len(out), mostNamed)], "; "), "the checksum of a page is wrong").
			WithHint("the cluster's disk or memory is faulty: see pg_amcheck, restore what is damaged from an earlier backup; holdfast_bad_pages = warn backs it up as it is")
	}
	return out[:min(len(out), mostNames)], nil
}

func cloudWarnings(s *config.Server, info *backupinfo.Info, res cloudcopy.Result, bad []string) []string {
	var out []string
	add := func(names []string, format string) {
		if len(names) > 0 {
			list := strings.Join(names[:min(len(names), mostNamed)], "; ")
			if len(names) > mostNamed {
				list += fmt.Sprintf("; and %d more", len(names)-mostNamed)
			}
			out = append(out, fmt.Sprintf(format, list))
		}
	}
	add(bad, "Pages with a wrong checksum were backed up as they are: %s. The cluster is damaged: look at it with pg_amcheck.")
	if res.Unusable != "" {
		out = append(out, "The records of the backup before cannot be used, so that everything was sent: "+res.Unusable+".")
	}
	add(res.Lost, "The store has lost objects of the backup before, or has them with another size: %s. That backup cannot be restored: look for the cause in the store, and verify the other backups.")
	add(res.Resized, "Files changed their size while they were read, and WAL does not mend them: %s. They are no part of PostgreSQL; keep them elsewhere.")
	if !s.ExternalConfiguration {
		add(place(datadir.Below).includedOutside(info), "The configuration includes files outside the data directory, which are not in the backup: %s. "+lookAfter)
	}
	return out
}

// cloudJob is what all steps of one backup in object stores have in common.
func cloudJob(s *config.Server, stores *cloudStores, cat *catalog.Catalog, info *backupinfo.Info) (cloudcopy.Job, error) {
	host, err := os.Hostname()
	if err != nil {
		return cloudcopy.Job{}, fault.Wrap(fault.Internal, "ask for the name of", "this host", err)
	}
	systemID, err := strconv.ParseUint(*info.SystemID, 10, 64)
	if err != nil {
		return cloudcopy.Job{}, fault.Wrap(fault.Corrupt, "read", "systemid", err)
	}
	job := cloudcopy.Job{
		Store: stores.store, Base: stores.taking[0].Dir(info.ID), WorkDir: cat.WorkDir(info.ID), SystemID: systemID, Start: *info.BeginLSN,
		World:      datadir.World{Host: host, Boot: command.BootID(), System: *info.SystemID},
		Cluster:    volumes.Cluster{DataDir: *info.PGData, Major: postgres.Major(*info.Version)},
		VolumeSize: int64(s.HoldfastCloudVolumeSize), LargestSize: min(int64(s.CloudUploadMaxArchiveSize), largestArchive),
		PartSize: int64(s.CloudUploadMinChunkSize), Jobs: s.ParallelJobs, Reuse: cloudcopy.Reuse(s.HoldfastCloudReuse), Progress: &cloudcopy.Progress{},
	}
	if job.Codec, err = frame.Open(s.HoldfastCloudCompression, ""); err != nil {
		return job, err
	}
	for _, t := range info.Tablespaces {
		job.Cluster.Tablespaces = append(job.Cluster.Tablespaces, volumes.Tablespace{OID: t.OID, Location: locationOf(info, t)})
	}
	singles, err := place(datadir.Below).configFiles(info, *info.PGData)
	if err != nil {
		return job, err
	}
	for _, one := range singles {
		job.Singles = append(job.Singles, volumes.Single{Path: one.Path, Source: one.Source, Optional: one.Optional})
		job.Cluster.Replaced = append(job.Cluster.Replaced, one.Path)
	}
	return job, reuseVolumes(&job, stores, cat, info)
}

// reuseVolumes lets a job take from the newest earlier backup of the same cluster that all
// stores have. On another timeline times of files say nothing.
func reuseVolumes(job *cloudcopy.Job, stores *cloudStores, cat *catalog.Catalog, info *backupinfo.Info) error {
	if job.Reuse == cloudcopy.Off {
		return nil
	}
	all, _, err := cat.List()
	if err != nil {
		return err
	}
	for _, prev := range slices.Backward(all) {
		if prev.ID >= info.ID || !prev.Status.CopyDone() || prev.Mode == nil || !strings.HasPrefix(*prev.Mode, config.MethodLocalToCloud) ||
			prev.SystemID == nil || *prev.SystemID != *info.SystemID {
			continue
		}
		d, err := cat.Destinations(prev.ID)
		if err != nil {
			return err
		}
		if !stores.allHold(d) {
			continue
		}
		job.Previous = stores.taking[0].Dir(prev.ID)
		if job.Reuse == cloudcopy.Mtime && (prev.Timeline == nil || *prev.Timeline != *info.Timeline) {
			job.Reuse = cloudcopy.Checksum
		}
		return nil
	}
	return nil
}

// finishCloud stores the label and what else a copy ends with.
func (c *Catalogue) finishCloud(ctx context.Context, cat *catalog.Catalog, info *backupinfo.Info, ref Ref, guard cloudcopy.Fence, stopped StoppedSession) (int64, error) {
	s, err := c.Servers.Server(ref.Server)
	if err != nil {
		return 0, err
	}
	s = ref.Overrides.apply(s)
	stores := newCloudStores(s)
	if err := stores.open(ctx, s, c.Stores, cat, info.ID, guard); err != nil {
		return 0, err
	}
	job, err := cloudJob(s, stores, cat, info)
	if err != nil {
		return 0, err
	}
	job.Fence, job.Attempt = guard, ref.Attempt
	stored, err := cloudcopy.Finish(ctx, job, stopped.Label, *info.EndTime)
	if err != nil {
		return 0, err
	}
	_, err = job.Store.Put(ctx, job.Base+bucket.MapObject, strings.NewReader(stopped.TablespaceMap), objstore.PutOptions{})
	return stored, err
}

// storeCloudLabel puts the label of a backup that consists of snapshots beside its record,
// where an object store has that.
func (c *Catalogue) storeCloudLabel(ctx context.Context, info *backupinfo.Info, ref Ref) error {
	s, err := c.Servers.Server(ref.Server)
	if err != nil {
		return err
	}
	b, err := bucket.Of(ctx, s, c.Stores, &objstore.Policy{Patience: recordPatience})
	if err != nil || b == nil || info.BackupLabel == nil {
		return err
	}
	return b.PutLabel(ctx, ref.ID, *info.BackupLabel)
}

// abortCloud gives up what a copy has not finished. A store that does not answer
// keeps no backup from being recorded as FAILED.
func (c *Catalogue) abortCloud(ctx context.Context, s *config.Server, ref Ref) error {
	if s.BackupMethod != config.MethodLocalToCloud {
		return nil
	}
	all, err := bucket.All(ctx, s, c.Stores, shortly)
	for _, b := range all {
		err = cmp.Or(err, cloudcopy.AbortUploads(ctx, b.Store(), b.Dir(ref.ID)))
	}
	if err != nil && ctx.Err() == nil {
		activity.GetLogger(ctx).Warn("unfinished uploads of the backup are left in the object store until it is deleted", "error", err)
		return nil
	}
	return err
}

// proveCloud compares what each store has with what was sent.
func (p *Proof) proveCloud(ctx context.Context, s *config.Server, cat *catalog.Catalog, info *backupinfo.Info) (Proven, error) {
	stores := newCloudStores(s)
	if err := stores.open(ctx, s, p.Stores, cat, info.ID, unfenced{}); err != nil {
		return Proven{}, err
	}
	job, err := cloudJob(s, stores, cat, info)
	if err != nil {
		return Proven{}, err
	}
	archive, err := bucket.WALs(ctx, s, p.Stores, shortly())
	if err != nil {
		return Proven{}, err
	}
	var mu sync.Mutex
	var found cloudcopy.Proven
	err = stores.each(ctx, func(ctx context.Context, b *bucket.Bucket) error {
		if needsWAL(b, stores.main, archive) {
			if err := b.TakeWAL(ctx, archive, info); err != nil {
				return err
			}
		}
		job := job
		job.Store = b.Store()
		proven, err := cloudcopy.Prove(ctx, job, func(name string) bool { return bucket.IsOfCatalog(name) || name == bucket.MapObject })
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			found = proven
		}
		return err
	})
	return Proven{Objects: found.Objects, Bytes: found.Bytes}, err
}

// checkCloud makes sure that the store can be written to and the cluster read.
func (p *Preflight) checkCloud(ctx context.Context, s *config.Server, f postgres.Facts) error {
	if err := p.checkStores(ctx, s); err != nil {
		return err
	}
	control := filepath.Join(f.DataDirectory, "global", "pg_control")
	file, err := os.Open(control)
	if err == nil {
		return file.Close()
	}
	e := fault.New(fault.KindOf(err), "read the cluster's files", control, "%w", err)
	if errors.Is(err, fs.ErrNotExist) {
		return e.WithHint("backup_method = local-to-cloud reads the cluster on this host: run holdfast up there")
	}
	return e.WithHint("local-to-cloud runs as a user that may read every file of the cluster, usually postgres: set barman_user")
}
