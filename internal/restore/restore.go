package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/gpg"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// walFetcher delivers one file of the WAL archive, uncompressed.
type walFetcher interface {
	Fetch(ctx context.Context, name, dest string) error
}

// Source is where a backup's files are.
type Source struct {
	Info      *backupinfo.Info
	Data      string            // the image of the data directory
	TableDirs map[uint32]string // the image of each tablespace, by OID
	WAL       walFetcher
	Keys      *gpg.Keys // of encrypted archives
	Parents   []Source  // what an incremental backup builds on, the full one first
	// Objects are the archives of a backup in an object store, by OID, that of the data directory
	// being 0; Data and TableDirs are then empty. Of members of one name that of the last archive counts.
	Objects  map[uint32][]basetar.Archive
	Snapshot *Snapshot // Data and TableDirs are directories of disk snapshots; nil when they are not
}

// Options bound a restore.
type Options struct {
	Jobs     int                            // files copied at once; at least 1
	Progress func(done, total int64)        // bytes; may be nil
	Resumed  func(id string, done, all int) // archives of a backup that an earlier restore has unpacked; may be nil
	Combine  Combine                        // of incremental backups
}

// filler brings a backup's files to where they are built.
type filler interface {
	prepare(trees []*tree) error // what has to be done before the size of the result is known
	run(trees []*tree) error     // all but pg_control
	control(data *tree) error    // pg_control, the last of them
	did() (files, bytes int64)   // so far
	notes() *ledger              // of the destination; nil where none is kept
	ledgers() []*ledger          // all that are kept
	close(keep bool)             // after a failure
}

// Result says what was done.
type Result struct {
	Files, Bytes int64
	WALFiles     int
	Changes      []Change // settings that were changed in the restored configuration
	Warnings     []Change // settings that the user should look at
	MissingFiles []string // configuration files that the backup does not hold
}

// Unfinished is the error of a restore that can go on where it was, when it is run again.
type Unfinished struct {
	Dirs []string // with what was unpacked, that of the data directory first
	Err  error
}

func (u *Unfinished) Error() string { return u.Err.Error() }

// Unwrap returns the cause.
func (u *Unfinished) Unwrap() error { return u.Err }

// stages of a restore, by what a failure leaves: all that was there; what an earlier restore has
// noted; what this one has, if waiting helps; that, unless it takes the room of a full disk.
const (
	claiming = iota
	measuring
	filling
	fetching
)

// Run carries out a plan. On failure the destinations are as they were, unless they are
// disks that were mounted, and where the error is Unfinished what was unpacked waits beside them.
func Run(ctx context.Context, src Source, plan *restoreplan.Plan, opt Options) (res *Result, err error) {
	if src.Snapshot != nil && src.Snapshot.Mounted {
		return runMounted(ctx, src, plan, opt)
	}
	trees, err := inventory(src, plan)
	if err != nil {
		return nil, err
	}
	places := map[string]*place{}
	finished, stage := 0, claiming
	var log *journal
	var c filler
	order := []*place{}
	defer func() {
		if err == nil || finished > 0 {
			return
		}
		keep := stage == claiming
		if c != nil {
			worth := stage == measuring || ctx.Err() != nil || worthWaiting(err) || stage == fetching && !fault.Is(err, fault.Disk)
			if keep = stopNoting(c.ledgers(), worth); keep && stage != measuring {
				err = &Unfinished{directories(c.ledgers()), err}
			}
			c.close(keep)
		}
		for _, p := range order {
			p.close(keep)
		}
		if log != nil && !log.marker {
			err = errors.Join(err, log.end())
		}
	}()
	// The data directory comes first, so that a tablespace below it can be
	// built inside its tree.
	for _, t := range trees {
		if t.inside(plan.Dest) {
			continue
		}
		p, err := openPlace(t.what, t.dest, t.remedy)
		if err != nil {
			return nil, err
		}
		places[t.dest] = p
		order = append(order, p)
		if t.isData {
			log = journalOf(p)
			if err := log.undo(); err != nil {
				return nil, err
			}
		}
	}
	for _, t := range trees {
		t.locate(plan.Dest, places)
	}
	stage = measuring
	if c, err = newFiller(ctx, src, opt, trees, plan, order); err != nil {
		return nil, err
	}
	stage = filling
	if err := c.prepare(trees); err != nil {
		return nil, err
	}
	stage = measuring
	if err := enoughSpace(trees, src, plan, c); err != nil {
		return nil, err
	}

	stage = filling
	notes := c.notes()
	notes.keep()
	res = &Result{}
	if err := c.run(trees); err != nil {
		return nil, err
	}
	if err := labelled(src, trees[0]); err != nil {
		return nil, err
	}
	if src.Snapshot != nil {
		if err := src.Snapshot.finish(trees[0]); err != nil {
			return nil, err
		}
	}
	stage = fetching
	res.Files, res.Bytes = c.did()
	data := places[plan.Dest]
	if err := linkTablespaces(data.build, plan); err != nil {
		return nil, err
	}
	if err := fetchWAL(ctx, src, plan, data.build, max(1, opt.Jobs), notes); err != nil {
		return nil, err
	}
	res.WALFiles = len(plan.WAL)
	stage = filling
	if err := notes.close(); err != nil {
		return nil, err
	}
	if err := res.configure(data.build, src.Info, plan); err != nil {
		return nil, err
	}
	if err := atomicfile.Write(filepath.Join(data.build, ".barman-recover.info"), src.Info.Encode(), 0o600); err != nil {
		return nil, err
	}
	for _, p := range order {
		if err := p.sync(); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(c.control(trees[0]), notes.remove()); err != nil {
		return nil, err
	}
	if err := data.sync(); err != nil {
		return nil, err
	}
	if err := log.begin(order[1:]); err != nil {
		return nil, err
	}
	// Tablespaces first: a data directory under its final name is complete.
	for i := len(order) - 1; i >= 0; i-- {
		if err := order[i].finish(); err != nil {
			return nil, err
		}
		finished++
	}
	return res, log.end()
}

// newFiller copies or unpacks a full backup, and combines an incremental one with
// those that it builds on. What was left in the places is removed, unless it is gone on with.
func newFiller(ctx context.Context, src Source, opt Options, trees []*tree, plan *restoreplan.Plan, order []*place) (filler, error) {
	chain := len(src.Parents) > 0
	c := newCopier(ctx, opt, trees)
	if src.Objects != nil && !chain {
		return c, c.note(src, trees, plan, order, opt)
	}
	for i, p := range order {
		spare := ""
		if i == 0 && chain {
			spare = stagingInside
		}
		if err := p.empty(spare); err != nil {
			return nil, err
		}
	}
	if chain {
		return newCombiner(ctx, src, opt, order), nil
	}
	return c, nil
}

// linkTablespaces makes the links of pg_tblspc anew; those of the source would
// lead into the running server's directories.
func linkTablespaces(data string, plan *restoreplan.Plan) error {
	dir := filepath.Join(data, "pg_tblspc")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fault.Wrap(fault.Internal, "create directory", dir, err)
	}
	for _, t := range plan.Tablespaces {
		link := filepath.Join(dir, fmt.Sprint(t.OID))
		if err := os.Symlink(t.Dest, link); err != nil {
			return fault.Wrap(fault.Internal, "link tablespace "+t.Name, link, err)
		}
	}
	return nil
}

