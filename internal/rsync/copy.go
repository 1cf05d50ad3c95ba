package rsync

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
)

// Fence lets us write as long as nobody has superseded us (package fence).
type Fence interface {
	// Do runs a short write, or refuses.
	Do(write func() error) error
	// Lease is inherited by children that write, and keeps successors waiting.
	Lease() (*os.File, error)
	// Marker is the environment entry by which successors find children.
	Marker() string
}

// Tree is a directory that is copied as a whole.
type Tree struct {
	Name     string // for people
	Source   string
	Dest     string
	Path     string   // of its root in a manifest; "" for the data directory
	Only     string   // pattern of the names at its root that belong to it; "" for all
	Exclude  []string // patterns
	Previous string   // its copy in the previous backup; "" when nothing is reused
	RateKB   int      // limit for all jobs together, in KiB/s; 0 for none
}

// Single is a file that is copied on its own.
type Single struct {
	Name         string // for people
	Source, Dest string
	Path         string // in a manifest
	Optional     bool   // it may be missing
}

// Reuse is what is done with files that the previous backup has already.
type Reuse string

// The values of reuse_backup.
const (
	ReuseOff  Reuse = "off"
	ReuseCopy Reuse = "copy"
	ReuseLink Reuse = "link"
)

// Job is a copy.
type Job struct {
	Program          string // rsync
	Fence            Fence
	WorkDir          string
	Journal          string // file in which progress is recorded
	Manifest         string // file that is written at the end
	Trees            []Tree
	Singles          []Single // copied after the trees
	Control          Single   // pg_control, copied last
	SystemID         uint64
	ManifestV2       bool // PostgreSQL 17 and later: the manifest names the cluster
	Attempt          int  // at the backup; each has a session of its own
	From             Host // that the cluster's files lie on; nil for this one
	Compress         bool // what comes from there
	Host, Boot       string
	Reuse            Reuse
	Horizon          time.Time // begin of the previous backup
	PreviousManifest string    // ours, of the previous backup; "" when there is none
	Jobs             int
	StartBatch       int // jobs that may start within one StartPeriod
	StartPeriod      time.Duration
	RetryTimes       int
	RetrySleep       time.Duration
	Progress         *Progress // may be nil
}

// Progress may be read while a copy runs.
type Progress struct {
	what               atomic.Pointer[string]
	Done, Total, Files atomic.Int64 // bytes, bytes, files
}

func (p *Progress) say(what string) { p.what.Store(&what) }

// What is being done, in words for people.
func (p *Progress) What() string {
	if s := p.what.Load(); s != nil {
		return *s
	}
	return "prepares the copy"
}

// Result is what a copy consists of.
type Result struct {
	Bytes      int64
	DedupBytes int64 // of files that no other backup shares
	Files      int64
	Sent       int64 // files that rsync transferred, by its own count
	Kept       int64 // files of an earlier run that were still right
	Reused     int64 // files of the previous backup
	Analysis   time.Duration
	Copy       time.Duration
	Items      []Item
	Jobs       int
	Manifest   manifest.Summary
}

// Copy copies what has to be copied, removes from the destination what does
// not belong there, and writes the manifest; all of it is durable when it
// returns. It may be repeated after any end, and must be as long as the cluster
// is in backup mode.
func Copy(ctx context.Context, job Job) (Result, error) {
	if job.Progress == nil {
		job.Progress = &Progress{}
	}
	c := &copier{Job: job, from: sourceOf(job)}
	res, err := c.run(ctx)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = c.full(err)
	}
	return res, err
}

// copier is one call of Copy.
type copier struct {
	Job
	from    source
	filters []datadir.Filter
	journal *journal
	listing *listing
	known   *known
	clock   clock

	mu      sync.Mutex
	final   []int64         // where the journal has what the backup consists of
	singles []manifest.File // what is not in the journal

	files, bytes, dedup, sent, kept, reused atomic.Int64
}

