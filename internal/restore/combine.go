package restore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/combinebackup"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// Combine is how an incremental backup and those that it builds on become one.
type Combine struct {
	Program string // pg_combinebackup of the backup's version
	Mode    string // copy, link, clone or copy-file-range
	Staging string // directory for what must be unpacked first; "" for the destination's place
}

// combiner fills the destination by way of pg_combinebackup.
type combiner struct {
	ctx     context.Context
	opt     Options
	how     combinebackup.Options
	chain   []Source // the full backup first; as they are combined
	places  []*place // that of the data directory first
	staging *staging
	meter   *meter
	held    string // pg_control, until it is placed
	sum     manifest.Summary
}

// meter adds up the bytes of everything that is done one after the other.
type meter struct {
	done, total atomic.Int64
	show        func(done, total int64)
}

func (m *meter) add(n int64) {
	if done := m.done.Add(n); m.show != nil {
		m.show(done, max(done, m.total.Load()))
	}
}

// combineInside is where pg_combinebackup writes to: it wants empty directories.
const combineInside = ".holdfast-combined"

func newCombiner(ctx context.Context, src Source, opt Options, places []*place) *combiner {
	newest := src
	newest.Parents = nil // each member counts on its own from here on
	c := &combiner{ctx: ctx, opt: opt, meter: &meter{show: opt.Progress}, places: places, chain: append(slices.Clone(src.Parents), newest)}
	c.how.Mode = opt.Combine.Mode
	return c
}

// prepare makes ready what is combined, and measures the result. What is kept as plain files is
// read where it lies, unless its files would be linked, or its links to tablespaces lead elsewhere.
func (c *combiner) prepare(trees []*tree) error {
	var todo []int
	need := int64(0)
	for i, s := range c.chain {
		wanted, bytes, err := c.toStage(s)
		if err != nil {
			return err
		}
		if wanted {
			todo, need = append(todo, i), need+bytes
		}
	}
	if inside := filepath.Join(c.places[0].build, stagingInside); len(todo) == 0 || c.opt.Combine.Staging != "" {
		if err := os.RemoveAll(inside); err != nil {
			return fault.Wrap(fault.Internal, "remove", inside, err)
		}
	}
	if len(todo) == 0 {
		return c.measure(trees)
	}
	c.meter.total.Store(need)
	var err error
	if c.staging, err = openStaging(c.opt.Combine.Staging, c.places[0], c.chain); err != nil {
		return err
	}
	if err := c.checkStaging(need, c.places[0]); err != nil {
		return err
	}
	for _, i := range todo {
		last := int64(0)
		o := Options{Jobs: c.opt.Jobs, Resumed: c.opt.Resumed, Progress: func(done, _ int64) { c.meter.add(done - atomic.SwapInt64(&last, done)) }}
		if c.chain[i], err = c.staging.stage(c.ctx, c.chain[i], o); err != nil {
			return err
		}
	}
	return c.measure(trees)
}

func (c *combiner) ledgers() []*ledger {
	if c.staging == nil {
		return nil
	}
	return c.staging.notes
}

func (c *combiner) notes() *ledger { return nil }

func (c *combiner) close(keep bool) {
	if c.staging != nil {
		c.staging.close(keep)
	}
	for _, p := range c.places {
		if keep {
			_ = p.empty(stagingInside) // the next restore does it otherwise
		}
	}
}

// toStage reports whether a backup has to be staged, and how large it is then.
func (c *combiner) toStage(s Source) (wanted bool, bytes int64, err error) {
	archives, err := s.archives()
	if err != nil {
		return false, 0, err
	}
	if archives == nil && c.how.Mode != combinebackup.Link && linksLeadTo(s) {
		return false, 0, nil
	}
	plan := &restoreplan.Plan{}
	for _, t := range s.Info.Tablespaces {
		plan.Tablespaces = append(plan.Tablespaces, restoreplan.Tablespace{OID: t.OID, Name: t.Name})
	}
	trees, err := inventory(s, plan)
	for _, t := range trees {
		bytes += t.bytes
	}
	return true, bytes, err
}

// linksLeadTo reports whether the tablespaces of a backup are where its own links
// lead: they hold whole paths, and a catalogue may have moved.
func linksLeadTo(s Source) bool {
	for oid, dir := range s.TableDirs {
		there, err := os.Stat(filepath.Join(s.Data, "pg_tblspc", fmt.Sprint(oid)))
		ours, err2 := os.Stat(dir)
		if err != nil || err2 != nil || !os.SameFile(there, ours) {
			return false
		}
	}
	return true
}