func fetchWAL(ctx context.Context, src Source, plan *restoreplan.Plan, data string, jobs int, notes *ledger) error {
	for _, dir := range []string{"pg_wal/archive_status", plan.WALDir} {
		if err := os.MkdirAll(filepath.Join(data, dir), 0o700); err != nil {
			return fault.Wrap(fault.Internal, "create directory", dir, err)
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	for _, name := range plan.WAL {
		g.Go(func() error {
			if unit := walUnit(plan, name); !notes.done(unit) {
				to := filepath.Join(data, plan.WALDir, name)
				err := src.WAL.Fetch(ctx, name, to)
				if err == nil {
					err = notes.addFile(unit, to)
				}
				if err != nil {
					return fault.Wrap(fault.Internal, "fetch WAL", name, err)
				}
			}
			if !plan.MarkDone {
				return nil
			}
			done := filepath.Join(data, "pg_wal/archive_status", name+".done")
			if err := os.WriteFile(done, nil, 0o600); err != nil {
				return fault.Wrap(fault.Internal, "create", done, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// enoughSpace refuses a restore that cannot fit, before a byte is written.
func enoughSpace(trees []*tree, src Source, plan *restoreplan.Plan, c filler) error {
	notes := c.notes()
	need := map[uint64]int64{}
	at := map[uint64]string{}
	free := map[uint64]int64{}
	all := int64(0)
	for i, t := range trees {
		var st unix.Stat_t
		if err := unix.Stat(t.existing(), &st); err != nil {
			return fault.Wrap(fault.Internal, "stat", t.build, err)
		}
		var fsys unix.Statfs_t
		if err := unix.Statfs(t.existing(), &fsys); err != nil {
			return fault.Wrap(fault.Internal, "statfs", t.build, err)
		}
		if t.filter == nil || !t.clones() {
			_, brought := notes.brought(t)
			need[st.Dev] += t.bytes - brought
		}
		if i == 0 && src.Info.SegmentSize != nil {
			for _, name := range plan.WAL {
				if !notes.done(walUnit(plan, name)) {
					need[st.Dev] += int64(*src.Info.SegmentSize)
				}
			}
		}
		at[st.Dev], free[st.Dev] = t.dest, int64(fsys.Bavail)*fsys.Bsize
	}
	for dev, n := range need {
		if n > free[dev] {
			return lacksSpace(at[dev], n, free[dev])
		}
		all += free[dev]
	}
	// What objects expand to is not known, but not less than the databases had.
	if size := src.Info.ClusterSize; src.Objects != nil && size != nil {
		_, brought := c.did()
		if need := *size - brought; need > all {
			return lacksSpace(plan.Dest, need, all)
		}
	}
	return nil
}

func lacksSpace(at string, need, free int64) error {
	return fault.New(fault.Disk, "restore to", at, "%d bytes are needed, %d are free", need, free).
		WithHint("free %d bytes on that file system, or restore to another one; nothing was written", need-free)
}

// exclusions of §12.2: contents that belong to the source's server, and files
// that a restore makes itself. Paths are relative to the data directory.
func excluded(rel string, isDir bool) bool {
	switch rel {
	case "postmaster.pid", "recovery.conf", "tablespace_map", "recovery.signal", "standby.signal", controlFile, "postgresql.auto.conf.tmp":
		return true
	}
	for _, dir := range []string{"pg_log", "log", "pg_xlog", "pg_wal"} {
		if strings.HasPrefix(rel, dir+"/") {
			return true
		}
	}
	// Only links lead to tablespaces there; a real directory is a developer's in-place tablespace.
	return !isDir && strings.HasPrefix(rel, "pg_tblspc/") && strings.Count(rel, "/") == 1
}
