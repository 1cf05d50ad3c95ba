package restore

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// staging is a private directory for what must be made ready before it can be
// combined. In the place of the destination it goes with that; elsewhere it is
// locked, and one that nobody has locked is what a dead restore left.
type staging struct {
	dir   string
	lock  *os.File // nil in the place of the destination
	notes []*ledger
}

const (
	stagingPrefix = "holdfast-restore-"
	stagingInside = ".holdfast-staging"
)

// openStaging makes a staging directory for a destination: below parent, or in
// the place where it is built. Of what a dead restore to the same destination has staged that
// stays which belongs to a backup of the chain and came out of a store.
func openStaging(parent string, data *place, chain []Source) (*staging, error) {
	s := &staging{dir: filepath.Join(data.build, stagingInside)}
	if parent != "" {
		name := fnv.New64a()
		fmt.Fprint(name, data.final)
		s.dir = filepath.Join(parent, fmt.Sprintf("%s%x", stagingPrefix, name.Sum64()))
		if err := sweepStaging(parent, s.dir); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(s.dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fault.New(fault.KindOf(err), "create directory", s.dir, "%w", err).
			WithHint("staging_path (or --staging-path) must name a directory that exists and is writable for the user that restores")
	}
	if parent != "" {
		var err error
		if s.lock, err = lockDirectory(s.dir); err != nil {
			return nil, err
		}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "read directory", s.dir, err)
	}
	for _, e := range entries {
		if !slices.ContainsFunc(chain, func(m Source) bool { return m.Objects != nil && string(m.Info.ID) == e.Name() }) {
			if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
				return nil, fault.Wrap(fault.Internal, "remove", filepath.Join(s.dir, e.Name()), err)
			}
		}
	}
	return s, nil
}

// size is what is staged already, in bytes.
func (s *staging) size() (sum int64) {
	_ = filepath.WalkDir(s.dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}

func (s *staging) close(keep bool) {
	if !keep {
		os.RemoveAll(s.dir)
	}
	if s.lock != nil {
		s.lock.Close()
	}
}

func lockDirectory(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "open directory", dir, err)
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.Close()
		return nil, fault.Wrap(fault.Internal, "lock directory", dir, err)
	}
	return d, nil
}

// sweepStaging removes what restores to other destinations left that were killed.
func sweepStaging(parent, ours string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return fault.New(fault.KindOf(err), "read directory", parent, "%w", err).
			WithHint("staging_path (or --staging-path) must name a directory that exists")
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), stagingPrefix) {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		if dir == ours {
			continue
		}
		lock, err := lockDirectory(dir)
		if err != nil {
			continue // a restore is at work there, or it is not ours
		}
		os.RemoveAll(dir)
		lock.Close()
	}
	return nil
}

// stage makes plain files of a backup that are nobody else's.
func (s *staging) stage(ctx context.Context, src Source, opt Options) (Source, error) {
	id := string(src.Info.ID)
	plan := &restoreplan.Plan{Dest: filepath.Join(s.dir, id, "data")}
	out := Source{Info: src.Info, Data: plan.Dest, TableDirs: map[uint32]string{}}
	for _, t := range src.Info.Tablespaces {
		out.TableDirs[t.OID] = filepath.Join(s.dir, id, fmt.Sprint(t.OID))
		plan.Tablespaces = append(plan.Tablespaces, restoreplan.Tablespace{OID: t.OID, Name: t.Name, Dest: out.TableDirs[t.OID]})
	}
	trees, err := inventory(src, plan)
	if err != nil {
		return out, err
	}
	for _, t := range trees {
		t.build, t.staged = t.dest, true
	}
	c := newCopier(ctx, opt, trees)
	if src.Objects != nil {
		p, err := s.place(id)
		if err != nil {
			return out, err
		}
		defer p.lock.Close()
		if err := c.note(src, trees, plan, []*place{p}, opt); err != nil {
			return out, err
		}
		s.notes = append(s.notes, c.ledger)
		c.ledger.keep()
	}
	err = errors.Join(c.run(trees), c.ledger.finish())
	if err == nil {
		err = linkTablespaces(out.Data, plan)
	}
	if err == nil {
		err = c.control(trees[0])
	}
	return out, fault.Wrap(fault.Internal, "unpack", id, err)
}

// place is where a backup is staged.
func (s *staging) place(id string) (*place, error) {
	p := &place{what: "backup " + id, final: filepath.Join(s.dir, id), build: filepath.Join(s.dir, id)}
	return p, p.claim()
}