// checkStaging refuses what cannot fit, the result included where it goes to the
// same file system.
func (c *combiner) checkStaging(need int64, data *place) error {
	var here, there unix.Stat_t
	var free unix.Statfs_t
	if err := errors.Join(unix.Stat(c.staging.dir, &here), unix.Stat(data.build, &there), unix.Statfs(c.staging.dir, &free)); err != nil {
		return fault.Wrap(fault.Internal, "look at", c.staging.dir, err)
	}
	same := here.Dev == there.Dev
	if c.how.Mode == combinebackup.Link && !same {
		return fault.New(fault.Refused, "link from", c.staging.dir, "it is on another file system than %s", data.final).
			WithHint("let staging_path name a directory on the same one, or use --combine-mode copy")
	}
	if size := c.chain[len(c.chain)-1].Info.ClusterSize; same && size != nil && c.how.Mode == combinebackup.Copy {
		need += *size
	}
	if avail := int64(free.Bavail)*free.Bsize + c.staging.size(); need > avail {
		return fault.New(fault.Disk, "unpack to", c.staging.dir, "%d bytes are needed to combine the backups, %d are free", need, avail).
			WithHint("free space there, or name another directory with --staging-path; nothing was written")
	}
	return nil
}

// measure estimates what the result takes, by tree.
func (c *combiner) measure(trees []*tree) error {
	newest := c.chain[len(c.chain)-1]
	trees[0].src, trees[0].tars = newest.Data, nil
	for i, t := range newest.Info.Tablespaces {
		trees[i+1].src, trees[i+1].tars = newest.TableDirs[t.OID], nil
	}
	for _, t := range trees {
		if err := t.walk(func(rel string, d fs.DirEntry) error {
			info, err := d.Info()
			if err != nil || !info.Mode().IsRegular() {
				return err
			}
			size := info.Size()
			if strings.HasPrefix(d.Name(), "INCREMENTAL.") {
				if size, err = reconstructed(filepath.Join(t.src, rel)); err != nil {
					return err
				}
			}
			t.files++
			t.bytes += size
			return nil
		}); err != nil {
			return fault.Wrap(fault.Internal, "read backup directory", t.src, err)
		}
	}
	return nil
}

// blockSize is PostgreSQL's, unless it was built with another one.
const blockSize = 8192

// reconstructed is about how long the file will be that an incremental one is a
// part of. Its header is: magic, number of blocks, length in blocks.
func reconstructed(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	header := make([]byte, 12)
	if _, err := io.ReadFull(f, header); err != nil {
		return 0, fault.Wrap(fault.Corrupt, "read", path, err)
	}
	return int64(binary.NativeEndian.Uint32(header[8:])) * blockSize, nil
}

// run combines, and compares the result with its manifest.
func (c *combiner) run(trees []*tree) error {
	total := c.meter.total.Load()
	for _, t := range trees {
		total += 2 * t.bytes // written, and read back
	}
	c.meter.total.Store(total)
	if err := c.plan(trees); err != nil {
		return err
	}
	watching, stop := context.WithCancel(c.ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.watch(watching, trees)
	}()
	err := command.Run(c.ctx, command.Spec{Path: c.opt.Combine.Program, Args: combinebackup.Args(c.how), Stdout: io.Discard})
	stop()
	<-watched
	if err != nil {
		return combinebackup.Classify(c.how, err)
	}
	if err := c.verify(); err != nil {
		return err
	}
	return c.unwrap(trees)
}

// flush makes the disk write the result while it is read back from memory. That
// all of it is durable is made sure of later.
func (c *combiner) flush() (wait func()) {
	dir, err := os.Open(c.how.Output)
	if err != nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer dir.Close()
		_ = unix.Syncfs(int(dir.Fd()))
	}()
	return func() { <-done }
}

