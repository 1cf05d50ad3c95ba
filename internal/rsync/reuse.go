package rsync

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// linksAtOnce is how many links are made under one check of the fence.
const linksAtOnce = 256

// reuseBatch takes files from the previous backup. What cannot be had from
// there any more is copied from the source.
func (c *copier) reuseBatch(ctx context.Context, t Tree, entries []entry, tr transfer) (arrived, error) {
	a := arrived{tree: t}
	var rest []entry
	for len(entries) > 0 {
		if ctx.Err() != nil {
			return a, fault.Wrap(fault.Cancelled, "reuse files of", t.Previous, context.Cause(ctx))
		}
		part := entries[:min(len(entries), linksAtOnce)]
		entries = entries[len(part):]
		had, not, err := c.takeOver(ctx, t, part, tr.rateKB)
		if err != nil {
			return a, fault.Wrap(fault.Internal, "reuse files of", t.Previous, err)
		}
		a.entries = append(a.entries, had...)
		rest = append(rest, not...)
	}
	c.reused.Add(int64(len(a.entries)))
	if c.Reuse == ReuseLink {
		a.linked = make([]bool, len(a.entries), len(a.entries)+len(rest))
		for i := range a.linked {
			a.linked[i] = true
		}
	}
	if len(rest) == 0 {
		return a, nil
	}
	there, err := c.transfer(ctx, tr, rest)
	a.entries = append(a.entries, there...)
	if a.linked != nil {
		a.linked = append(a.linked, make([]bool, len(there))...)
	}
	return a, err
}

// takeOver links or copies files, and returns those that were had and those
// that were not.
func (c *copier) takeOver(ctx context.Context, t Tree, part []entry, rateKB int) (had, not []entry, err error) {
	sort := func(e entry, err error) error {
		switch {
		case err == nil:
			had = append(had, e)
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.EMLINK), errors.Is(err, unix.EXDEV), errors.Is(err, fs.ErrPermission):
			not = append(not, e)
		default:
			return err
		}
		return nil
	}
	if c.Reuse == ReuseLink {
		err = c.Fence.Do(func() error {
			for _, e := range part {
				if err := sort(e, os.Link(filepath.Join(t.Previous, e.Rel), filepath.Join(t.Dest, e.Rel))); err != nil {
					return err
				}
			}
			return nil
		})
		return had, not, err
	}
	for _, e := range part {
		if err := sort(e, c.clone(ctx, filepath.Join(t.Previous, e.Rel), filepath.Join(t.Dest, e.Rel), rateKB)); err != nil {
			return had, not, err
		}
	}
	return had, not, nil
}

// clone copies a file of the previous backup with its mode and time: its blocks
// where the file system can share them, else its bytes. A copy that is cut
// short is in no journal, and the next run removes it.
func (c *copier) clone(ctx context.Context, from, to string, rateKB int) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(in.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: from, Err: err}
	}
	var out *os.File
	shared := false
	if err := c.Fence.Do(func() error {
		if out, err = os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
			return err
		}
		shared = unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil
		return nil
	}); err != nil {
		return err
	}
	defer out.Close()
	piece := int64(64 << 20)
	if rateKB > 0 {
		piece = min(piece, int64(rateKB)<<10)
	}
	for left := st.Size; left > 0 && !shared; {
		n := min(left, piece)
		if err := c.Fence.Do(func() error {
			_, err := io.CopyN(out, in, n)
			return err
		}); err != nil {
			return err
		}
		left -= n
		if rateKB > 0 {
			if err := pause(ctx, time.Duration(n)*time.Second/time.Duration(int64(rateKB)<<10)); err != nil {
				return err
			}
		}
	}
	return c.Fence.Do(func() error {
		if err := unix.Fchmod(int(out.Fd()), st.Mode&0o7777); err != nil {
			return &os.PathError{Op: "chmod", Path: to, Err: err}
		}
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "set time", Path: to, Err: err}
		}
		return nil
	})
}