func (c *copier) run(ctx context.Context) (Result, error) {
	began := time.Now()
	if err := c.open(ctx); err != nil {
		return Result{}, err
	}
	defer c.journal.close()
	defer c.listing.close()
	c.Progress.say("lists the cluster's files")
	for i, t := range c.Trees {
		started := time.Now()
		if err := c.analyse(ctx, i, t); err != nil {
			return Result{}, err
		}
		c.clock.analysed(t.Name, started)
	}
	if err := c.listing.flush(); err != nil {
		return Result{}, err
	}
	defer func() { c.known.close() }()
	if err := c.know(ctx); err != nil {
		return Result{}, err
	}
	analysed := time.Now()
	batches := c.batches()
	c.Progress.say(copying(c.streams(batches)))
	if err := c.copyBatches(ctx, batches); err != nil {
		return Result{}, err
	}
	c.Progress.say("copies configuration files and pg_control")
	if err := c.copySingles(ctx); err != nil {
		return Result{}, err
	}
	if err := c.copyControl(ctx); err != nil {
		return Result{}, err
	}
	if err := c.from.release(ctx); err != nil {
		return Result{}, err
	}
	c.Progress.say("makes the copy durable")
	sum, err := c.writeManifest(ctx)
	if err != nil {
		return Result{}, err
	}
	if err := c.clearTemporary(false); err != nil {
		return Result{}, err
	}
	if err := c.sync(); err != nil {
		return Result{}, err
	}
	return Result{Bytes: c.bytes.Load(), DedupBytes: c.dedup.Load(), Files: c.files.Load(), Sent: c.sent.Load(), Kept: c.kept.Load(), Reused: c.reused.Load(),
		Analysis: analysed.Sub(began), Copy: time.Since(analysed), Items: c.clock.list(), Jobs: c.streams(batches), Manifest: sum}, nil
}

// analyse finds out what of a tree is to be copied.
func (c *copier) analyse(ctx context.Context, i int, t Tree) error {
	at, err := c.from.survey(ctx, t, c.filters[i])
	if err != nil {
		return err
	}
	defer at.close()
	if err := c.sweep(ctx, i, t, at); err != nil {
		return err
	}
	return c.list(ctx, i, t, at)
}

func (c *copier) open(ctx context.Context) (err error) {
	for _, t := range c.Trees {
		f, err := datadir.NewFilter(t.Only, t.Exclude)
		if err != nil {
			return fault.Wrap(fault.Internal, "read exclusions of", t.Name, err)
		}
		c.filters = append(c.filters, f)
	}
	if err := c.clearTemporary(true); err != nil {
		return err
	}
	w, err := c.from.world(ctx)
	if err != nil {
		return err
	}
	if c.listing, err = newListing(c.WorkDir, c.Fence, len(c.Trees)); err != nil {
		return err
	}
	this := run{World: datadir.World{Host: w.host, Boot: w.boot, System: fmt.Sprint(c.SystemID)}, Attempt: c.Attempt, Listed: w.now}
	if c.journal, err = openJournal(c.Journal, c.Fence, this); err != nil {
		c.listing.close()
	}
	return err
}

// temporary is where rsync keeps files that have not arrived yet. It is on the
// file system of the backup, so that they can be renamed.
func (c *copier) temporary() string { return c.Journal + ".temporary" }

func (c *copier) clearTemporary(make bool) error {
	return c.Fence.Do(func() error {
		if err := os.RemoveAll(c.temporary()); err != nil {
			return fault.Wrap(fault.Internal, "remove", c.temporary(), err)
		}
		if !make {
			return nil
		}
		return fault.Wrap(fault.Internal, "create directory", c.temporary(), os.MkdirAll(c.temporary(), 0o700))
	})
}

// count adds a file that is where it belongs.
func (c *copier) count(size int64, shared bool) {
	c.files.Add(1)
	c.bytes.Add(size)
	if !shared {
		c.dedup.Add(size)
	}
	c.Progress.Files.Add(1)
	c.Progress.Done.Add(size)
}

// sync makes everything that was copied durable. All trees are in one
// directory of backups.
func (c *copier) sync() error {
	dir, err := os.Open(c.WorkDir)
	if err != nil {
		return fault.Wrap(fault.Internal, "open", c.WorkDir, err)
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fault.Wrap(fault.Disk, "make durable", filepath.Dir(c.WorkDir), err)
	}
	return nil
}

// full says of a full disk how much room is missing.
func (c *copier) full(cause error) error {
	dir := filepath.Dir(c.WorkDir)
	need := max(0, c.Progress.Total.Load()-c.Progress.Done.Load())
	free := "unknown"
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) == nil {
		free = fmt.Sprint(st.Bavail * uint64(st.Bsize))
	}
	return fault.New(fault.Disk, "copy to", dir, "%w; %d bytes are still to be copied, %s bytes are free", cause, need, free).
		WithHint("free space on the file system of %s; what was copied so far stays, and is not copied again when this backup goes on", dir)
}

// copying is what a copy says that it does.
func copying(streams int) string {
	if streams == 1 {
		return "copies files with one rsync"
	}
	return fmt.Sprintf("copies files with %d rsync processes", streams)
}
