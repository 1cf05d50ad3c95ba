//go:build integration

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// patience bounds every wait for what comes by itself; only a hang lasts as long.
const patience = 5 * time.Minute

// bed is a stack with rows, and what is to happen in the backup that runs.
type bed struct {
	*stacktest.Stack
	rows   string
	cat    *catalog.Catalog
	cloud  *cloud    // what the backups are in instead of directories; nil for nothing
	*disks           // of a snapshot bed
	rented *cloudAPI // has the disks of the cluster; nil for nothing

	mu   sync.Mutex
	hook hook
	t    testing.TB
}

// hook is told of the points that a process reaches, and may kill it there.
type hook func(t testing.TB, pid int, point string)

func newBed(t *testing.T, method, version string, settings ...string) *bed {
	return newBedAt(t, "", method, version, settings...)
}

// newBedAt keeps the backups in a directory that exists; the settings are PostgreSQL's.
func newBedAt(t *testing.T, home, method, version string, settings ...string) *bed {
	return newBedWith(t, stacktest.Options{Version: version, Method: method, Home: home, Config: settings})
}

// newBedWith has one database, a tablespace, and faults beside what the options say.
func newBedWith(t *testing.T, o stacktest.Options) *bed {
	b := &bed{}
	o.OneDatabase, o.Tablespaces = true, []string{"odd name's"}
	o.Faults = func(_ string, pid int, point string) {
		b.mu.Lock()
		hook, t := b.hook, b.t
		b.mu.Unlock()
		if hook != nil {
			hook(t, pid, point)
		}
	}
	b.Stack = stacktest.Start(t, o)
	b.Cluster.Fill(t, "plain", "", 10000)
	b.Cluster.Fill(t, "elsewhere", "odd name's", 5000)
	b.rows = b.Cluster.Fingerprint(t)
	dir := filepath.Join(b.Home, stacktest.Server)
	b.cat = catalog.Open(catalog.Layout{Server: stacktest.Server, BackupDir: dir, BaseDir: filepath.Join(dir, "base"), MetaDir: filepath.Join(dir, "meta"), LockDir: b.Home})
	return b
}

// eachMethod runs a test on a bed of its own for each method.
func eachMethod(t *testing.T, test func(t *testing.T, b *bed, method string)) {
	for i, method := range []string{config.MethodPostgres, config.MethodLocalRsync} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			test(t, newBed(t, method, pgtest.Versions()[1-i]), method)
		})
	}
}

func (b *bed) on(t testing.TB, h hook) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.t, b.hook = t, h
}

// slow makes the copy of the test's rows last long enough to be hit.
var slow = []string{"--bwlimit", "6000"}

// taken is what a backup's JSON says.
type taken struct {
	ID       backup.ID     `json:"backup_id"`
	Status   backup.Status `json:"status"`
	Attempts int           `json:"attempts"`
}

// backup takes a backup that must be DONE.
func (b *bed) backup(t *testing.T, args ...string) taken {
	t.Helper()
	return took(t, b.Holdfast(t, append([]string{"-f", "json", "backup", stacktest.Server, "--wait"}, args...)...))
}

// took reads the JSON of a backup that succeeded.
func took(t *testing.T, r stacktest.Result) taken {
	t.Helper()
	var out taken
	if err := json.Unmarshal([]byte(r.Stdout), &out); err != nil || r.Code != 0 || out.Status != backup.Done {
		t.Fatalf("exit code %d, %v: %s%s", r.Code, err, r.Stdout, r.Stderr)
	}
	return out
}

// during takes a backup and does something in the middle of its copy, once.
func (b *bed) during(t *testing.T, do func(), args ...string) stacktest.Result {
	t.Helper()
	return b.duringWhen(t, b.begun, do, args...)
}

// duringWhen is during for a moment of the copy that the test chooses.
func (b *bed) duringWhen(t *testing.T, enough func() bool, do func(), args ...string) stacktest.Result {
	t.Helper()
	middle, done := whenCopied(enough, do)
	b.on(t, middle)
	r := b.Holdfast(t, append([]string{"-f", "json", "backup", stacktest.Server, "--wait"}, args...)...)
	await(t, done, r.Stdout+r.Stderr)
	return r
}

