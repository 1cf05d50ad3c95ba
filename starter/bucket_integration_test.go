//go:build integration

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/objstore/storetest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// bucketSite is a server, a store, and Barman's cloud tools; our program has nothing but a URL.
type bucketSite struct {
	*pgtest.Cluster
	t        *testing.T
	g        *storetest.Gateway
	home     string
	incoming string // WAL that was not yet archived
	url      string
}

func newBucketSite(t *testing.T, version string) *bucketSite {
	t.Helper()
	s := &bucketSite{t: t, g: storetest.StartGateway(t, "bucket"), home: pgtest.Dir(t), url: "s3://bucket/pre/fix"}
	s.incoming = filepath.Join(s.home, "incoming")
	s.must(os.Mkdir(s.incoming, 0o755))
	s.own(s.incoming)
	s.Cluster = pgtest.Start(t, pgtest.Options{Version: version, Tablespaces: []string{"ts1", "empty"}, ArchiveCommand: "cp %p " + s.incoming + "/%f"})
	return s
}

func (s *bucketSite) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *bucketSite) own(path string) {
	s.t.Helper()
	if cred := pgtest.Credential(s.t); cred != nil {
		s.must(os.Chown(path, int(cred.Uid), int(cred.Gid)))
	}
}

// barman runs a command of the judge's tree with the credentials of the store.
func (s *bucketSite) barman(args ...string) barmantest.Result {
	s.t.Helper()
	cred := pgtest.Credential(s.t)
	if cred == nil {
		s.t.Fatal("Barman's tree needs root: run this test as root")
	}
	full := []string{"env", "AWS_ENDPOINT_URL=" + s.g.URL}
	for name, value := range s.g.Environment() {
		if value != "" && name != "AWS_CONFIG_FILE" && name != "AWS_SHARED_CREDENTIALS_FILE" {
			full = append(full, name+"="+value)
		}
	}
	binds := []string{s.home, s.DataDir}
	for _, dir := range s.Tablespaces {
		binds = append(binds, dir)
	}
	return barmantest.RunAs(s.t, binds, int(cred.Uid), int(cred.Gid), append(full, args...)...)
}

