package pgtest

import (
	"cmp"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Versions are the major versions that every method is tested with, oldest first.
func Versions() []string { return []string{"15", "18"} }

// AllVersions are the major versions that are there to test with, oldest first.
func AllVersions() []string { return []string{"13", "15", "17", "18"} }

// Testbed is the directory that `make testbed` fills.
func Testbed() string {
	return cmp.Or(os.Getenv("HOLDFAST_TESTBED"), "/var/tmp/holdfast-testbed")
}

// BinDir is where the programs of a major version are.
func BinDir(t testing.TB, version string) string {
	t.Helper()
	for _, dir := range []string{
		filepath.Join("/usr/lib/postgresql", version, "bin"),
		filepath.Join(Testbed(), "pg"+version, "usr/lib/postgresql", version, "bin"),
	} {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir
		}
	}
	t.Fatalf("PostgreSQL %s is neither in /usr/lib/postgresql nor in the testbed %s: run `make testbed`", version, Testbed())
	return ""
}

// Credential is the user that servers run as: nil, that is, whoever runs the test, unless that is root.
func Credential(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("PostgreSQL refuses to run as root, and there is no other user for it: %v: run `make testbed`", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	must(t, err)
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	must(t, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