// plan says what is combined to where.
func (c *combiner) plan(trees []*tree) error {
	newest := c.chain[len(c.chain)-1]
	c.how.Output = filepath.Join(trees[0].build, combineInside)
	c.how.Checksums = string(manifest.CRC32C) // made while it writes, and read back at the speed of memory
	for _, s := range c.chain {
		c.how.Inputs = append(c.how.Inputs, s.Data)
	}
	for i, t := range newest.Info.Tablespaces {
		link := filepath.Join(newest.Data, "pg_tblspc", fmt.Sprint(t.OID))
		from, err := os.Readlink(link)
		if err != nil {
			return fault.Wrap(fault.Corrupt, "find tablespace "+t.Name, link, err)
		}
		to := trees[i+1].build
		if err := os.MkdirAll(to, 0o700); err != nil {
			return fault.Wrap(fault.Internal, "create directory", to, err)
		}
		c.how.Tablespaces = append(c.how.Tablespaces, combinebackup.Tablespace{From: from, To: filepath.Join(to, combineInside)})
	}
	return nil
}

// watch tells how far pg_combinebackup has come, which says nothing itself. A
// look costs time that grows with the number of files, so they become rarer.
func (c *combiner) watch(ctx context.Context, trees []*tree) {
	seen := int64(0)
	for pause := 200 * time.Millisecond; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		now, files := int64(0), 0
		for _, t := range trees {
			_ = filepath.WalkDir(filepath.Join(t.build, combineInside), func(_ string, d fs.DirEntry, err error) error {
				if err != nil {
					return nil // it has not come so far
				}
				if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
					now += info.Size()
				}
				files++
				return nil
			})
		}
		c.meter.add(max(0, now-seen))
		seen = max(seen, now)
		pause = max(pause, time.Duration(files)*20*time.Microsecond)
	}
}

// verify reads the result back.
func (c *combiner) verify() error {
	wait := c.flush()
	defer wait()
	dirs := manifest.Dirs{Data: c.how.Output, Tablespaces: map[uint32]string{}}
	for i, t := range c.chain[len(c.chain)-1].Info.Tablespaces {
		dirs.Tablespaces[t.OID] = c.how.Tablespaces[i].To
	}
	report, err := manifest.Verify(c.ctx, filepath.Join(c.how.Output, manifest.Name), dirs, manifest.Options{Jobs: max(2, c.opt.Jobs), Progress: c.meter.add})
	if err == nil {
		err = report.Err(string(c.chain[len(c.chain)-1].Info.ID))
	}
	c.sum = report.Summary
	return err
}

// unwrap moves the result to where a plain restore builds.
func (c *combiner) unwrap(trees []*tree) error {
	control := filepath.Join(c.how.Output, controlFile)
	c.held = filepath.Join(trees[0].build, ".holdfast-pg_control")
	if err := os.Rename(control, c.held); err != nil {
		return fault.Wrap(fault.Corrupt, "find", control, err)
	}
	for _, t := range trees {
		from := filepath.Join(t.build, combineInside)
		skip := func(string, bool) bool { return false }
		if t.isData {
			if err := os.Rename(filepath.Join(from, manifest.Name), t.manifest()); err != nil {
				return fault.Wrap(fault.Internal, "rename to", t.manifest(), err)
			}
			skip = excluded
		}
		if err := moveInto(from, t.build, "", skip); err != nil {
			return fault.Wrap(fault.Internal, "move", from, err)
		}
		if err := os.RemoveAll(from); err != nil {
			return fault.Wrap(fault.Internal, "remove", from, err)
		}
	}
	return nil
}

// moveInto moves what lies in a directory, unless it is left out, into another
// one that may have directories of the same names.
func moveInto(from, to, rel string, skip func(rel string, isDir bool) bool) error {
	entries, err := os.ReadDir(filepath.Join(from, rel))
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := filepath.Join(rel, e.Name())
		if skip(name, e.IsDir()) {
			continue
		}
		dst := filepath.Join(to, name)
		_, err := os.Lstat(dst)
		taken := err == nil
		if e.IsDir() && (taken || skip(name+"/x", false)) {
			info, err := e.Info()
			if err == nil {
				err = os.Mkdir(dst, info.Mode().Perm()|0o700)
			}
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
			if err := moveInto(from, to, name, skip); err != nil {
				return err
			}
			continue
		}
		if err := os.Rename(filepath.Join(from, name), dst); err != nil {
			return err
		}
	}
	return nil
}

// control places the last file, without which no server starts.
func (c *combiner) control(data *tree) error {
	c.close(false)
	to := filepath.Join(data.build, controlFile)
	return fault.Wrap(fault.Internal, "rename to", to, os.Rename(c.held, to))
}

func (c *combiner) did() (files, bytes int64) { return c.sum.Files, c.sum.Bytes }
