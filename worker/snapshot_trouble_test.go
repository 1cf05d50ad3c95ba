//go:build integration

package main

import (
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/snapshot/aws/awstest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// TestSnapshotTrouble: what goes wrong in a cloud while a backup is taken is waited for
// where that cures it; else the backup is FAILED, its snapshots are gone, and
// show-backup says why and what to do.
func TestSnapshotTrouble(t *testing.T) {
	t.Parallel()
	c := amazon(t)
	b, disks := newRentedBed(t, c, pgtest.AllVersions()[0]) // it tells whether it is in backup mode
	with := func(settings ...string) {
		b.Configure(t, config.MethodSnapshot, append(c.settings[:len(c.settings):len(c.settings)], settings...)...)
	}
	usual := c.aws.Fail
	during := func(fail func(action string) *awstest.Failure) {
		c.aws.Do(func() {
			c.aws.Fail = func(action string, form url.Values) *awstest.Failure {
				if f := fail(action); f != nil {
					return f
				}
				return usual(action, form)
			}
		})
	}
	fails := func(t *testing.T, says ...string) {
		t.Helper()
		r := b.Holdfast(t, "backup", stacktest.Server, "--wait")
		id, _ := b.newest()
		said := b.Must(t, "show-backup", stacktest.Server, string(id)).Stdout
		for _, text := range append(says, "FAILED") {
			if r.Code == 0 || !strings.Contains(said, text) {
				t.Errorf("exit code %d, and show-backup does not say %q: %s", r.Code, text, said)
			}
		}
		if left := c.snapshots(); len(left) > 0 {
			t.Errorf("left of a failed backup: %v", left)
		}
		b.leftBackupMode(t)
		b.Must(t, "delete", stacktest.Server, string(id))
	}
	cured := func(t *testing.T) {
		t.Helper()
		if got := b.backup(t); got.Attempts != 1 || len(c.snapshots()) != 2 {
			t.Errorf("%d attempts, and the snapshots are %q", got.Attempts, c.snapshots())
		}
		b.Must(t, "delete", stacktest.Server, "latest")
	}

	t.Run("throttled", func(t *testing.T) {
		c.hurry()
		var since time.Time
		during(func(action string) *awstest.Failure {
			if strings.HasPrefix(action, "CreateSnapshot") && since.IsZero() {
				since = time.Now()
			}
			if !since.IsZero() && time.Since(since) < 8*time.Second {
				return &awstest.Failure{Status: 503, Code: "RequestLimitExceeded", Text: "Request limit exceeded."}
			}
			return nil
		})
		cured(t)
	})
	t.Run("credentials expire while snapshots are waited for", func(t *testing.T) {
		c.aws.Do(func() { c.aws.Pending = 1 })
		looks := 0
		during(func(action string) *awstest.Failure {
			if action == "DescribeSnapshots" {
				if looks++; looks == 3 || looks == 4 {
					return &awstest.Failure{Status: 400, Code: "RequestExpired", Text: "Request has expired."}
				}
			}
			return nil
		})
		cured(t)
	})
	t.Run("holdfast-clouds is killed", func(t *testing.T) {
		c.hurry()
		var once sync.Once
		var killed int
		during(func(action string) *awstest.Failure {
			if action == "CreateSnapshots" {
				once.Do(func() { killed = b.Kill(t, "clouds") })
			}
			return nil
		})
		if got := b.backup(t); len(c.snapshots()) != 2 || killed == 0 {
			t.Errorf("%d were killed, %d attempts, and the snapshots are %q", killed, got.Attempts, c.snapshots())
		}
		b.leftBackupMode(t)
		b.Must(t, "delete", stacktest.Server, "latest")
	})
	t.Run("no instance", func(t *testing.T) {
		during(func(string) *awstest.Failure { return nil })
		name := c.aws.Instances[0].Name
		c.aws.Do(func() { c.aws.Instances[0].Name = "renamed" })
		before := b.count(t)
		if r := b.Holdfast(t, "backup", stacktest.Server, "--wait"); r.Code == 0 || !strings.Contains(r.Stderr, "instance "+name) || !strings.Contains(r.Stderr, "snapshot_instance") || b.count(t) != before {
			t.Errorf("exit code %d: %s", r.Code, r.Stderr)
		}
		c.aws.Do(func() { c.aws.Instances[0].Name = name })
	})
	t.Run("a disk is detached", func(t *testing.T) {
		volume := c.aws.Volumes[len(c.aws.Volumes)-1]
		during(func(action string) *awstest.Failure {
			if action == "CreateSnapshots" {
				volume.Instance = ""
			}
			return nil
		})
		fails(t, "AWS has made none of volume "+volume.ID)
		c.aws.Do(func() { volume.Instance = "i-1" })
	})
	t.Run("snapshots take too long", func(t *testing.T) {
		during(func(string) *awstest.Failure { return nil })
		with("aws_await_snapshots_timeout = 1")
		c.aws.Do(func() { c.aws.Pending = 1 << 30 })
		fails(t, "they were not completed within 1s", "raise aws_await_snapshots_timeout")
		c.aws.Do(func() { c.aws.Pending = 1 })
		with()
	})
	t.Run("a disk is unmounted", func(t *testing.T) { // the last one: the server does not survive it for long
		during(func(action string) *awstest.Failure {
			if action == "CreateSnapshots" {
				_ = unix.Unmount(disks[1].root, unix.MNT_DETACH)
			}
			return nil
		})
		fails(t, disks[1].name, "mount its file system")
	})
}
