package manifest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// ignored are the paths that a backup may have, lack or change, as
// pg_verifybackup(1) has it.
var ignored = []string{Name, "pg_wal", "postgresql.auto.conf", "recovery.signal", "standby.signal"}

// Dirs is where a backup's files are.
type Dirs struct {
	Data        string
	Tablespaces map[uint32]string // by OID; one that is not named is looked for below pg_tblspc
}

func (d Dirs) path(rel string) string {
	if rest, ok := strings.CutPrefix(rel, "pg_tblspc/"); ok {
		oid, below, _ := strings.Cut(rest, "/")
		if n, err := strconv.ParseUint(oid, 10, 32); err == nil {
			if dir, ok := d.Tablespaces[uint32(n)]; ok {
				return filepath.Join(dir, below)
			}
		}
	}
	return filepath.Join(d.Data, rel)
}

// Options bound a verification.
type Options struct {
	Jobs     int               // files read at once; at least 1
	Ignore   []string          // more paths that are not looked at
	Progress func(bytes int64) // called with every piece that was read, by several goroutines; may be nil
}

// Finding is a file that is not as the manifest says.
type Finding struct {
	Path   string
	Reason string // missing, extra, or how it differs
}

// Report is the result of a verification.
type Report struct {
	Summary  Summary
	Findings []Finding // the first maxFindings, sorted by path
	Bad      int       // how many there are
}

const maxFindings = 100

// Err is nil when everything of a backup is as the manifest says, else it names
// the first files.
func (r Report) Err(of string) error {
	if r.Bad == 0 {
		return nil
	}
	var names []string
	for _, f := range r.Findings[:min(len(r.Findings), 5)] {
		names = append(names, f.Path+" ("+f.Reason+")")
	}
	if r.Bad > len(names) {
		names = append(names, fmt.Sprintf("and %d more", r.Bad-len(names)))
	}
	return fault.New(fault.Corrupt, "verify backup", of, "%d files are not as the manifest says: %s", r.Bad, strings.Join(names, ", ")).
		WithHint("do not rely on this backup; take another one, and look for the cause in the storage that holds it")
}

// Verify reads every byte of a backup and compares it with a manifest. The
// error says that it could not be done, or that the manifest itself is
// damaged; what is wrong with the files is in the report.
func Verify(ctx context.Context, manifest string, dirs Dirs, opt Options) (Report, error) {
	f, err := os.Open(manifest)
	if err != nil {
		return Report{}, fault.Wrap(fault.Internal, "read manifest", manifest, err)
	}
	defer f.Close()
	v := &verification{dirs: dirs, opt: opt, skip: append(slices.Clone(ignored), opt.Ignore...), seed: maphash.MakeSeed()}
	g, gctx := errgroup.WithContext(ctx)
	todo := make(chan File, 64)
	for range max(1, opt.Jobs) {
		g.Go(func() error { return v.work(gctx, todo) })
	}
	g.Go(func() (err error) {
		defer close(todo)
		v.report.Summary, err = Read(f, manifest, func(entry File) error {
			if v.skipped(entry.Path) {
				return nil
			}
			v.known = append(v.known, maphash.String(v.seed, entry.Path))
			select {
			case todo <- entry:
				return nil
			case <-gctx.Done():
				return context.Cause(gctx)
			}
		})
		return err
	})
	if err := g.Wait(); err != nil {
		return Report{}, v.failed(ctx, err)
	}
	slices.Sort(v.known)
	if err := v.extras(ctx); err != nil {
		return Report{}, v.failed(ctx, err)
	}
	return v.result(), nil
}

type verification struct {
	tally
	dirs  Dirs
	opt   Options
	skip  []string
	seed  maphash.Seed
	known []uint64 // hashes of all paths: 8 bytes a file
}

// tally collects what is found.
type tally struct {
	mu     sync.Mutex
	report Report
}

func (v *verification) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fault.Wrap(fault.Cancelled, "verify", v.dirs.Data, context.Cause(ctx))
	}
	return fault.Wrap(fault.Internal, "verify", v.dirs.Data, err)
}

func (v *verification) skipped(rel string) bool {
	for _, s := range v.skip {
		if rel == s || strings.HasPrefix(rel, s+"/") {
			return true
		}
	}
	return false
}

func (t *tally) found(rel, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.report.Bad++
	if len(t.report.Findings) < maxFindings {
		t.report.Findings = append(t.report.Findings, Finding{rel, fmt.Sprintf(format, args...)})
	}
}

// result is the report once nothing more can be found.
func (t *tally) result() Report {
	slices.SortFunc(t.report.Findings, func(a, b Finding) int { return strings.Compare(a.Path, b.Path) })
	return t.report
}

func (v *verification) work(ctx context.Context, todo <-chan File) error {
	buf := make([]byte, 1<<20)
	for f := range todo {
		if err := v.file(ctx, f, buf); err != nil {
			return err
		}
	}
	return nil
}

// file compares one file. A file that cannot be read is a finding too: it is
// not what was backed up.
func (v *verification) file(ctx context.Context, f File, buf []byte) error {
	in, err := os.Open(v.dirs.path(f.Path))
	if errors.Is(err, fs.ErrNotExist) {
		v.found(f.Path, "missing")
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	switch {
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		v.found(f.Path, "not a regular file")
		return nil
	case st.Size() != f.Size:
		v.found(f.Path, "%d bytes instead of %d", st.Size(), f.Size)
		return nil
	}
	h := f.Algorithm.New()
	var size int64
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := in.Read(buf)
		size += int64(n)
		if h != nil {
			h.Write(buf[:n])
		}
		if v.opt.Progress != nil && n > 0 {
			v.opt.Progress(int64(n))
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			v.found(f.Path, "unreadable: %v", err)
			return nil
		}
	}
	switch {
	case size != f.Size:
		v.found(f.Path, "%d bytes instead of %d", size, f.Size)
	case h != nil && !bytes.Equal(h.Sum(nil), f.Checksum):
		v.found(f.Path, "other content: %s %x instead of %x", f.Algorithm, h.Sum(nil), f.Checksum)
	}
	return nil
}

// extras looks for files that the manifest does not list.
func (v *verification) extras(ctx context.Context) error {
	if err := v.walk(ctx, v.dirs.Data, ""); err != nil {
		return err
	}
	for oid, dir := range v.dirs.Tablespaces {
		if err := v.walk(ctx, dir, "pg_tblspc/"+strconv.FormatUint(uint64(oid), 10)); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) walk(ctx context.Context, dir, rel string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		p := strings.TrimPrefix(rel+"/"+e.Name(), "/")
		if v.skipped(p) || (rel == "pg_tblspc" && v.dirs.path(p) != filepath.Join(v.dirs.Data, p)) {
			continue
		}
		full := filepath.Join(dir, e.Name())
		st, err := os.Stat(full) // through links, as pg_verifybackup does
		switch {
		case err != nil:
			v.found(p, "extra, and unreadable: %v", err)
		case st.IsDir():
			if err := v.walk(ctx, full, p); err != nil {
				return err
			}
		case !st.Mode().IsRegular():
			v.found(p, "not a regular file")
		default:
			if _, ok := slices.BinarySearch(v.known, maphash.String(v.seed, p)); !ok {
				v.found(p, "extra")
			}
		}
	}
	return nil
}
