package restore

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// identity is what must be the same for a restore to go on: the backup, its archives, and where
// each directory goes. What is recovered, and how far, may differ.
func identity(info *backupinfo.Info, trees []*tree) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "1 %q", info.ID)
	if info.SystemID != nil {
		fmt.Fprintf(sum, " of %q", *info.SystemID)
	}
	if info.EndTime != nil {
		fmt.Fprintf(sum, " ended %d", info.EndTime.UnixNano())
	}
	for _, t := range trees {
		fmt.Fprintf(sum, "%q\n", t.build)
		for _, a := range t.tars {
			fmt.Fprintf(sum, "%q %d\n", a.Path, a.Size)
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// openLedger goes on with what an earlier restore has noted, and begins anew where that is of
// something else: it then empties the places. Afterwards they hold what was noted, and no other file.
func openLedger(src Source, trees []*tree, plan *restoreplan.Plan, places []*place, c *copier) (*ledger, error) {
	l := &ledger{path: filepath.Join(places[0].build, ledgerName), places: places, before: map[string]bool{}, stop: func() {}}
	of := identity(src.Info, trees)
	units, same, err := l.read(of)
	if err != nil {
		return nil, err
	}
	if !same {
		for _, p := range places {
			if err := p.empty(""); err != nil {
				return nil, err
			}
		}
		if err := l.create(ledgerHead{of, c.unpacked.seed}); err != nil {
			return nil, err
		}
		return l, nil
	}
	c.unpacked.seed = l.head.Seed
	wanted := map[string]bool{}
	for _, t := range trees {
		for _, a := range t.tars {
			wanted[a.Path] = true
		}
	}
	for _, name := range plan.WAL {
		wanted[walUnit(plan, name)] = true
	}
	return l, l.resume(units, wanted, c)
}

// read reads a ledger if it is of the same restore, and cuts off a line that was being written
// when its writer died.
func (l *ledger) read(of string) (units []*unit, same bool, err error) {
	info, err := os.Lstat(l.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil, false, nil
	}
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(l.path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, false, fault.Wrap(fault.Internal, "open", l.path, err)
	}
	defer f.Close()
	in, good := bufio.NewReaderSize(f, 1<<20), int64(0)
	next := func(v any) bool {
		line, err := in.ReadBytes('\n')
		if err != nil || json.Unmarshal(line, v) != nil {
			return false
		}
		good += int64(len(line))
		return true
	}
	var head ledgerHead
	if !next(&head) || head.Of != of || len(head.Seed) == 0 {
		return nil, false, nil
	}
	l.head = head
	for {
		u := &unit{}
		if !next(u) {
			return units, true, fault.Wrap(fault.Internal, "truncate", l.path, f.Truncate(good))
		}
		units = append(units, u)
	}
}

// resume takes over the units whose files are all there, and removes every other file.
func (l *ledger) resume(units []*unit, wanted map[string]bool, c *copier) error {
	type holder struct {
		state uint64
		unit  int32
		seen  bool
	}
	held := map[uint64]holder{}
	for i, u := range units {
		if wanted[u.Name] {
			u.each(func(s stamp) {
				if h, is := held[s.path]; !is || units[h.unit].Order <= u.Order {
					held[s.path] = holder{unit: int32(i), state: s.state}
				}
			})
		}
	}
	type sum struct{ files, bytes int64 }
	got := make([]sum, len(units))
	err := l.sweep(func(path string, info fs.FileInfo) bool {
		s := stampOfDirectory(l.head.Seed, path)
		if !info.IsDir() {
			s = stampOf(l.head.Seed, path, info.Size(), info.ModTime())
		}
		h, is := held[s.path]
		if !is || h.state != s.state {
			return false
		}
		h.seen = true
		held[s.path] = h
		if !info.IsDir() {
			got[h.unit].files++
			got[h.unit].bytes += info.Size()
		}
		return true
	})
	if err != nil {
		return err
	}
	lost := map[int32]bool{}
	for _, h := range held {
		if !h.seen {
			lost[h.unit] = true
		}
	}
	for path, h := range held {
		if lost[h.unit] {
			delete(held, path)
		} else {
			c.unpacked.from[path] = units[h.unit].Order
		}
	}
	if len(lost) > 0 {
		if err := l.sweep(func(path string, _ fs.FileInfo) bool {
			_, is := held[pathKey(l.head.Seed, path)]
			return is
		}); err != nil {
			return err
		}
	}
	var good []*unit
	for i, u := range units {
		if wanted[u.Name] && !lost[int32(i)] {
			l.before[u.Name] = true
			c.takeOver(u, got[i].files, got[i].bytes)
			good = append(good, u)
		}
	}
	if len(good) == len(units) {
		return nil
	}
	// What is unpacked again must not count by what was noted of it before.
	return atomicfile.WriteFunc(l.path, 0o600, func(w io.Writer) error {
		lines := json.NewEncoder(w)
		err := lines.Encode(l.head)
		for _, u := range good {
			err = errors.Join(err, lines.Encode(u))
		}
		return err
	})
}

// sweep removes what is in the places and not kept; of directories those that are empty then.
func (l *ledger) sweep(keep func(path string, info fs.FileInfo) bool) error {
	for _, p := range l.places {
		var directories []string
		err := filepath.WalkDir(p.build, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case path == p.build || path == l.path || path == filepath.Join(p.build, Marker):
				return nil
			case d.IsDir() && path == filepath.Join(p.build, "lost+found"):
				return fs.SkipDir
			case d.IsDir() || d.Type().IsRegular():
				info, err := d.Info()
				if err != nil || keep(path, info) {
					return err
				}
			}
			if d.IsDir() {
				directories = append(directories, path)
				return nil
			}
			return os.Remove(path)
		})
		if err != nil {
			return fault.Wrap(fault.Internal, "look through", p.build, err)
		}
		for _, path := range slices.Backward(directories) {
			os.Remove(path) // unless something is in it
		}
	}
	return nil
}

// done reports whether an earlier restore has brought a unit.
func (l *ledger) done(name string) bool { return l != nil && l.before[name] }

// brought are the archives of a tree that an earlier restore has unpacked, and their size in the store.
func (l *ledger) brought(t *tree) (n int, size int64) {
	for _, a := range t.tars {
		if l.done(a.Path) {
			n, size = n+1, size+a.Size
		}
	}
	return n, size
}
