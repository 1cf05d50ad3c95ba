//go:build integration

package main

import (
	"encoding/json"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
	"github.com/holdfast-pg/holdfast/workflows"
)

const (
	secondBucket = "second"
	secondURL    = "s3://" + secondBucket + "/other"
)

// threefold is a bed whose backups go to two buckets and a directory.
type threefold struct {
	*bed
	dir string // the third destination
}

func newThreefold(t *testing.T, settings ...string) *threefold {
	c := newCloud(t, secondBucket)
	three := &threefold{dir: filepath.Join(pgtest.Dir(t), "third")}
	if err := os.Mkdir(three.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if cred := pgtest.Credential(t); cred != nil {
		if err := os.Chown(three.dir, int(cred.Uid), int(cred.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	three.bed = newBedWith(t, stacktest.Options{Version: pgtest.Versions()[1], Method: config.MethodLocalToCloud, Env: c.Environment(), SegmentMB: 1,
		Settings: three.settings(c, settings...)})
	three.cloud = c
	three.archiveWith(t, c.env()+" "+three.Bin+"/holdfast -c "+three.Config+" wal-archive main %p")
	return three
}

func (three *threefold) settings(c *cloud, more ...string) []string {
	return append(append(c.settings(), "wals_directory = "+cloudURL, "holdfast_replicas = "+secondURL+", file://"+three.dir), more...)
}

// objects are the names below a backup's keys at each destination, and those of WAL.
func (three *threefold) objects(t *testing.T, id backup.ID) (backups, wals [3][]string) {
	t.Helper()
	for i, root := range []string{filepath.Join(three.cloud.Data(cloudBucket), "some", "where"), filepath.Join(three.cloud.Data(secondBucket), "other"), three.dir} {
		root = filepath.Join(root, stacktest.Server)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil || d.IsDir() {
				return err
			}
			name := strings.TrimPrefix(path, root+"/")
			if rest, is := strings.CutPrefix(name, "base/"+string(id)+"/"); is {
				backups[i] = append(backups[i], rest)
			} else if strings.HasPrefix(name, "wals/") {
				wals[i] = append(wals[i], filepath.Base(name))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return backups, wals
}

// everywhere checks that a backup is the same at each destination, with the WAL that it needs.
func (three *threefold) everywhere(t *testing.T, id backup.ID) {
	t.Helper()
	backups, wals := three.objects(t, id)
	info, err := three.cat.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	for i := range backups {
		if len(backups[0]) < 5 || !slices.Equal(backups[0], backups[i]) {
			t.Errorf("destination %d has %q, the main one %q", i, backups[i], backups[0])
		}
		if !slices.Contains(wals[i], *info.BeginWAL) || !slices.Contains(wals[i], *info.EndWAL) {
			t.Errorf("destination %d has the WAL %q, %s to %s is needed", i, wals[i], *info.BeginWAL, *info.EndWAL)
		}
	}
}

// destination is what show-backup tells of one.
type destination struct {
	URL      string
	Complete bool
	Behind   string
}

func (three *threefold) destinations(t *testing.T, id backup.ID) []destination {
	t.Helper()
	var out map[string]struct{ Destinations []destination }
	r := three.Must(t, "-f", "json", "show-backup", stacktest.Server, string(id))
	if err := json.Unmarshal([]byte(r.Stdout), &out); err != nil || len(out[stacktest.Server].Destinations) != 3 {
		t.Fatalf("%v: %s", err, r.Stdout)
	}
	return out[stacktest.Server].Destinations
}

// denied lets a bucket refuse every request for backups, from the n-th volume on.
func (three *threefold) denied(bucket string, n int) {
	three.cloud.mu.Lock()
	defer three.cloud.mu.Unlock()
	volumes := 0
	three.cloud.fault = func(w http.ResponseWriter, r *http.Request) bool {
		prefix := r.URL.Path + r.URL.Query().Get("prefix")
		if !strings.HasPrefix(r.URL.Path, "/"+bucket) || strings.Contains(prefix, "/wals/") {
			return false
		}
		three.cloud.mu.Lock()
		defer three.cloud.mu.Unlock()
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "_0") {
			volumes++
		}
		return volumes >= n && s3Error(w, http.StatusForbidden, "AccessDenied", "Access Denied")
	}
}

// killOnce kills the copy role when the second volume comes to a bucket, which refuses nothing.
func (three *threefold) killOnce(t *testing.T, bucket string) <-chan struct{} {
	three.cloud.mu.Lock()
	defer three.cloud.mu.Unlock()
	done := make(chan struct{})
	volumes := 0
	three.cloud.fault = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.HasPrefix(r.URL.Path, "/"+bucket+"/") || !strings.Contains(r.URL.Path, "_0") {
			return false
		}
		three.cloud.mu.Lock()
		volumes++
		second := volumes == 2
		three.cloud.mu.Unlock()
		if second {
			three.Kill(t, "copy")
			close(done)
		}
		return second
	}
	return done
}

func (three *threefold) allowed() {
	three.cloud.mu.Lock()
	defer three.cloud.mu.Unlock()
	three.cloud.fault = nil
}

// says runs a command and looks for what it has to print.
func (three *threefold) says(t *testing.T, code int, want string, args ...string) {
	t.Helper()
	if r := three.Holdfast(t, args...); r.Code != code || !strings.Contains(r.Stdout+r.Stderr, want) {
		t.Errorf("%v: exit code %d, %q is missing in:\n%s%s", args, r.Code, want, r.Stdout, r.Stderr)
	}
}

// caughtUp waits until no destination lacks the backup.
func (three *threefold) caughtUp(t *testing.T, id backup.ID) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		d, err := three.cat.Destinations(id)
		if err == nil && len(d.Lacking()) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %v", d, err)
		}
	}
}

// TestReplicas: each backup goes to three stores, each of which is complete by itself, and is deleted
// from all. One that fails in the middle gets it later.
func TestReplicas(t *testing.T) {
	t.Parallel()
	three := newThreefold(t, "holdfast_replica_quorum = 2")
	first := three.backup(t)
	three.everywhere(t, first.ID)
	for _, d := range three.destinations(t, first.ID) {
		if !d.Complete {
			t.Errorf("%+v", d)
		}
	}
	three.cloud.judge().restored(t, three.bed, first.ID, secondURL)

	three.Cluster.Exec(t, "UPDATE plain SET payload = 'changed' WHERE id < 500")
	three.rows = three.Cluster.Fingerprint(t)
	three.denied(secondBucket, 2) // it has one volume by then
	second := three.backup(t)
	if d := three.destinations(t, second.ID); !d[0].Complete || d[1].Complete || !strings.Contains(d[1].Behind, "the store denies it") || !d[2].Complete {
		t.Errorf("%+v", d)
	}
	if text := three.Must(t, "show-backup", stacktest.Server, string(second.ID)).Stdout; !strings.Contains(text, secondURL+" lacks it since") {
		t.Error(text)
	}
	three.allowed()
	if err := os.Remove(filepath.Join(three.dir, stacktest.Server, "base", string(second.ID), "backup.info")); err != nil { // only the main store can be copied from
		t.Fatal(err)
	}
	three.caughtUp(t, second.ID)
	backups, _ := three.objects(t, second.ID)
	if !slices.Equal(backups[0], backups[1]) {
		t.Errorf("caught up is %q, the main store has %q", backups[1], backups[0])
	}
	three.Must(t, "delete", stacktest.Server, string(first.ID))
	three.cloud.judge().restored(t, three.bed, second.ID, secondURL)
	three.keepHistory(t, "replicas", workflows.ReplicasID(stacktest.Server, second.ID))
	three.keepHistory(t, "local-to-cloud-replica-behind", workflows.BackupID(stacktest.Server))

	three.denied(cloudBucket, 0) // the main one, from the beginning
	third := three.backup(t)
	if d := three.destinations(t, third.ID); d[0].Complete || !d[1].Complete || !d[2].Complete {
		t.Errorf("%+v", d)
	}
	three.says(t, 0, "lacks the backup", "verify-backup", stacktest.Server, string(third.ID))
	three.says(t, 1, "the store denies it", "check", stacktest.Server)
	three.says(t, 0, "Backups that a destination lacks: "+string(third.ID), "status", stacktest.Server)
	dest := filepath.Join(pgtest.Dir(t), "restored")
	three.says(t, 0, "read from the replica "+secondURL, "restore", stacktest.Server, string(second.ID), dest, "--tablespace", "odd name's:"+dest+"-ts")
	three.says(t, 4, "does not let it be deleted", "delete", stacktest.Server, string(second.ID))
	killed := three.killOnce(t, cloudBucket)
	if in := three.cron(t); len(in.Warnings) > 0 {
		t.Errorf("%+v", in)
	}
	three.keepHistory(t, "maintenance-replica-behind", workflows.MaintenanceID(stacktest.Server))
	await(t, killed, "nothing was copied to the main store")
	three.caughtUp(t, third.ID)
	three.everywhere(t, third.ID)
	three.says(t, 0, "At file://"+three.dir, "verify-backup", stacktest.Server, string(third.ID))
	three.says(t, 0, "replica "+secondURL+": OK", "check", stacktest.Server)
	three.says(t, 0, "DONE", "show-backup", stacktest.Server, string(third.ID), "--from", "file://"+three.dir)

	three.Must(t, "delete", stacktest.Server, string(second.ID))
	if _, wals := three.objects(t, third.ID); len(wals[1]) == 0 {
		t.Error("the WAL of a backup went with another one")
	}
	three.Must(t, "delete", stacktest.Server, string(third.ID))
	if again := three.cloud.twice(); len(again) > 0 {
		t.Errorf("sent twice: %q", again)
	}
	for _, id := range []backup.ID{first.ID, second.ID, third.ID} {
		backups, wals := three.objects(t, id)
		for i := range backups {
			if len(backups[i]) > 0 || i > 0 && len(wals[i]) > 0 {
				t.Errorf("destination %d still has %q and %q", i, backups[i], wals[i])
			}
		}
	}
}

// TestReplicasBelowTheQuorum: the backup fails, and says what each destination failed for.
func TestReplicasBelowTheQuorum(t *testing.T) {
	t.Parallel()
	three := newThreefold(t, "holdfast_replica_quorum = 3")
	three.denied(secondBucket, 1)
	r := three.Holdfast(t, "backup", stacktest.Server, "--wait")
	three.allowed()
	id, _ := three.newest()
	show := three.Must(t, "show-backup", stacktest.Server, string(id)).Stdout
	for _, want := range []string{"FAILED", secondURL, "the store denies it", "holdfast_replica_quorum = 3", "What to do"} {
		if r.Code == 0 || !strings.Contains(show, want) {
			t.Errorf("exit code %d, %q is missing in: %s", r.Code, want, show)
		}
	}
	three.CheckNothingIsLeft(t)
	three.Must(t, "delete", stacktest.Server, string(id))
	backups, _ := three.objects(t, id)
	for i := range backups {
		if len(backups[i]) > 0 {
			t.Errorf("destination %d still has %q", i, backups[i])
		}
	}
}

// TestACopyWithReplicasIsResumed: after a kill no finished volume is sent again, to nobody.
func TestACopyWithReplicasIsResumed(t *testing.T) {
	t.Parallel()
	three := newThreefold(t, "holdfast_replica_quorum = 3")
	got := three.try(t, scenario{config.MethodLocalToCloud, three.Cluster.Version, "copy", duringCopy}, "--bwlimit", "1500")
	backups, _ := three.objects(t, got.ID)
	for i := range backups {
		if len(backups[i]) > 0 {
			t.Errorf("destination %d still has %q", i, backups[i])
		}
	}
}

// TestReplicasOfOtherProviders: one read goes to the stores of three providers, each by its own rules of
// copying, and each is complete by itself.
func TestReplicasOfOtherProviders(t *testing.T) {
	t.Parallel()
	c, google, azure := newCloud(t), storetest.StartGoogle(t, cloudBucket), storetest.StartAzure(t, cloudBucket)
	env := c.Environment()
	maps.Copy(env, google.Environment())
	maps.Copy(env, azure.Environment())
	replicas := []string{"gs://" + cloudBucket + "/third", "https://" + storetest.AzureAccount + ".blob.core.windows.net/" + cloudBucket + "/fourth"}
	b := newBedWith(t, stacktest.Options{Version: pgtest.Versions()[1], Method: config.MethodLocalToCloud, Env: env, SegmentMB: 1,
		Settings: append(c.settings(), "wals_directory = "+cloudURL, "holdfast_replica_quorum = 3", "holdfast_replicas = "+strings.Join(replicas, ", "))})
	b.cloud = c
	b.archiveWith(t, c.env()+" "+b.Bin+"/holdfast -c "+b.Config+" wal-archive main %p")
	first := b.backup(t)
	b.Cluster.Exec(t, "UPDATE plain SET payload = 'changed' WHERE id < 500")
	b.rows = b.Cluster.Fingerprint(t)
	second := b.backup(t)
	all, err := b.cat.Extra(first.ID)
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := b.cat.Extra(second.ID); err != nil || 2*changed.Sent > all.Sent {
		t.Errorf("%d bytes were sent, %d for the first backup, %v", changed.Sent, all.Sent, err)
	}
	b.Must(t, "delete", stacktest.Server, string(first.ID))
	check := b.Must(t, "check", stacktest.Server).Stdout
	for _, url := range replicas {
		if !strings.Contains(check, "replica "+url+": OK") {
			t.Error(check)
		}
		if r := b.Must(t, "verify-backup", stacktest.Server, string(second.ID)); !strings.Contains(r.Stdout, url) {
			t.Errorf("%s is missing in: %s", url, r.Stdout)
		}
		dest := filepath.Join(pgtest.Dir(t), "restored")
		b.Must(t, "restore", stacktest.Server, string(second.ID), dest, "--from", url, "--tablespace", "odd name's:"+dest+"-ts")
		s := pgtest.NewFromDataDir(t, b.Cluster.Version, dest)
		if rows := s.Fingerprint(t); rows != b.rows {
			t.Errorf("%s: other rows than the source's were restored", url)
		}
		s.AmCheck(t)
		s.Stop(t, pgtest.Immediate)
	}
	b.Must(t, "delete", stacktest.Server, string(second.ID))
	for _, url := range replicas {
		if r := b.Must(t, "list-backups", stacktest.Server, "--from", url); strings.Contains(r.Stdout, string(second.ID)) {
			t.Errorf("%s still has it: %s", url, r.Stdout)
		}
	}
}
