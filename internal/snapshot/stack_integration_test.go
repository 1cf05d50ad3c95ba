//go:build integration

package snapshot_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/snapshot"
)

// loopDevice is a disk of 256 MB.
func loopDevice(t *testing.T) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(image)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(256<<20))
	require.NoError(t, f.Close())
	loop := run(t, "losetup", "--find", "--show", image)
	t.Cleanup(func() { run(t, "losetup", "--detach", loop) })
	return loop
}

func run(t *testing.T, words ...string) string {
	t.Helper()
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q fails (the tests run as root): %v: %s", words, err, out)
	}
	return strings.TrimSpace(string(out))
}

func mount(t *testing.T, device string) string {
	t.Helper()
	at := filepath.Join(t.TempDir(), "a b")
	require.NoError(t, os.Mkdir(at, 0o755))
	run(t, "mount", device, at)
	t.Cleanup(func() { assert.NoError(t, unix.Unmount(at, 0)) })
	return at
}

// await waits for a device that the kernel has yet to show.
func await(t *testing.T, device string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(device); err == nil {
			return
		} else if !errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestRealDisks finds real file systems: on a partition, and a btrfs on two disks.
func TestRealDisks(t *testing.T) {
	t.Run("a partition", func(t *testing.T) {
		disk := loopDevice(t)
		part := disk + "p1"
		run(t, "addpart", disk, "1", "2048", "522240") // not every kernel reads a partition table
		t.Cleanup(func() { run(t, "delpart", disk, "1") })
		await(t, part)
		link := filepath.Join(t.TempDir(), "by id")
		require.NoError(t, os.Symlink(disk, link))
		_, err := snapshot.Mounted(t.Context(), snapshot.Here{}, []snapshot.Disk{{Name: "data", Device: link}})
		require.ErrorIs(t, err, snapshot.ErrUnmounted)
		run(t, "mkfs.ext4", "-q", part)
		at := mount(t, part)
		got, err := snapshot.Mounted(t.Context(), snapshot.Here{}, []snapshot.Disk{{Name: "data", Device: link}})
		require.NoError(t, err)
		assert.Equal(t, at, got[0].Mount)
		assert.Equal(t, part, got[0].Volume)
		assert.Equal(t, 1, got[0].Partition)
		require.NoError(t, snapshot.RefuseSpans(got))
	})
	t.Run("btrfs on two disks", func(t *testing.T) {
		one, two := loopDevice(t), loopDevice(t)
		run(t, "mkfs.btrfs", "-q", one, two)
		run(t, "btrfs", "device", "scan", one, two)
		at := mount(t, one)
		disks := []snapshot.Disk{{Name: "one", Device: one}, {Name: "two", Device: two}}
		got, err := snapshot.Mounted(t.Context(), snapshot.Here{}, disks)
		require.NoError(t, err)
		assert.Equal(t, at, got[0].Mount)
		assert.Equal(t, at, got[1].Mount)
		assert.Equal(t, got[0].Volume, got[1].Volume)
		require.ErrorContains(t, snapshot.RefuseSpans(got), "it lies on the disks one, two")
		for i, other := range []string{two, one} {
			_, err = snapshot.Mounted(t.Context(), snapshot.Here{}, disks[i:i+1])
			require.ErrorContains(t, err, "lies on "+other+", too")
		}
	})
}
