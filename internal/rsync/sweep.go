package rsync

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// sweep removes from a tree's destination everything but files that an earlier
// run recorded and that are provably what the source has now: what has
// vanished or changed since, and what killed processes left.
func (c *copier) sweep(ctx context.Context, i int, t Tree, at survey) error {
	s := &sweeper{copier: c, index: i, tree: t, source: at}
	if err := s.dir(ctx, "", true); err != nil && !errors.Is(err, unix.ENOENT) {
		return fault.Wrap(fault.Internal, "clear up", t.Dest, err)
	}
	return nil
}

type sweeper struct {
	*copier
	index  int
	tree   Tree
	source survey
	buf    []byte
}

// dir sweeps a directory. Where the source has no such directory, nothing stays.
func (s *sweeper) dir(ctx context.Context, rel string, wanted bool) error {
	if ctx.Err() != nil {
		return fault.Wrap(fault.Cancelled, "clear up", s.tree.Dest, context.Cause(ctx))
	}
	dest := filepath.Join(s.tree.Dest, rel)
	var dirs []string
	if err := datadir.EachName(dest, func(names []string) error {
		return s.Fence.Do(func() error {
			for _, name := range names {
				rel := datadir.Join(rel, name)
				var st unix.Stat_t
				if err := unix.Lstat(filepath.Join(s.tree.Dest, rel), &st); err != nil {
					return err
				}
				if isDir(&st) {
					dirs = append(dirs, rel)
					continue
				}
				keep := false
				if wanted && isRegular(&st) {
					var err error
					if keep, err = s.keep(rel, &st); err != nil {
						return err
					}
				}
				if !keep {
					if err := os.Remove(filepath.Join(s.tree.Dest, rel)); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}); err != nil {
		return err
	}
	for _, d := range dirs {
		stays := false
		if wanted && !s.filters[s.index].Excluded(d) {
			a, ok := s.source.stat(d)
			stays = ok && a.IsDir()
		}
		if err := s.dir(ctx, d, stays); err != nil {
			return err
		}
		if !stays {
			if err := s.Fence.Do(func() error { return os.Remove(filepath.Join(s.tree.Dest, d)) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep reports whether a file at the destination is what the source has now.
func (s *sweeper) keep(rel string, there *unix.Stat_t) (bool, error) {
	if s.filters[s.index].Excluded(rel) {
		return false, nil
	}
	rec, by, at, ok, err := s.journal.find(datadir.Join(s.tree.Path, rel), &s.buf)
	if err != nil || !ok {
		return false, err
	}
	now, ok := s.source.stat(rel)
	if !ok || !now.IsRegular() {
		return false, nil
	}
	if there.Size != rec.Size || there.Mtim.Nano() != rec.Mtime || !rec.counts(by, now.Identity, s.Attempt) {
		return false, nil
	}
	s.final = append(s.final, at)
	s.kept.Add(1)
	s.Progress.Total.Add(rec.Size)
	s.count(rec.Size, there.Nlink > 1)
	return true, nil
}

// counts reports whether what a run copied is still what the source has. A
// change that the times do not show is possible only shortly before the first
// read, and within the same attempt WAL replay repairs it.
func (r record) counts(by run, now datadir.Identity, attempt int) bool {
	return now == r.Source && (by.Attempt == attempt || r.Source.SettledAt(by.Listed))
}
