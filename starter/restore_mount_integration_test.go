//go:build integration

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// ownMounts gives the test and what it starts a mount namespace of their own, so
// that nothing stays mounted, whatever ends the test.
func ownMounts(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	err := unix.Unshare(unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err != nil {
		t.Fatalf("file systems cannot be mounted, run this test as root: %v", err)
	}
}

// mount makes a directory a mount point, of a file system that has a lost+found
// which only root may enter.
func (s *site) mount(dir, source, kind string, flags uintptr, data string) {
	s.t.Helper()
	s.must(os.Mkdir(dir, 0o755))
	s.must(unix.Mount(source, dir, kind, flags, data))
	s.t.Cleanup(func() { s.must(unix.Unmount(dir, unix.MNT_DETACH)) })
	s.must(os.Mkdir(filepath.Join(dir, "lost+found"), 0o700))
	cred := pgtest.Credential(s.t)
	s.must(os.Chown(dir, int(cred.Uid), int(cred.Gid)))
}

// entries are the names in a directory.
func (s *site) entries(dir string) string {
	s.t.Helper()
	list, err := os.ReadDir(dir)
	s.must(err)
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// TestRestoreIntoMountPoints: a data directory and a tablespace that cannot be
// renamed are built in place. A restore that is killed there leaves nothing that
// a server could be started on, and the next one goes over it.
func TestRestoreIntoMountPoints(t *testing.T) {
	ownMounts(t)
	s := newSite(t, "15", "parallel_jobs = 2")
	s.Fill(t, "first", "ts1", 30000)
	s.backup()
	dest, space := filepath.Join(s.home, "data"), filepath.Join(s.home, "space")
	// A bind mount has the device of what is around it.
	hidden := filepath.Join(s.home, "hidden")
	s.must(os.Mkdir(hidden, 0o755))
	s.mount(dest, "tmpfs", "tmpfs", 0, "mode=0755,size=1g")
	s.mount(space, hidden, "", unix.MS_BIND, "")
	args := []string{"restore", "main", "latest", dest, "--tablespace", "ts1:" + space}

	mine := filepath.Join(space, "mine")
	s.must(os.WriteFile(mine, nil, 0o600))
	if a := s.run(args...); a.code != 4 || !strings.Contains(a.stderr, space+": the directory is not empty") {
		t.Errorf("a tablespace's mount point that is not empty: %+v", a)
	}
	if d, sp := s.entries(dest), s.entries(space); d != "lost+found" || sp != "lost+found mine" {
		t.Errorf("a refused restore left %s and %s", d, sp)
	}
	s.must(os.Remove(mine))
	s.must(os.WriteFile(filepath.Join(dest, "mine"), nil, 0o600))
	if a := s.run(args...); a.code != 4 || !strings.Contains(a.stderr, dest+": the directory is not empty") {
		t.Errorf("a mount point that is not empty: %+v", a)
	}
	s.must(os.Remove(filepath.Join(dest, "mine")))

	tiny := filepath.Join(s.home, "tiny")
	s.mount(tiny, "tmpfs", "tmpfs", 0, "mode=0755,size=1m")
	if a := s.run("restore", "main", "latest", tiny, "--tablespace", "ts1:"+space); a.code != 1 || !strings.Contains(a.stderr, "restore to "+tiny) || !strings.Contains(a.stderr, "nothing was written") {
		t.Errorf("a mount point that is too small: %+v", a)
	}
	if d, sp := s.entries(tiny), s.entries(space); d != "lost+found" || sp != "lost+found" {
		t.Errorf("a restore that cannot fit left %s and %s", d, sp)
	}

	s.killMidway(dest, space, args)
	s.ok(args...)
	if left := s.entries(dest) + s.entries(space); strings.Contains(left, "holdfast") || strings.Count(left, "lost+found") != 2 {
		t.Errorf("left after a restore: %s", left)
	}
	if left, _ := filepath.Glob(filepath.Join(s.home, ".*holdfast-restore*")); len(left) > 0 {
		t.Errorf("left beside the destination: %v", left)
	}
	if a := s.run(args...); a.code != 4 {
		t.Errorf("a second restore: %+v", a)
	}
	r := pgtest.NewFromDataDir(t, "15", dest)
	if r.Fingerprint(t) != s.Fingerprint(t) {
		t.Error("other rows")
	}
	if got := r.Value(t, "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'ts1'"); got != space {
		t.Errorf("the tablespace is at %s", got)
	}
	r.AmCheck(t)
}

// killMidway kills a restore while it copies, and looks at what is left.
func (s *site) killMidway(dest, space string, args []string) {
	s.t.Helper()
	control := filepath.Join(dest, "global/pg_control")
	for range 10 {
		cmd, _, _ := s.start(args...)
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if _, err := os.Stat(filepath.Join(dest, "base/1")); err == nil {
				break
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if _, err := os.Stat(control); err == nil {
			// It was faster than we.
			for _, dir := range []string{dest, space} {
				s.must(s.emptyOut(dir))
			}
			continue
		}
		for _, dir := range []string{dest, space} {
			if _, err := os.Stat(filepath.Join(dir, ".holdfast-restore-unfinished")); err != nil {
				s.t.Error(err)
			}
		}
		return
	}
	s.t.Fatal("no restore could be killed while it copied")
}

func (s *site) emptyOut(dir string) error {
	list, err := os.ReadDir(dir)
	for _, e := range list {
		if e.Name() != "lost+found" {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("empty %s: %w", dir, err)
	}
	return nil
}
