package restore

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// staging is a private directory for what must be made ready before it can be
// combined. In the place of the destination it goes with that; elsewhere it is
// locked, and one that nobody has locked is what a dead restore left.
type staging struct {
	dir  string
	lock *os.File // nil in the place of the destination
}

const (
	stagingPrefix = "holdfast-restore-"
	stagingInside = ".holdfast-staging"
)

// openStaging makes a staging directory for a destination: below parent, or in
// the place where it is built.
func openStaging(parent string, data *place) (*staging, error) {
	if parent == "" {
		s := &staging{dir: filepath.Join(data.build, stagingInside)}
		return s, fault.Wrap(fault.Internal, "create directory", s.dir, os.Mkdir(s.dir, 0o700))
	}
	if err := sweepStaging(parent); err != nil {
		return nil, err
	}
	name := fnv.New64a()
	fmt.Fprint(name, data.final)
	s := &staging{dir: filepath.Join(parent, fmt.Sprintf("%s%x", stagingPrefix, name.Sum64()))}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, fault.New(fault.KindOf(err), "create directory", s.dir, "%w", err).
			WithHint("staging_path (or --staging-path) must name a directory that exists and is writable for the user that restores")
	}
	var err error
	if s.lock, err = lockDirectory(s.dir); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *staging) remove() {
	os.RemoveAll(s.dir)
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

// sweepStaging removes what restores left that were killed.
func sweepStaging(parent string) error {
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
		t.build = t.dest
	}
	c := newCopier(ctx, opt, trees)
	if err := c.run(trees); err != nil {
		return out, err
	}
	if err := linkTablespaces(out.Data, plan); err != nil {
		return out, err
	}
	err = errors.Join(c.control(trees[0]), os.Rename(trees[0].manifest(), filepath.Join(out.Data, manifest.Name)))
	return out, fault.Wrap(fault.Internal, "unpack", id, err)
}