func (s *bucketSite) barmanOK(args ...string) string {
	s.t.Helper()
	r := s.barman(args...)
	if r.Exit != 0 {
		s.t.Fatalf("%v: exit %d\n%s%s", args, r.Exit, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// run runs our program as the user of the server, on a machine that has no configuration.
func (s *bucketSite) run(args ...string) answer {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(holdfast(s.t), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", &stdout, &stderr
	cmd.Env = []string{"PATH=" + s.BinDir + ":/usr/bin:/bin", "HOME=/nonexistent", "TZ=UTC", "HOLDFAST_CONFIG=/nonexistent"}
	for name, value := range s.g.Environment() {
		if value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pgtest.Credential(s.t), Pdeathsig: syscall.SIGKILL}
	s.must(cmd.Start())
	timeout := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timeout.Stop()
	if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		s.t.Fatal(err)
	}
	return explained(s.t, args, answer{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()})
}

// from is run for what lies in the store.
func (s *bucketSite) from(args ...string) answer {
	s.t.Helper()
	return s.run(append(args, "--from", s.url, "--endpoint-url", s.g.URL)...)
}

func (s *bucketSite) ok(args ...string) string {
	s.t.Helper()
	a := s.from(args...)
	if a.code != 0 {
		s.t.Fatalf("holdfast %v: exit %d\n%s%s", args, a.code, a.stdout, a.stderr)
	}
	return a.stdout
}

// archive ends the segment and has Barman put everything that waits into the bucket.
func (s *bucketSite) archive(server string, options ...string) {
	s.t.Helper()
	segment := s.Value(s.t, "select pg_walfile_name(pg_switch_wal())")
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if s.Value(s.t, "select coalesce(last_archived_wal, '') >= '"+segment+"' from pg_stat_archiver") == "true" {
			break
		}
		if time.Now().After(end) {
			s.t.Fatalf("%s was not archived", segment)
		}
	}
	s.barmanOK(append([]string{"sh", "-ec", `incoming=$1; shift; for f in "$incoming"/*; do barman-cloud-wal-archive "$@" "$f"; rm "$f"; done`,
		"sh", s.incoming}, append(options, s.url, server)...)...)
}

// cloudBackups has barman-cloud-backup take backups at the same time, and returns their IDs. Each
// of the others begins in a second of its own, which is its ID.
func (s *bucketSite) cloudBackups(server string, options map[string][]string) map[string]string {
	s.t.Helper()
	var wg sync.WaitGroup
	for name, more := range options {
		args := append([]string{"barman-cloud-backup", "-h", "127.0.0.1", "-p", fmt.Sprint(s.Port), "-U", "postgres", "--immediate-checkpoint", "-J", "2", "--name", name}, more...)
		wg.Go(func() {
			if r := s.barman(append(args, s.url, server)...); r.Exit != 0 {
				s.t.Errorf("%v: exit %d\n%s%s", args, r.Exit, r.Stdout, r.Stderr)
			}
		})
		time.Sleep(1100 * time.Millisecond)
	}
	wg.Wait()
	ids := map[string]string{}
	for _, b := range s.barmansList(server) {
		ids[b.Name] = b.ID
	}
	if len(ids) != len(options) {
		s.t.Fatalf("%v are there", ids)
	}
	return ids
}

// listed is a backup as Barman's cloud tools list it.
type listed struct {
	ID   string `json:"backup_id"`
	Name string `json:"backup_name"`
}

func (s *bucketSite) barmansList(server string) []listed {
	s.t.Helper()
	var list struct {
		Backups []listed `json:"backups_list"`
	}
	s.must(json.Unmarshal([]byte(s.barmanOK("barman-cloud-backup-list", "--format", "json", s.url, server)), &list))
	return list.Backups
}

// restored restores a backup beside the running source, and starts it.
func (s *bucketSite) restored(t *testing.T, server, id, name string, options ...string) *pgtest.Cluster {
	t.Helper()
	dest := filepath.Join(s.home, name)
	args := append([]string{"restore", server, id, dest, "--tablespace", "ts1:" + dest + "_ts1", "--tablespace", "empty:" + dest + "_empty"}, options...)
	if a := s.from(args...); a.code != 0 {
		t.Fatalf("holdfast %v: exit %d\n%s%s", args, a.code, a.stdout, a.stderr)
	}
	return pgtest.NewFromDataDir(t, s.Version, dest)
}

// object is where an object of a backup lies.
func (s *bucketSite) object(server, id, name string) string {
	return filepath.Join(s.g.Data("bucket"), "pre/fix", server, "base", id, name)
}

// TestBucketOfBarmansCloudTools: what barman-cloud-backup has stored is listed, shown, verified, kept, restored
// and deleted, and Barman agrees.
func TestBucketOfBarmansCloudTools(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t, "18")
	s.Fill(t, "first", "ts1", 3000)
	s.Fill(t, "second", "", 3000)
	options := map[string][]string{"none": nil, "gzip": {"--gzip"}, "bzip2": {"--bzip2"}, "lz4": {"--lz4"}, "zstd": {"--zstd"}}
	for name, more := range options {
		options[name] = append(more, "--max-archive-size", "6MB")
	}
	t0 := time.Now()
	ids := s.cloudBackups("clo", options)
	fmt.Println(time.Since(t0))
	want := s.Fingerprint(t)
	s.archive("clo", "--gzip")
	list := s.ok("list-backups", "clo")
	fmt.Println(list)
	for _, id := range ids {
		fmt.Println(s.ok("show-backup", "clo", id))
		fmt.Println(s.from("verify-backup", "clo", id))
	}
	for c, id := range ids {
		t.Run(c, func(t *testing.T) {
			r := s.restored(t, "clo", id, "by-us"+c)
			if r.Fingerprint(t) != want {
				t.Error("other rows than the source")
			}
			r.AmCheck(t)
			r.Stop(t, pgtest.Fast)
		})
	}
	_ = slices.Max[[]string]
}
