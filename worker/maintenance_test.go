//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
	"github.com/holdfast-pg/holdfast/workflows"
)

// cron does the maintenance once.
func (b *bed) cron(t *testing.T) workflows.MaintenanceResult {
	t.Helper()
	var out map[string]workflows.MaintenanceResult
	r := b.Must(t, "-f", "json", "cron")
	if err := json.Unmarshal([]byte(r.Stdout), &out); err != nil {
		t.Fatalf("%v in %s", err, r.Stdout)
	}
	return out[stacktest.Server]
}

func (b *bed) archiveWith(t *testing.T, command string) {
	t.Helper()
	b.Cluster.Exec(t, "alter system set archive_command = '"+strings.ReplaceAll(command, "'", "''")+"'")
	b.Cluster.Exec(t, "select pg_reload_conf()")
}

// late takes backups whose WAL comes into the incoming directory when they have
// ended. A damage is done to the files of those that have one.
func (b *bed) late(t *testing.T, damages ...func(backup.ID)) []taken {
	t.Helper()
	b.archiveWith(t, "false")
	out := make([]taken, max(1, len(damages)))
	var last string
	for i := range out {
		r := b.Holdfast(t, "-f", "json", "backup", stacktest.Server)
		if err := json.Unmarshal([]byte(r.Stdout), &out[i]); err != nil || r.Code != 0 || out[i].Status != backup.WaitingForWALs {
			t.Fatalf("%d, %v: %s%s", r.Code, err, r.Stdout, r.Stderr)
		}
		info, err := b.cat.Get(out[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		last = *info.EndWAL
		if i < len(damages) && damages[i] != nil {
			damages[i](out[i].ID)
		}
	}
	incoming := filepath.Join(b.Home, stacktest.Server, "incoming")
	b.archiveWith(t, fmt.Sprintf("cp %%p %[1]s/.%%f && mv %[1]s/.%%f %[1]s/%%f", incoming))
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(incoming, last)); err == nil {
			return out
		}
		if time.Now().After(deadline) {
			t.Fatal("the WAL does not arrive")
		}
	}
}

// A backup whose WAL comes late, through the incoming directory, is finished by
// the maintenance, whichever step of that is killed.
func TestMaintenanceFinishesWhatWaitedForWAL(t *testing.T) {
	t.Parallel()
	b := newBed(t, config.MethodLocalRsync, pgtest.Versions()[1])
	b.Configure(t, config.MethodLocalRsync, "holdfast_wal_wait = 1s", "holdfast_maintenance_interval = 24h")
	for _, point := range []string{"after:ArchiveArrived", "before:ProveBackup", "after:RecordDone", "before:PurgeWAL", "after:PurgeWAL"} {
		t.Run(point, func(t *testing.T) {
			before := b.count(t)
			waiting := b.late(t)[0]
			victim := "workflow"
			if strings.HasSuffix(point, "ProveBackup") {
				victim = "copy"
			}
			var once sync.Once
			hit := make(chan struct{})
			b.on(t, func(t testing.TB, _ int, at string) {
				if at == point {
					once.Do(func() { b.Kill(t, victim); close(hit) })
				}
			})
			got := b.cron(t)
			await(t, hit, point)
			if got.Archived == 0 && !strings.Contains(point, "ArchiveArrived") || len(got.Proved) != 1 || got.Proved[0] != waiting.ID || len(got.Warnings) > 0 {
				t.Errorf("%#v", got)
			}
			if point == "after:RecordDone" {
				b.keepHistory(t, "maintenance-late-wal", workflows.MaintenanceID(stacktest.Server))
			}
			b.verify(t, taken{ID: waiting.ID, Status: backup.Done}, before)
		})
	}
}

