//go:build integration

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/sshtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

func TestMain(m *testing.M) { os.Exit(stacktest.Main(m)) }

// kind is a kind of backup that is killed.
type kind struct {
	name     string
	method   string
	versions []string
	daily    bool // CI kills it, too
	bed      func(t *testing.T, version string) *bed
	before   func(b *bed, t *testing.T) // may be nil
	args     []string                   // of the command that takes the backup
	after    func(b *bed, t *testing.T) // what else must be so afterwards; may be nil
	follows  bool                       // an earlier backup stays, so that no WAL is purged
}

var killKinds = []kind{
	{name: "postgres", method: config.MethodPostgres, versions: pgtest.Versions(), daily: true, bed: func(t *testing.T, version string) *bed { return newBed(t, config.MethodPostgres, version) }},
	{name: "local-rsync", method: config.MethodLocalRsync, versions: pgtest.Versions(), daily: true, bed: func(t *testing.T, version string) *bed { return newBed(t, config.MethodLocalRsync, version) }},
	{name: "postgres, tar zstd", method: config.MethodPostgres, versions: pgtest.Versions()[1:], bed: func(t *testing.T, version string) *bed {
		b := newBed(t, config.MethodPostgres, version)
		b.Configure(t, config.MethodPostgres, "backup_compression = zstd")
		return b
	}},
	{name: "rsync over ssh", method: config.MethodRsync, versions: pgtest.Versions()[:1], after: (*bed).checkHost, bed: func(t *testing.T, version string) *bed {
		b, _ := newBedOver(t, version, sshtest.Options{}, "parallel_jobs = 2")
		return b
	}},
	{name: "rsync over ssh, exclusive", method: config.MethodRsync, versions: pgtest.AllVersions()[:1], after: (*bed).leftBackupMode, bed: func(t *testing.T, version string) *bed {
		b, _ := newBedOver(t, version, sshtest.Options{}, "backup_options = exclusive_backup")
		return b
	}},
	{name: "postgres, of a standby", method: config.MethodPostgres, versions: pgtest.Versions()[1:], bed: func(t *testing.T, version string) *bed {
		b := newBed(t, config.MethodPostgres, version)
		b.follow(t, config.MethodPostgres, "always", "primary_conninfo = "+b.Cluster.DSN())
		return b
	}},
	{name: "snapshot, btrfs", method: config.MethodSnapshot, versions: pgtest.Versions()[:1], after: (*bed).oneOfEach, bed: func(t *testing.T, version string) *bed {
		return newSnapshotBed(t, "btrfs", version)
	}},
	{name: "snapshot, btrfs, exclusive", method: config.MethodSnapshot, versions: pgtest.AllVersions()[:1], bed: func(t *testing.T, version string) *bed {
		return newSnapshotBed(t, "btrfs", version, "backup_options = exclusive_backup")
	}, after: func(b *bed, t *testing.T) {
		b.oneOfEach(t)
		b.leftBackupMode(t)
	}},
	{name: "snapshot, AWS", method: config.MethodSnapshot, versions: pgtest.Versions()[1:], bed: func(t *testing.T, version string) *bed {
		api := amazon(t)
		api.hurry()
		b, _ := newRentedBed(t, api, version)
		return b
	}, after: (*bed).oneOfEach},
	{name: "postgres, incremental", method: config.MethodPostgres, versions: pgtest.Versions()[1:], follows: true,
		before: (*bed).changed, args: []string{"--incremental", "latest-full"}, bed: func(t *testing.T, version string) *bed {
			b := newBed(t, config.MethodPostgres, version, "summarize_wal = on")
			b.backup(t)
			return b
		}},
	{name: "local-to-cloud", method: config.MethodLocalToCloud, versions: pgtest.Versions()[1:], args: slowStore,
		bed: func(t *testing.T, version string) *bed { return newCloudBed(t, version) }},
}

// scenario is one kill: a victim at a step's boundary.
type scenario struct {
	Method  string `json:"method"`
	Version string `json:"version"`
	Victim  string `json:"victim"`
	Point   string `json:"point"`
}

func (s scenario) String() string {
	return fmt.Sprintf("%s/%s/%s/%s", s.Method, s.Version, s.Victim, s.Point)
}

// duringCopy is the point in the middle of the copy.
const duringCopy = "during:copy"

// steps are the activities of a backup, in order.
func (k kind) steps() []string {
	copying := "CopyFiles"
	switch k.method {
	case config.MethodPostgres:
		copying = "CopyBaseBackup"
	case config.MethodLocalToCloud:
		copying = "CopyVolumes"
	case config.MethodSnapshot:
		copying = "CutSnapshots"
	}
	steps := []string{"PlanBackup", "CreateBackup", "StartBackup", "HoldSession", "RecordBegin", copying, "StopBackup", "RecordCopied", "WaitForWAL", "ProveBackup", "RecordDone"}
	if !k.follows {
		steps = append(steps, "PurgeWAL")
	}
	return steps
}

