//go:build integration

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
)

// TestFront asks holdfast, which moves WAL itself, and holdfast-cli the same.
func TestFront(t *testing.T) {
	b := newBucket(t, "")
	segment := b.write(segmentName(1), "first", 1<<20)
	noServer := strings.TrimSuffix(b.conf, ".conf") + "-other.conf"
	b.must(os.WriteFile(noServer, []byte("[barman]\nbarman_home = "+b.home+"\nnonsense\n"), 0o644))
	ask := func(program string, args ...string) (string, int) {
		cmd, out := b.command(args...)
		cmd.Path = filepath.Join(filepath.Dir(cmd.Path), program)
		if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		return out.String(), cmd.ProcessState.ExitCode()
	}
	for name, args := range map[string][]string{
		"a segment that is there":    {"wal-archive", "main", segment},
		"another one of the name":    {"wal-archive", "main", b.write(segmentName(2), "second", 1<<20)},
		"a wrong name":               {"wal-archive", "main", noServer},
		"a server that is not there": {"wal-archive", "nobody", segment},
		"its file to read":           {"wal-restore", "nobody", segmentName(1), filepath.Join(b.home, "dest")},
		"a file that is missing":     {"wal-restore", "main", segmentName(9), filepath.Join(b.home, "dest")},
		"a directory that is":        {"wal-restore", "main", segmentName(1), filepath.Join(b.home, "none", "dest")},
		"no configuration":           {"-c", filepath.Join(b.home, "none.conf"), "wal-archive", "main", segment},
		"a broken one":               {"-c", noServer, "cloud-wal-restore", "main", segmentName(1), "dest"},
		"too few arguments":          {"wal-archive", "main"},
		"an unknown option":          {"wal-archive", "--nonsense", "main", segment},
		"json":                       {"-f", "json", "wal-restore", "nobody", segmentName(1), "dest"},
		"another command":            {"list-servers"},
		"help":                       {"wal-archive", "--help"},
		"nothing":                    {},
	} {
		t.Run(name, func(t *testing.T) {
			b.run("wal-archive", "main", segment)
			if name == "another one of the name" {
				other := b.write(segmentName(2), "other", 1<<20)
				b.run("wal-archive", "main", other)
				b.write(segmentName(2), "second", 1<<20)
			}
			said, code := ask("holdfast", args...)
			assert.Equal(t, name == "a segment that is there" || name == "another command" || name == "help" || name == "nothing", code == 0, said)
			whole, wholeCode := ask("holdfast-cli", args...)
			assert.Equal(t, whole, said)
			assert.Equal(t, wholeCode, code)
		})
	}
}

// TestFrontAlone is of a host where only holdfast is installed, which is enough for PostgreSQL.
func TestFrontAlone(t *testing.T) {
	b := newBucket(t, "")
	alone := filepath.Join(t.TempDir(), "holdfast")
	from, err := os.Open(holdfast(t))
	require.NoError(t, err)
	defer from.Close()
	to, err := os.OpenFile(alone, os.O_WRONLY|os.O_CREATE, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(to, from)
	require.NoError(t, err)
	require.NoError(t, to.Close())
	ask := func(args ...string) (string, int) {
		cmd, _ := b.command(args...)
		cmd.Path = alone
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		return out.String(), cmd.ProcessState.ExitCode()
	}
	said, code := ask("wal-archive", "main", b.write(segmentName(1), "first", 1<<20))
	assert.Zero(t, code, said)
	said, code = ask("wal-restore", "main", segmentName(1), filepath.Join(b.home, "dest"))
	assert.Zero(t, code, said)
	said, code = ask("list-servers")
	assert.NotZero(t, code)
	assert.Contains(t, said, "ERROR: find program "+filepath.Join(filepath.Dir(alone), "holdfast-cli")+": it is not there\nHINT: install it beside holdfast;")
}

// TestWhatKilledFetchesLeave beside the destination goes with a later one.
func TestWhatKilledFetchesLeave(t *testing.T) {
	b := newBucket(t, "")
	b.want(0, "", "wal-archive", "main", b.write(segmentName(1), "first", 1<<20))
	old, young := filepath.Join(b.home, atomicfile.TempPrefix+"dest-1"), filepath.Join(b.home, atomicfile.TempPrefix+"dest-2")
	for _, path := range []string{old, young} {
		require.NoError(t, os.WriteFile(path, []byte("half"), 0o600))
	}
	before := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(old, before, before))
	b.want(0, "", "wal-restore", "main", segmentName(1), filepath.Join(b.home, "dest"))
	assert.NoFileExists(t, old)
	assert.FileExists(t, young, "it may still be written")
}
