package pgtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// dirPrefix is followed by the PID of the test process and a dash. It names the
// PID's namespace, because containers may share a temporary directory.
func dirPrefix() string {
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		namespace = "none"
	}
	return "holdfast-pg-" + strings.Trim(namespace, "pid:[]") + "-"
}

var sweepOnce sync.Once

// Dir makes a directory that belongs to the server's user and that every user can enter, which
// t.TempDir's cannot. Its path is short enough for a socket. It goes away with the test.
func Dir(t testing.TB) string {
	t.Helper()
	sweepOnce.Do(sweep)
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", dirPrefix(), os.Getpid()))
	must(t, err)
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing %s: %v", dir, err)
		}
	})
	must(t, os.Chmod(dir, 0o755))
	own(t, dir)
	return dir
}

// sweep removes the directories of test processes that were killed.
func sweep() {
	leftovers, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix()+"*"))
	if err != nil {
		return
	}
	for _, dir := range leftovers {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(dir), dirPrefix()+"%d-", &pid); err != nil {
			continue
		}
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir)
		}
	}
}

// own gives a tree to the server's user, and the tablespaces that a data directory links to with it.
func own(t testing.TB, dir string) {
	t.Helper()
	cred := Credential(t)
	if cred == nil {
		return
	}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type() == fs.ModeSymlink && filepath.Base(filepath.Dir(path)) == "pg_tblspc" {
			target, err := filepath.EvalSymlinks(path)
			if err != nil {
				return err
			}
			own(t, target)
			letThrough(t, target)
		}
		return os.Lchown(path, int(cred.Uid), int(cred.Gid))
	}))
}

// letThrough lets every user pass through the temporary directories above path.
func letThrough(t testing.TB, path string) {
	t.Helper()
	for dir := filepath.Dir(path); strings.HasPrefix(dir, os.TempDir()+string(filepath.Separator)); dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		must(t, err)
		must(t, os.Chmod(dir, info.Mode().Perm()|0o111))
	}
}