// scenarios are all kills that can hit something.
func (k kind) scenarios(version string) []scenario {
	var out []scenario
	add := func(victim, point string) { out = append(out, scenario{k.name, version, victim, point}) }
	for i, step := range k.steps() {
		for _, when := range []string{"before:", "after:"} {
			if step == "HoldSession" && when == "after:" {
				continue // its end is that of StopBackup
			}
			for _, victim := range []string{"keeper", "copy", "workflow", "engine"} {
				add(victim, when+step)
			}
			// The session lives from the end of StartBackup to the beginning of StopBackup.
			if when+step == "after:StartBackup" || i > 2 && i < 6 || when+step == "before:StopBackup" {
				add("session", when+step)
			}
		}
	}
	if k.method == config.MethodSnapshot {
		return out // nothing is copied
	}
	for _, victim := range stacktest.Victims {
		if victim != "child" || k.method != config.MethodLocalToCloud { // which has none
			add(victim, duringCopy)
		}
	}
	return out
}

// subset is what CI runs: every point once, by turns with each method, each time
// with another victim, and every victim in the middle of the copy.
func subset(all []scenario, offset int) []scenario {
	var out []scenario
	seen := map[string]int{}
	order := 0
	victims := []string{"keeper", "copy", "workflow", "engine", "session"}
	for _, s := range all {
		if s.Point == duringCopy {
			out = append(out, s)
			continue
		}
		n, ok := seen[s.Point]
		if !ok {
			n = order
			seen[s.Point] = order
			order++
		}
		if n%2 == offset%2 && s.Victim == victims[(n/2+offset)%4] {
			out = append(out, s)
		}
	}
	return out
}

// killAt kills the victim when the point is reached for the first time.
func (b *bed) killAt(t testing.TB, s scenario) (hit <-chan struct{}) {
	if s.Point == duringCopy {
		middle, done := whenCopied(b.begun, func() { b.Kill(t, s.Victim) })
		b.on(t, middle)
		return done
	}
	var once sync.Once
	done := make(chan struct{})
	b.on(t, func(t testing.TB, _ int, point string) {
		if point == s.Point {
			once.Do(func() { b.Kill(t, s.Victim); close(done) })
		}
	})
	return done
}

// try kills once, or a storm, while a backup is taken.
func (b *bed) try(t *testing.T, s scenario, args ...string) taken {
	if b.disks == nil && b.rented == nil { // snapshots copy nothing
		args = slices.Concat(slow, args)
	}
	before := b.count(t)
	var got taken
	if s.Victim == "storm" {
		got = b.storm(t, s.Point, args)
	} else {
		hit := b.killAt(t, s)
		got = b.backup(t, args...)
		await(t, hit, s.String())
	}
	b.verify(t, got, before)
	return got
}

// changed makes an incremental backup large enough to be hit in the middle.
func (b *bed) changed(t *testing.T) {
	b.Cluster.Exec(t, "UPDATE plain SET payload = repeat(md5(random()::text), 8)")
	b.rows = b.Cluster.Fingerprint(t)
}

// shards is how many installations share the scenarios of a method: most of a
// scenario's time is waiting.
const shards = 3

// TestKill kills every process at every step's boundary: the backup is DONE
// under the same ID all the same.
func TestKill(t *testing.T) {
	t.Parallel()
	results := openResults(t, "HOLDFAST_KILL")
	t.Cleanup(func() { results.write(t, "durability.md", killPage) })
	for i, k := range killKinds {
		versions, storms := k.versions, 10
		if !results.all {
			if !k.daily {
				continue
			}
			versions, storms = []string{pgtest.Versions()[i]}, 1
		}
		for _, version := range versions {
			list := k.scenarios(version)
			if !results.all {
				list = subset(list, i)
			}
			for n := range storms {
				list = append(list, scenario{k.name, version, "storm", fmt.Sprint(n)})
			}
			results.planned += len(list)
			for shard := range shards {
				t.Run(fmt.Sprintf("%s/%s/%d", k.name, version, shard), func(t *testing.T) {
					t.Parallel()
					if results.allPassed(list) {
						return
					}
					b := k.bed(t, version)
					for n, s := range list {
						if n%shards == shard && !results.passed(s.String()) && !results.sittingIsOver() {
							t.Run(s.Victim+"/"+s.Point, func(t *testing.T) {
								began := time.Now()
								if k.before != nil {
									k.before(b, t)
								}
								got := b.try(t, s, k.args...)
								if k.after != nil {
									k.after(b, t)
								}
								results.add(t, result{Name: s.String(), Passed: !t.Failed(), Attempts: got.Attempts, Seconds: time.Since(began).Seconds()})
							})
						}
					}
				})
			}
		}
	}
}

// storm takes a backup and kills at random meanwhile, several times.
func (b *bed) storm(t *testing.T, number string, args []string) taken {
	seed, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(seed, 20261124))
	stop, stopped := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.on(t, func(t testing.TB, _ int, point string) {
		if point != "before:PlanBackup" {
			return
		}
		once.Do(func() {
			go func() {
				defer close(stopped)
				for range 3 + random.IntN(4) {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(200+random.IntN(2500)) * time.Millisecond):
					}
					victim := stacktest.Victims[random.IntN(len(stacktest.Victims))]
					t.Logf("killed %d %s", b.Kill(t, victim), victim)
				}
			}()
		})
	})
	got := b.backup(t, args...)
	close(stop)
	<-stopped
	return got
}
