package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.temporal.io/sdk/activity"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/backuplabel"
	"github.com/holdfast-pg/holdfast/internal/bucket"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/fence"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/schedule"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Catalogue has the activities that write the record of a backup. Each may be
// repeated.
type Catalogue struct {
	Servers   Servers
	Stores    objstore.Stores
	Snapshots snapshot.Open
}

// open is a server's catalogue, kept in step with the object store that has the backups.
func (c *Catalogue) open(ctx context.Context, server string) (*catalog.Catalog, error) {
	s, err := c.Servers.Server(server)
	if err != nil {
		return nil, err
	}
	return bucket.Catalog(ctx, s, c.Stores, &objstore.Policy{Patience: recordPatience})
}

// RecordBegin records where an attempt begins. A bracket without a session may be
// opened again during the same attempt: the first beginning counts.
func (c *Catalogue) RecordBegin(ctx context.Context, ref Ref, plan Plan, s HeldSession) error {
	return during(ctx, "records where the backup begins", func(ctx context.Context) error { return c.recordBegin(ctx, ref, plan, s) })
}

func (c *Catalogue) recordBegin(ctx context.Context, ref Ref, plan Plan, s HeldSession) error {
	cat, info, extra, err := c.load(ctx, ref)
	if err != nil {
		return err
	}
	if n := len(extra.Attempts); n > 0 && extra.Attempts[n-1].Number == ref.Attempt && plan.Bracket != Concurrent {
		return nil
	}
	b, f := s.Begin, s.Begin.Facts
	if f.SystemID != plan.SystemID {
		return fault.New(fault.Refused, "back up", ref.Server, "the server changed: its system identifier is %s now, it was %s", f.SystemID, plan.SystemID).
			WithHint("let conninfo name one server, not one of several")
	}
	info.Status, info.Error = backup.Started, nil
	info.PGData, info.Version, info.SegmentSize = &f.DataDirectory, &f.Version, &f.SegmentSize
	info.ConfigFile, info.HBAFile, info.IdentFile, info.IncludedFiles = &f.ConfigFile, &f.HBAFile, &f.IdentFile, f.IncludedFiles
	info.DataChecksums, info.SystemID = &f.DataChecksums, &f.SystemID
	if plan.Bytes > 0 {
		info.ClusterSize = &plan.Bytes
	}
	if len(f.IncludedFiles) == 0 {
		info.IncludedFiles = nil // None is what Barman writes
	}
	if f.SummarizeWAL != "" {
		info.SummarizeWAL = &f.SummarizeWAL
	}
	info.Tablespaces = nil
	for _, t := range f.Tablespaces {
		info.Tablespaces = append(info.Tablespaces, backupinfo.Tablespace{Name: t.Name, OID: t.OID, Location: t.Location})
	}
	lsn, err := wal.ParseLSN(b.LSN)
	if err != nil {
		return err
	}
	setBegin(info, b.Timeline, lsn)
	info.BeginTime = &b.At
	if err := cat.Save(info); err != nil {
		return err
	}
	extra.Attempts = append(extra.Attempts, catalog.Attempt{Number: ref.Attempt, Epoch: s.Epoch, Begun: b.At})
	return cat.SaveExtra(ref.ID, extra)
}

func setBegin(info *backupinfo.Info, tli uint32, lsn wal.LSN) {
	size := *info.SegmentSize
	name, offset := wal.SegmentOf(tli, lsn, size).Name(), wal.Offset(lsn, size)
	info.Timeline, info.BeginLSN, info.BeginWAL, info.BeginOffset = &tli, &lsn, &name, &offset
}

func (c *Catalogue) load(ctx context.Context, ref Ref) (*catalog.Catalog, *backupinfo.Info, *catalog.Extra, error) {
	cat, err := c.open(ctx, ref.Server)
	if err != nil {
		return nil, nil, nil, err
	}
	info, err := cat.Get(ref.ID)
	if err != nil {
		return nil, nil, nil, err
	}
	extra, err := cat.Extra(ref.ID)
	return cat, info, extra, err
}

// afterCopy is added to an activity's number in claims of what follows a copy,
// so that they supersede every copy of the same attempt.
const afterCopy = 1 << 20

// RecordCopied stores the label and the end of the backup, which then waits
// for its WAL.
func (c *Catalogue) RecordCopied(ctx context.Context, ref Ref, plan Plan, stopped StoppedSession, copied Copied) error {
	return during(ctx, "stores the backup label", func(ctx context.Context) error { return c.recordCopied(ctx, ref, plan, stopped, copied) })
}