// whenCopied is a hook that does something once, in the middle of a copy: when
// enough has been copied.
func whenCopied(enough func() bool, do func()) (hook, <-chan struct{}) {
	var once sync.Once
	var over atomic.Int64 // when a copy ended and no other one had begun; 0 while one runs
	done := make(chan struct{})
	return func(t testing.TB, _ int, point string) {
		if strings.HasPrefix(point, "after:Copy") {
			over.Store(time.Now().UnixNano())
		}
		if !strings.HasPrefix(point, "before:Copy") {
			return
		}
		over.Store(0)
		once.Do(func() {
			go func() {
				defer close(done)
				for deadline := time.Now().Add(patience); !enough(); time.Sleep(5 * time.Millisecond) {
					ended := over.Load()
					if ended != 0 && time.Since(time.Unix(0, ended)) > retried || time.Now().After(deadline) {
						t.Error("nothing was done, because the copy did not get as far or was over too soon")
						return
					}
				}
				do()
			}()
		})
	}, done
}

// retried is the time within which a copy that was interrupted begins again.
const retried = 15 * time.Second

func await(t *testing.T, done <-chan struct{}, otherwise string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("what was to happen meanwhile has not happened: %s", otherwise)
	}
}

// begun reports whether files of the main data directory have come into the newest backup.
func (b *bed) begun() bool {
	id, ok := b.newest()
	if !ok {
		return false
	}
	if b.cloud != nil {
		return b.cloud.begun(b, id)
	}
	data := b.cat.DataDir(id)
	there, err := filepath.Glob(filepath.Join(data, "base", "*", "*"))
	tars, tarErr := filepath.Glob(filepath.Join(data, "base.tar*"))
	if err != nil || tarErr != nil || len(tars) == 0 {
		return err == nil && len(there) > 20
	}
	info, err := os.Stat(tars[0])
	return err == nil && info.Size() > 64<<10
}

func (b *bed) newest() (backup.ID, bool) {
	all, _, err := b.cat.List()
	if err != nil || len(all) == 0 {
		return "", false
	}
	return all[len(all)-1].ID, true
}

// verify restores a backup and compares its rows; the backup is the only one
// that came, and nothing else is left of it.
func (b *bed) verify(t *testing.T, got taken, before int) {
	t.Helper()
	b.on(t, nil)
	all, warnings, err := b.cat.List()
	if err != nil || len(warnings) > 0 || len(all) != before+1 || all[len(all)-1].ID != got.ID || all[len(all)-1].Status != backup.Done {
		t.Errorf("the catalogue has %d backups where %d were expected, %v, %v", len(all), before+1, warnings, err)
	}
	b.CheckNothingIsLeft(t)
	if b.rented != nil {
		b.onDisks(t, got.ID)
		return
	}
	dest := filepath.Join(pgtest.Dir(t), "restored")
	args := []string{"restore", stacktest.Server, string(got.ID), dest}
	info, err := b.cat.Get(got.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i, ts := range info.Tablespaces {
		args = append(args, "--tablespace", fmt.Sprintf("%s:%s-%d", ts.Name, dest, i))
	}
	b.Must(t, args...)
	c := pgtest.NewFromDataDir(t, b.Cluster.Version, dest)
	if rows := c.Fingerprint(t); rows != b.rows {
		t.Errorf("the restored rows are not those of the source")
	}
	c.AmCheck(t)
	c.Stop(t, pgtest.Immediate)
	if info.Parent != nil {
		if parent, err := b.cat.Get(*info.Parent); err != nil || !slices.Equal(parent.Children, []backup.ID{got.ID}) {
			t.Errorf("the parent lists %v, %v", parent, err)
		}
	}
	if b.cloud != nil {
		b.cloud.removed(t, b, got.ID)
		return
	}
	if err := errors.Join(b.cat.Disown(info), b.cat.Remove(got.ID)); err != nil {
		t.Error(err)
	}
}

func (b *bed) count(t *testing.T) int {
	t.Helper()
	all, _, err := b.cat.List()
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// hash is over names, sizes and contents of a backup's files.
func (b *bed) hash(t *testing.T, id backup.ID) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", "find . -path ./holdfast -prune -o -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum")
	cmd.Dir = b.cat.BackupDirOf(id)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}
