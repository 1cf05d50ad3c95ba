package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pgcontrol"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

// asideFile is where pg_control waits until everything else is in place: no server
// starts without it.
const asideFile = controlFile + ".holdfast-restore"

// runMounted finishes what disks have brought: made of snapshots, they have the files of
// the source as a running server left them. What fails can be run again.
func runMounted(ctx context.Context, src Source, plan *restoreplan.Plan, opt Options) (*Result, error) {
	dest := plan.Dest
	lock, err := claimMounted(dest)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := lookMounted(dest, src.Info); err != nil {
		return nil, err
	}
	label, err := src.Snapshot.label(dest, src.Info)
	if err != nil {
		return nil, err
	}
	for _, t := range plan.Tablespaces {
		if found, err := filepath.Glob(filepath.Join(t.Dest, "PG_*")); err != nil || len(found) == 0 {
			return nil, fault.New(fault.Refused, "restore tablespace "+t.Name+" to", t.Dest, "it has no files of a tablespace").
				WithHint("mount the disk that was made of its snapshot where the tablespace was")
		}
	}
	control, aside := filepath.Join(dest, controlFile), filepath.Join(dest, asideFile)
	if err := os.Rename(control, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Internal, "put aside", control, err)
	}
	if err := clearMounted(dest); err != nil {
		return nil, err
	}
	if err := atomicfile.Write(filepath.Join(dest, "backup_label"), label, 0o600); err != nil {
		return nil, err
	}
	if err := linkTablespaces(dest, plan); err != nil {
		return nil, err
	}
	if err := fetchWAL(ctx, src, plan, dest, max(1, opt.Jobs), nil); err != nil {
		return nil, err
	}
	res := &Result{WALFiles: len(plan.WAL)}
	if err := res.configure(dest, src.Info, plan); err != nil {
		return nil, err
	}
	if err := atomicfile.Write(filepath.Join(dest, ".barman-recover.info"), src.Info.Encode(), 0o600); err != nil {
		return nil, err
	}
	if err := unix.Syncfs(int(lock.Fd())); err != nil {
		return nil, fault.Wrap(fault.Internal, "flush the file system of", dest, err)
	}
	if err := os.Rename(aside, control); err != nil {
		return nil, fault.Wrap(fault.Internal, "put back", control, err)
	}
	return res, atomicfile.SyncDir(filepath.Dir(control))
}

// claimMounted makes sure that one restore works here, and as the owner.
func claimMounted(dest string) (*os.File, error) {
	d, err := os.Open(dest)
	if err != nil {
		return nil, fault.New(fault.Refused, "restore to", dest, "%w", err).WithHint("DEST is the data directory on a disk that was made of a snapshot: mount that first")
	}
	var st unix.Stat_t
	err = unix.Fstat(int(d.Fd()), &st)
	switch {
	case err != nil:
	case int(st.Uid) != os.Geteuid():
		err = fault.New(fault.Refused, "restore to", dest, "it belongs to the user with the number %d, and PostgreSQL runs as that one", st.Uid).WithHint("give the command as that user")
	case unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil:
		err = fault.New(fault.Refused, "restore to", dest, "another restore works on this directory").WithHint("wait for it to end")
	}
	if err != nil {
		d.Close()
		return nil, fault.Wrap(fault.Internal, "open directory", dest, err)
	}
	return d, nil
}

// lookMounted makes sure that a directory is that of the backup's cluster, and that no
// server runs in it.
func lookMounted(dest string, info *backupinfo.Info) error {
	data, err := os.ReadFile(filepath.Join(dest, controlFile))
	if errors.Is(err, fs.ErrNotExist) {
		data, err = os.ReadFile(filepath.Join(dest, asideFile))
	}
	if err != nil {
		return fault.New(fault.Refused, "restore to", dest, "it is no data directory: %w", err).
			WithHint("name the data directory on the disk that was made of its snapshot")
	}
	c, err := pgcontrol.Parse(data)
	if err != nil {
		return fault.Wrap(fault.Corrupt, "read", filepath.Join(dest, controlFile), err)
	}
	if id := strconv.FormatUint(c.SystemID, 10); info.SystemID != nil && *info.SystemID != id {
		return fault.New(fault.Refused, "restore to", dest, "it is of the cluster with system identifier %s, not %s", id, *info.SystemID).
			WithHint("mount the disk that was made of this backup's snapshot")
	}
	lines, err := os.ReadFile(filepath.Join(dest, "postmaster.pid"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Internal, "read", "postmaster.pid", err)
	}
	first, _, _ := strings.Cut(string(lines), "\n")
	if pid, err := strconv.Atoi(strings.TrimSpace(first)); err == nil {
		if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err == nil && cwd == dest {
			return fault.New(fault.Refused, "restore to", dest, "a server runs there (process %d)", pid).WithHint("stop it")
		}
	}
	return nil
}

// label is what the catalogue has, or, of an exclusive backup, the disk.
func (s *Snapshot) label(dest string, info *backupinfo.Info) ([]byte, error) {
	if len(s.Label) > 0 {
		return s.Label, nil
	}
	if info.Mode == nil || !strings.HasSuffix(*info.Mode, "-exclusive") {
		return nil, fault.New(fault.Corrupt, "restore", string(info.ID), "the catalogue has no backup_label of it").WithHint("restore another backup")
	}
	label, err := os.ReadFile(filepath.Join(dest, "backup_label"))
	if err != nil {
		return nil, fault.New(fault.Corrupt, "restore", string(info.ID), "neither the catalogue nor the disk has its backup_label: %w", err).WithHint("restore another backup")
	}
	return label, nil
}

// clearMounted removes what belongs to the server that ran on the disk.
func clearMounted(dest string) error {
	for _, name := range []string{"postmaster.pid", "tablespace_map", "recovery.signal", "standby.signal", "recovery.conf", "recovery.done"} {
		if err := os.Remove(filepath.Join(dest, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.Internal, "remove", name, err)
		}
	}
	for _, dir := range []string{"pg_wal", "pg_replslot", restoreplan.RecoveryWALDir} {
		// A link is removed, and not what it leads to.
		if err := os.RemoveAll(filepath.Join(dest, dir)); err != nil {
			return fault.Wrap(fault.Internal, "empty", dir, err)
		}
	}
	for _, dir := range []string{"pg_replslot", "pg_wal"} {
		if err := os.Mkdir(filepath.Join(dest, dir), 0o700); err != nil {
			return fault.Wrap(fault.Internal, "create directory", dir, err)
		}
	}
	links, err := os.ReadDir(filepath.Join(dest, "pg_tblspc"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Internal, "read directory", "pg_tblspc", err)
	}
	for _, l := range links {
		if l.Type()&fs.ModeSymlink == 0 {
			continue
		}
		if err := os.Remove(filepath.Join(dest, "pg_tblspc", l.Name())); err != nil {
			return fault.Wrap(fault.Internal, "remove link", l.Name(), err)
		}
	}
	return nil
}