// A maintenance in which every step has something to do is finished when each
// of them is killed, once before it began and once when it had ended.
func TestMaintenanceIsFinishedWhateverIsKilled(t *testing.T) {
	t.Parallel()
	steps := map[string]string{"ProveBackup": "copy"}
	for _, step := range []string{"ArchiveArrived", "EndAbandoned", "ReadyToProve", "RecordDone", "RecordFailed", "ApplyRetention", "SweepLeftovers"} {
		steps[step] = "workflow"
	}
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, config.MethodLocalRsync, pgtest.Versions()[0])
			b.Configure(t, config.MethodLocalRsync, "retention_policy = REDUNDANCY 1", "holdfast_wal_wait = 1s", "holdfast_maintenance_interval = 24h")
			obsolete := b.backup(t)
			waiting := b.late(t, b.damage(t), nil)
			damaged, good := waiting[0], waiting[1]
			abandoned := b.abandon(t, "20260101T000000")
			leftovers := []string{filepath.Join(b.cat.MetaDir, atomicfile.TempPrefix+"1"), filepath.Join(b.Home, stacktest.Server, "wals", atomicfile.TempPrefix+"1")}
			for _, path := range leftovers {
				b.leave(t, path)
			}

			var mu sync.Mutex
			left := maps.Clone(steps)
			b.on(t, func(t testing.TB, _ int, at string) {
				mu.Lock()
				defer mu.Unlock()
				step, _ := strings.CutPrefix(at, when+":")
				if victim := left[step]; victim != "" {
					delete(left, step)
					b.Kill(t, victim)
				}
			})
			r := b.Holdfast(t, "-f", "json", "cron")
			b.on(t, nil)
			if r.Code != 1 || !strings.Contains(r.Stdout, string(damaged.ID)) {
				t.Errorf("exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
			}
			if len(left) > 0 {
				t.Errorf("not reached: %v", left)
			}
			if _, err := b.cat.Get(obsolete.ID); !fault.Is(err, fault.NotFound) {
				t.Errorf("the obsolete backup is still there: %v", err)
			}
			for id, want := range map[backup.ID]backup.Status{damaged.ID: backup.Failed, abandoned: backup.Failed, good.ID: backup.Done} {
				if info, err := b.cat.Get(id); err != nil || info.Status != want {
					t.Errorf("%s should be %s: %+v, %v", id, want, info, err)
				}
			}
			for _, path := range leftovers {
				if _, err := os.Lstat(path); err == nil {
					t.Errorf("%s was not removed", path)
				}
			}
			b.verify(t, good, b.count(t)-1)
		})
	}
}

// damage changes a byte of a backup.
func (b *bed) damage(t *testing.T) func(backup.ID) {
	return func(id backup.ID) {
		t.Helper()
		path := filepath.Join(b.cat.DataDir(id), "global", "pg_filenode.map")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-1]++
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// abandon makes a backup that nobody works for.
func (b *bed) abandon(t *testing.T, id backup.ID) backup.ID {
	t.Helper()
	if err := b.cat.Create(&backupinfo.Info{ID: id, Status: backup.Started, ServerName: stacktest.Server}); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(b.cat.DataDir(id), 0o755); err != nil {
		t.Fatal(err)
	}
	b.chown(t, b.cat.InfoPath(id), b.cat.BackupDirOf(id), b.cat.DataDir(id))
	return id
}

// leave makes a temporary file of a process that was killed long ago.
func (b *bed) leave(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(path, long, long); err != nil {
		t.Fatal(err)
	}
	b.chown(t, path)
}

func (b *bed) chown(t *testing.T, paths ...string) {
	t.Helper()
	cred := pgtest.Credential(t)
	if cred == nil {
		return
	}
	for _, path := range paths {
		if err := os.Chown(path, int(cred.Uid), int(cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// A backup that lost its engine for ever becomes FAILED, its processes end, and
// another one can be taken at once.
func TestMaintenanceEndsAbandonedBackups(t *testing.T) {
	t.Parallel()
	eachMethod(t, func(t *testing.T, b *bed, _ string) {
		middle, copying := whenCopied(b.begun, func() {})
		b.on(t, middle)
		b.Must(t, append([]string{"backup", stacktest.Server, "--detach"}, "--bwlimit", "200")...)
		await(t, copying, "the copy")
		id, _ := b.newest()
		if got := b.cron(t); len(got.Abandoned) > 0 {
			t.Errorf("a backup that runs was given up: %+v", got)
		}
		b.Down(t)
		b.forgetEngine(t)
		b.Up(t)
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Second) {
			b.cron(t)
			info, err := b.cat.Get(id)
			if err != nil {
				t.Fatal(err)
			}
			if info.Status == backup.Failed {
				if info.Error == nil || !strings.Contains(*info.Error, "abandoned") {
					t.Errorf("%v", info.Error)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the backup is still %s", info.Status)
			}
		}
		b.CheckNothingIsLeft(t)
		if err := b.cat.Remove(id); err != nil {
			t.Fatal(err)
		}
		b.verify(t, b.backup(t), 0)
	})
}

// The policy is applied in the background, whatever is killed meanwhile, and
// what it keeps can be restored.
func TestMaintenanceAppliesThePolicy(t *testing.T) {
	t.Parallel()
	b := newBed(t, config.MethodPostgres, pgtest.Versions()[0])
	b.Configure(t, config.MethodPostgres, "retention_policy = REDUNDANCY 1", "holdfast_maintenance_interval = 24h")
	old := b.backup(t)
	last := b.backup(t)
	var once sync.Once
	hit := make(chan struct{})
	b.on(t, func(t testing.TB, _ int, at string) {
		if at == "after:ApplyRetention" {
			once.Do(func() { b.Kill(t, "workflow"); close(hit) })
		}
	})
	b.cron(t)
	await(t, hit, "the policy")
	b.keepHistory(t, "maintenance", workflows.MaintenanceID(stacktest.Server))
	if _, err := b.cat.Get(old.ID); err == nil {
		t.Errorf("%s is still there", old.ID)
	}
	b.verify(t, last, 0)
}