func (c *Catalogue) recordCopied(ctx context.Context, ref Ref, plan Plan, stopped StoppedSession, copied Copied) error {
	cat, info, extra, err := c.load(ctx, ref)
	if err != nil {
		return err
	}
	f, err := claim(ctx, cat, ref, afterCopy, false)
	if err != nil {
		return err
	}
	if err := setEnd(info, plan, stopped, copied); err != nil {
		return err
	}
	if err := checkParent(cat, info); err != nil {
		return err
	}
	extra.BadPages, extra.Sent = copied.BadPages, copied.StoreBytes
	switch {
	case plan.Method == config.MethodLocalToCloud:
		extra.TablespaceMap = bucket.MapObject
		if copied.ClusterBytes > 0 {
			info.ClusterSize = &copied.ClusterBytes
		}
		stored, err := c.finishCloud(ctx, cat, info, ref, f, stopped)
		if err != nil {
			return err
		}
		copied.Bytes, copied.DedupBytes, extra.Sent = copied.Bytes+stored, copied.DedupBytes+stored, extra.Sent+stored
		if err := cat.SaveExtra(ref.ID, extra); err != nil {
			return err
		}
	case plan.Bracket != Native:
		extra.TablespaceMap = "holdfast/tablespace_map"
		if err := f.Do(func() error { return storeLabel(cat, ref.ID, plan, stopped) }); err != nil {
			return err
		}
		if plan.Method != config.MethodSnapshot {
			if err := c.generateManifest(cat, info, ref, stopped.Label, f); err != nil {
				return err
			}
		} else if err := c.storeCloudLabel(ctx, info, ref); err != nil {
			return err
		}
		if err := cat.SaveExtra(ref.ID, extra); err != nil {
			return err
		}
	}
	info.Status = backup.WaitingForWALs
	if info.Snapshots, err = extra.Snapshots.BackupInfo(); err != nil {
		return err
	}
	info.Size, info.DeduplicatedSize = &copied.Bytes, &copied.DedupBytes
	info.Compression, info.Encryption = nil, nil
	if copied.Compression != "" {
		info.Compression = &copied.Compression
	}
	if copied.Encryption != "" {
		info.Encryption = &copied.Encryption
	}
	stats := copyStats(plan, copied).String()
	info.CopyStats = &stats
	return cat.Save(info)
}

// storeLabel writes the label that the server has returned. That of an exclusive
// backup lies in the data directory, and a copy has it from there.
func storeLabel(cat *catalog.Catalog, id backup.ID, plan Plan, stopped StoppedSession) error {
	path := filepath.Join(cat.DataDir(id), "backup_label")
	if plan.Method == config.MethodSnapshot {
		if err := os.MkdirAll(cat.DataDir(id), 0o700); err != nil {
			return fault.Wrap(fault.Internal, "create directory", cat.DataDir(id), err)
		}
	}
	if plan.Bracket == Concurrent || plan.Method == config.MethodSnapshot {
		// What a killed write left would be a file that no manifest knows.
		if err := atomicfile.SweepFile(path); err != nil {
			return err
		}
		if err := atomicfile.Write(path, []byte(stopped.Label), 0o600); err != nil {
			return err
		}
	} else if copied, err := os.ReadFile(path); err != nil || string(copied) != stopped.Label {
		return fault.New(fault.Corrupt, "check", path, "it is not the label of the server's data directory").
			WithHint("take another backup; if this happens again, another backup tool works on the same server")
	}
	return atomicfile.Write(filepath.Join(cat.WorkDir(id), "tablespace_map"), []byte(stopped.TablespaceMap), 0o600)
}

// setEnd fills in the label and the end, and refuses what could not be restored.
func setEnd(info *backupinfo.Info, plan Plan, stopped StoppedSession, copied Copied) error {
	text := stopped.Label
	if plan.Bracket == Native {
		text = copied.Label
	}
	label, err := backuplabel.Parse(text)
	if err != nil {
		return err
	}
	switch {
	case plan.Bracket == Native:
		setBegin(info, label.Timeline, label.StartLSN)
	case label.StartLSN != *info.BeginLSN:
		return fault.New(fault.Corrupt, "check", "backup label", "it begins at %s, the session at %s", label.StartLSN, *info.BeginLSN)
	}
	if stopped.Timeline != *info.Timeline {
		return fault.New(fault.Refused, "back up", info.ServerName, "the server was promoted meanwhile: the backup begins on timeline %d and ends on %d", *info.Timeline, stopped.Timeline).
			WithHint("take another backup: holdfast backup %s", info.ServerName)
	}
	end, err := wal.ParseLSN(stopped.LSN)
	if err != nil {
		return err
	}
	size := *info.SegmentSize
	offset := wal.Offset(end, size)
	seg := wal.SegmentOf(stopped.Timeline, end, size)
	if offset == 0 {
		// The last byte that is needed lies in the segment before.
		seg = wal.SegmentOf(stopped.Timeline, end-1, size)
	}
	name := seg.Name()
	info.BackupLabel, info.EndTime, info.EndLSN, info.EndWAL, info.EndOffset = &text, &stopped.At, &end, &name, &offset
	if plan.Bracket == Exclusive {
		info.BackupLabel = nil // as Barman has it
	}
	return nil
}

