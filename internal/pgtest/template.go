package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// run ends a program that hangs, and returns what it printed.
func run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = cleanEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: Credential(t), Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// cleanEnv keeps the caller's PG* variables and locale out of servers and clients.
func cleanEnv() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=/", "LC_ALL=C", "TZ=UTC"}
}

// initdb makes a data directory with checksums.
func initdb(t testing.TB, binDir, dataDir string, args ...string) {
	t.Helper()
	run(t, filepath.Dir(dataDir), filepath.Join(binDir, "initdb"), append([]string{"-D", dataDir, "-U", "postgres", "-A", "trust",
		"-E", "UTF8", "--locale=C", "--data-checksums", "--no-sync"}, args...)...)
}

// dropTemplates leaves the database postgres alone.
func dropTemplates(t testing.TB, binDir, dataDir string) {
	t.Helper()
	var script strings.Builder
	for _, name := range []string{"template0", "template1"} {
		fmt.Fprintf(&script, "ALTER DATABASE %[1]s IS_TEMPLATE false;\nDROP DATABASE %[1]s;\n", name)
	}
	run(t, filepath.Dir(dataDir), "sh", "-c", `printf %s "$1" | "$2" --single -F -D "$3" postgres`, "sh",
		script.String(), filepath.Join(binDir, "postgres"), dataDir)
}

// fromTemplate copies what initdb made once for this user and server, which is faster than initdb.
func fromTemplate(t testing.TB, binDir, dataDir string, oneDatabase bool) {
	t.Helper()
	key := sha256.Sum256(fmt.Append(nil, binDir, run(t, "/", filepath.Join(binDir, "postgres"), "--version"), oneDatabase))
	template := filepath.Join(os.TempDir(), fmt.Sprintf("holdfast-pg-templates-%d", os.Getuid()), hex.EncodeToString(key[:8]))
	if _, err := os.Stat(template); err != nil {
		fresh := filepath.Join(Dir(t), "template")
		initdb(t, binDir, fresh)
		if oneDatabase {
			dropTemplates(t, binDir, fresh)
		}
		must(t, os.MkdirAll(filepath.Dir(template), 0o755))
		// Another test may have been faster; its template is as good.
		if err := os.Rename(fresh, template); err != nil {
			if _, statErr := os.Stat(template); statErr != nil {
				t.Fatal(err)
			}
		}
	}
	run(t, "/", "cp", "-a", "--reflink=auto", template, dataDir)
}
