package restore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// Marker is the name of the file that an unfinished restore leaves in a
// directory that it had to build in place.
const Marker = ".holdfast-restore-unfinished"

// place is one directory that a restore builds: the destination, or a
// tablespace's.
type place struct {
	what    string // for people
	final   string
	build   string // where it is built: a sibling, or final itself
	inPlace bool
	lock    *os.File
}

// openPlace claims a directory, and marks one that is built in place. A final directory that holds
// anything but an unfinished restore is refused; what that has left is still there.
func openPlace(what, final, remedy string) (*place, error) {
	switch free, err := vacant(final); {
	case errors.Is(err, unix.ENOTDIR):
		return nil, fault.New(fault.Refused, "restore "+what+" to", final, "it is a file, or below one, and no directory").
			WithHint("%s; nothing was changed", remedy)
	case err != nil:
		return nil, err
	case !free:
		// What a restore noted before it died is settled: this is its result.
		os.Remove(sibling(final) + journalSuffix)
		return nil, fault.New(fault.Refused, "restore "+what+" to", final, "the directory is not empty").
			WithHint("%s; nothing was changed", remedy)
	}
	parent := filepath.Dir(final)
	p := &place{what: what, final: final, build: sibling(final)}
	_, err := os.Lstat(final)
	exists := err == nil
	p.inPlace = exists && (isMountPoint(final) || unix.Access(parent, unix.W_OK) != nil || begunInPlace(final))
	if p.inPlace {
		p.build = final
	} else if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, cannotCreate(parent, err)
	}
	if err := p.claim(); err != nil {
		return nil, err
	}
	if p.inPlace && !begunInPlace(final) {
		if err := writeMarker(filepath.Join(final, Marker)); err != nil {
			p.lock.Close()
			return nil, err
		}
	}
	return p, nil
}

// sibling is where a directory is built that will be renamed to final.
func sibling(final string) string {
	return filepath.Join(filepath.Dir(final), "."+filepath.Base(final)+".holdfast-restore")
}

func cannotCreate(dir string, err error) error {
	kind := fault.Internal
	if fault.Is(err, fault.Permission) {
		kind = fault.Permission
	}
	return fault.New(kind, "create directory", dir, "%w", err).
		WithHint("%s must be a directory, and writable for the user that restores (barman_user when root gives the command)", filepath.Dir(dir))
}

// claim makes sure that one restore builds this directory at a time. The lock
// is on the directory itself, so nothing is left of it when we die.
func (p *place) claim() error {
	if err := os.Mkdir(p.build, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return cannotCreate(p.build, err)
	}
	d, err := os.Open(p.build)
	if err != nil {
		return fault.Wrap(fault.Internal, "open directory", p.build, err)
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		d.Close()
		return fault.New(fault.Refused, "restore "+p.what+" to", p.final, "another restore is building this directory").
			WithHint("wait for it to end, or restore to another directory")
	}
	p.lock = d
	return nil
}

// empty removes what a killed restore left, but for one entry.
func (p *place) empty(spare string) error {
	entries, err := os.ReadDir(p.build)
	if err != nil {
		return fault.Wrap(fault.Internal, "read directory", p.build, err)
	}
	for _, e := range entries {
		if e.Name() == Marker || e.Name() == "lost+found" || e.Name() == spare {
			continue
		}
		if err := os.RemoveAll(filepath.Join(p.build, e.Name())); err != nil {
			return fault.Wrap(fault.Internal, "remove", filepath.Join(p.build, e.Name()), err)
		}
	}
	return nil
}

func writeMarker(path string) error {
	return atomicfile.Write(path, []byte("a restore of holdfast did not finish here; run it again, or empty this directory\n"), 0o600)
}

// sync makes what was built durable.
func (p *place) sync() error {
	if err := unix.Syncfs(int(p.lock.Fd())); err != nil {
		return fault.Wrap(fault.Internal, "flush the file system of", p.build, err)
	}
	return nil
}

// finish gives the directory its final name.
func (p *place) finish() error {
	defer p.lock.Close()
	if p.inPlace {
		// PostgreSQL wants the directory for its own user alone.
		if err := p.lock.Chmod(0o700); err != nil {
			return fault.Wrap(fault.Internal, "change the mode of", p.final, err)
		}
		if err := os.Remove(filepath.Join(p.final, Marker)); err != nil {
			return fault.Wrap(fault.Internal, "remove", Marker, err)
		}
		return atomicfile.SyncDir(p.final)
	}
	// An empty directory may be there; os.Rename would refuse to take its place.
	if err := unix.Rename(p.build, p.final); err != nil {
		return fault.Wrap(fault.Internal, "rename to", p.final, err)
	}
	return atomicfile.SyncDir(filepath.Dir(p.final))
}

// close ends a failed restore. What was built is removed, or kept for the next one, if anything
// was. In place, the marker stays as long as something of it is there.
func (p *place) close(keep bool) {
	defer p.lock.Close()
	if !p.inPlace {
		if keep {
			os.Remove(p.build) // while it is empty
		} else {
			os.RemoveAll(p.build)
		}
		return
	}
	if !keep && p.empty("") != nil {
		return
	}
	entries, err := os.ReadDir(p.final)
	if err == nil && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() != Marker && e.Name() != "lost+found" }) {
		os.Remove(filepath.Join(p.final, Marker))
	}
}

// vacant reports whether a directory is absent, empty, or holds an unfinished
// restore.
func vacant(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fault.Wrap(fault.Internal, "read directory", dir, err)
	}
	others := 0
	for _, e := range entries {
		switch e.Name() {
		case Marker:
			return true, nil
		case "lost+found":
		default:
			others++
		}
	}
	return others == 0, nil
}

// begunInPlace reports whether a restore that did not finish has built in dir.
func begunInPlace(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, Marker))
	return err == nil
}

// isMountPoint finds bind mounts, too, where the kernel can tell (5.8 and later).
func isMountPoint(dir string) bool {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_BASIC_STATS, &st) == nil && st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	}
	var here, above unix.Stat_t
	if unix.Stat(dir, &here) != nil || unix.Stat(filepath.Join(dir, ".."), &above) != nil {
		return false
	}
	return here.Dev != above.Dev || here.Ino == above.Ino
}