// claim takes the right to write into a backup's files.
func claim(ctx context.Context, cat *catalog.Catalog, ref Ref, base int, adopt bool) (*fence.Fence, error) {
	info := activity.GetInfo(ctx)
	n := base + int(info.Attempt)
	return fence.Take(ctx, cat.WorkDir(ref.ID), fence.Claim{Attempt: ref.Attempt, Activity: n, Adopt: adopt,
		Token: fmt.Sprintf("%s/%d/%s/%d", info.WorkflowExecution.RunID, ref.Attempt, info.ActivityID, n)})
}

// RecordDone is the commit marker: everything that the backup consists of was
// read back.
func (c *Catalogue) RecordDone(ctx context.Context, ref Ref, p Proven) (recorded Recorded, err error) {
	err = during(ctx, "declares the backup done", func(ctx context.Context) (err error) {
		recorded, err = c.recordDone(ctx, ref, p)
		return err
	})
	return recorded, err
}

// undisturbed keeps others from deleting a backup, and finds out whether one has begun to.
func (c *Catalogue) undisturbed(ctx context.Context, ref Ref) (deleting bool, release func(), err error) {
	cat, err := c.open(ctx, ref.Server)
	if err != nil {
		return false, nil, err
	}
	lock, err := cat.AwaitID(ctx, ref.ID)
	if err != nil {
		return false, nil, err
	}
	if deleting, err = cat.Deleting(ref.ID); err != nil {
		lock.Release()
		return false, nil, err
	}
	return deleting, func() { lock.Release() }, nil
}

func (c *Catalogue) recordDone(ctx context.Context, ref Ref, p Proven) (Recorded, error) {
	deleting, release, err := c.undisturbed(ctx, ref)
	if err != nil {
		return Recorded{}, err
	}
	defer release()
	if deleting {
		return Recorded{}, fault.New(fault.Refused, "declare done", string(ref.ID), "its deletion has begun").
			WithHint("maintenance finishes the deletion: holdfast retention %s", ref.Server)
	}
	cat, info, extra, err := c.load(ctx, ref)
	if err != nil {
		return Recorded{}, err
	}
	extra.Proof = &catalog.Proof{At: p.At, Files: p.Files, Objects: p.Objects, Bytes: p.Bytes, ManifestSHA256: p.ManifestSHA256, Snapshots: p.Snapshots, Unread: p.Unread, WALFrom: *info.BeginWAL, WALTo: *info.EndWAL}
	if err := extra.Snapshots.Locked(p.Locks); err != nil {
		return Recorded{}, err
	}
	if err := cat.SaveExtra(ref.ID, extra); err != nil {
		return Recorded{}, err
	}
	info.Status, info.Error = backup.Done, nil
	if info.Snapshots, err = extra.Snapshots.BackupInfo(); err != nil {
		return Recorded{}, err
	}
	if err := cat.Save(info); err != nil {
		return Recorded{}, err
	}
	if err := tidy(cat, ref.ID); err != nil {
		return Recorded{}, err
	}
	// The backup is done, also where others cannot be read: then the purge says so.
	previous, err := cat.Previous(ref.ID)
	return Recorded{Follows: err == nil && previous != nil}, nil
}

// tidy removes what only a running backup needs.
func tidy(cat *catalog.Catalog, id backup.ID) error {
	if err := cat.SweepRecord(id); err != nil {
		return err
	}
	entries, err := os.ReadDir(cat.WorkDir(id))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Wrap(fault.Internal, "list", cat.WorkDir(id), err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), runPrefix) || strings.HasPrefix(e.Name(), atomicfile.TempPrefix) {
			if err := os.RemoveAll(filepath.Join(cat.WorkDir(id), e.Name())); err != nil {
				return fault.Wrap(fault.Internal, "remove", e.Name(), err)
			}
		}
	}
	return nil
}

// RecordScheduledRun records what became of a backup that was due.
func (c *Catalogue) RecordScheduledRun(ctx context.Context, server string, run schedule.Run) error {
	return during(ctx, "records the scheduled run", func(ctx context.Context) error {
		cat, err := c.open(ctx, server)
		if err != nil {
			return err
		}
		return cat.SaveScheduledRun(run)
	})
}
