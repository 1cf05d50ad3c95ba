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
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/codec"
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

func newBucketSite(t *testing.T, version string, config ...string) *bucketSite {
	t.Helper()
	s := &bucketSite{t: t, g: storetest.StartGateway(t, "bucket"), home: pgtest.Dir(t), url: "s3://bucket/pre/fix"}
	s.incoming = filepath.Join(s.home, "incoming")
	s.must(os.Mkdir(s.incoming, 0o755))
	s.own(s.incoming)
	s.Cluster = pgtest.Start(t, pgtest.Options{Version: version, Tablespaces: []string{"ts1", "empty"}, Config: config,
		ArchiveCommand: fmt.Sprintf("cp %%p %[1]s/incoming/%%f && for d in %[1]s/*/incoming; do test ! -d $d || cp %%p $d/%%f; done", s.home)})
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
	return s.runWith(nil, args...)
}

func (s *bucketSite) runWith(env []string, args ...string) answer {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := s.command(env, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	s.must(cmd.Start())
	timeout := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timeout.Stop()
	if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		s.t.Fatal(err)
	}
	return explained(s.t, args, answer{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()})
}

func (s *bucketSite) command(env []string, args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(holdfast(s.t), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + s.BinDir + ":/usr/bin:/bin", "HOME=/nonexistent", "TZ=UTC", "HOLDFAST_CONFIG=/nonexistent"}
	for name, value := range s.g.Environment() {
		if value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Env = append(cmd.Env, env...) // the last one of a name counts
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pgtest.Credential(s.t), Pdeathsig: syscall.SIGKILL}
	return cmd
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

// archived ends the segment and waits until the server has archived it.
func (s *bucketSite) archived() {
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
}

// archive has Barman's cloud tools put everything that waits into the bucket.
func (s *bucketSite) archive(server string, options ...string) {
	s.t.Helper()
	s.archived()
	s.barmanOK(append([]string{"sh", "-ec", `incoming=$1; shift; for f in "$incoming"/*; do barman-cloud-wal-archive "$@" "$f" & done; wait`,
		"sh", s.incoming}, append(options, s.url, server)...)...)
}

// cloudBackups has barman-cloud-backup take backups at the same time, and returns their IDs. Each
// of the others begins in a second of its own, which is its ID.
func (s *bucketSite) cloudBackups(server string, options map[string][]string) map[string]string {
	s.t.Helper()
	for name, more := range options { // one after the other: their IDs are the seconds at which they begin
		args := append([]string{"barman-cloud-backup", "-h", "127.0.0.1", "-p", fmt.Sprint(s.Port), "-U", "postgres", "--immediate-checkpoint", "-J", "2", "--name", name}, more...)
		if r := s.barman(append(args, s.url, server)...); r.Exit != 0 {
			s.t.Errorf("%v: exit %d\n%s%s", args, r.Exit, r.Stdout, r.Stderr)
		}
	}
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

// snappy stores a backup again as Barman would with --snappy, were its library not killed by a signal
// with the judge's Python.
func (s *bucketSite) snappy(server, from, to string) {
	s.t.Helper()
	c, err := codec.New("snappy", "")
	s.must(err)
	made := filepath.Dir(s.object(server, to, "x"))
	s.must(os.Mkdir(made, 0o755))
	for _, path := range files(s.t, filepath.Dir(s.object(server, from, "x"))) {
		content, err := os.ReadFile(path)
		s.must(err)
		name := filepath.Base(path)
		if name == "backup.info" {
			content = bytes.ReplaceAll(content, []byte("backup_name=none"), []byte("backup_name=snappy"))
		} else {
			var out bytes.Buffer
			z, err := c.NewWriter(&out)
			s.must(err)
			_, err = z.Write(content)
			s.must(errors.Join(err, z.Close()))
			name, content = name+".snappy", out.Bytes()
		}
		s.must(os.WriteFile(filepath.Join(made, name), content, 0o644))
	}
}

// idsOf are the backups that we list, newest first.
func (s *bucketSite) idsOf(server string) []string {
	s.t.Helper()
	var out map[string][]string
	s.must(json.Unmarshal([]byte(s.ok("list-backups", server, "--minimal", "-f", "json")), &out))
	return out[server]
}

// agrees compares our list with that of Barman's cloud tools.
func (s *bucketSite) agrees(server string) {
	s.t.Helper()
	var theirs []string
	for _, b := range s.barmansList(server) {
		theirs = append(theirs, b.ID)
	}
	slices.Sort(theirs)
	slices.Reverse(theirs)
	if ours := s.idsOf(server); !slices.Equal(ours, theirs) {
		s.t.Errorf("we list %v, Barman %v", ours, theirs)
	}
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
	ids := s.cloudBackups("clo", options)
	s.Fill(t, "second", "", 100)
	want := s.Fingerprint(t)
	s.archive("clo", "--gzip")
	s.agrees("clo")
	if _, err := os.Stat(s.object("clo", ids["none"], "data_0001.tar")); err != nil {
		t.Fatalf("Barman did not split its archives: %v", err)
	}
	ids["snappy"] = "20200101T000000"
	s.snappy("clo", ids["none"], ids["snappy"])
	if all := s.ok("list-backups", "all"); strings.Count(all, "\nclo 20")+1 != len(ids) || !strings.Contains(all, "'gzip' - F - ") {
		t.Errorf("list-backups all: %s", all)
	}
	var shown map[string]struct {
		SystemID string `json:"system_id"`
		Base     struct {
			BeginWAL string `json:"begin_wal"`
			Bytes    int64  `json:"backup_size_bytes"`
		} `json:"base_backup_information"`
	}
	s.must(json.Unmarshal([]byte(s.ok("-f", "json", "show-backup", "clo", "gzip")), &shown))
	theirs := s.barmanOK("barman-cloud-backup-show", "--format", "json", s.url, "clo", ids["gzip"])
	if got := shown["clo"]; !strings.Contains(theirs, got.Base.BeginWAL) || !strings.Contains(theirs, got.SystemID) || got.Base.Bytes == 0 {
		t.Errorf("we show %+v, Barman %s", got, theirs)
	}
	if text := s.ok("show-backup", "clo", "latest"); !strings.Contains(text, "Store information") || !strings.Contains(text, s.url+"/clo/base/") {
		t.Error(text)
	}
	s.keeps("clo", ids["gzip"])
	t.Run("restored", func(t *testing.T) {
		for name, id := range ids {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if a := s.from("verify-backup", "clo", id); a.code != 0 || strings.Contains(a.stderr, "neither the store") {
					t.Errorf("exit %d\n%s%s", a.code, a.stdout, a.stderr)
				}
				r := s.restored(t, "clo", id, "by-us-"+name)
				if r.Fingerprint(t) != want {
					t.Error("other rows than the source")
				}
				r.AmCheck(t)
				r.Stop(t, pgtest.Fast)
			})
		}
	})
	if s.Fingerprint(t) != want {
		t.Error("the source has changed")
	}
	s.damages(ids)
	s.killedRestore(ids["bzip2"], want)
	s.deletions(ids, want)
}

// keeps keeps a backup, and has Barman see it, and the other way round.
func (s *bucketSite) keeps(server, id string) {
	s.t.Helper()
	s.ok("keep", server, id, "--target", "standalone")
	if out := s.barmanOK("barman-cloud-backup-keep", "--status", s.url, server, id); !strings.Contains(strings.ToLower(out), "standalone") {
		s.t.Errorf("Barman says %q of what we keep", out)
	}
	if a := s.from("delete", server, id); a.code != 4 || !strings.Contains(a.stderr, "kept") || !strings.Contains(a.stderr, "--from") {
		s.t.Errorf("a kept backup: exit %d\n%s", a.code, a.stderr)
	}
	s.ok("keep", server, id, "--release")
	s.barmanOK("barman-cloud-backup-keep", "--target", "full", s.url, server, id)
	if out := s.ok("keep", server, id, "--status"); !strings.Contains(out, "Keep: full") {
		s.t.Errorf("of what Barman keeps we say %q", out)
	}
	s.barmanOK("barman-cloud-backup-keep", "--release", s.url, server, id)
	if out := s.ok("keep", server, id, "--status"); !strings.Contains(out, "nokeep") {
		s.t.Errorf("of what Barman has released we say %q", out)
	}
}

// damages damages one object after the other. Both the verification and the restore name it, and nothing is restored.
func (s *bucketSite) damages(ids map[string]string) {
	s.t.Helper()
	for _, c := range []struct {
		name, backup, object string
		damage               func(path string) error
	}{
		{"a flipped bit", "none", "data_0001.tar", flipBit},
		{"a flipped bit of lz4", "lz4", "data.tar.lz4", flipBit},
		{"a flipped bit of zstd", "zstd", "16384.tar.zst", flipBit},
		{"a flipped bit of gzip", "gzip", "data.tar.gz", flipBit},
		{"a flipped bit of bzip2", "bzip2", "data.tar.bz2", flipBit},
		{"cut", "lz4", "16384.tar.lz4", func(path string) error { return os.Truncate(path, 1000) }},
		{"deleted", "none", "data_0002.tar", os.Remove},
		{"swapped", "gzip", "16384.tar.gz", func(path string) error {
			other := filepath.Join(filepath.Dir(path), "data.tar.gz")
			return errors.Join(os.Rename(path, path+"x"), os.Rename(other, path), os.Rename(path+"x", other))
		}},
	} {
		path := s.object("clo", ids[c.backup], c.object)
		s.must(exec.Command("cp", "-a", filepath.Dir(path), filepath.Dir(path)+".whole").Run())
		s.must(c.damage(path))
		key := "clo/base/" + ids[c.backup] + "/" + strings.TrimSuffix(c.object, filepath.Ext(c.object))
		if c.name == "swapped" { // each of them is a proof
			key = "which does not belong"
		}
		dest := filepath.Join(s.home, "damaged")
		for _, args := range [][]string{
			{"verify-backup", "clo", ids[c.backup]},
			{"restore", "clo", ids[c.backup], dest, "--tablespace", "ts1:" + dest + "_ts1", "--tablespace", "empty:" + dest + "_empty"},
		} {
			a := s.from(args...)
			if a.code != 1 || !strings.Contains(a.stderr, key) {
				s.t.Errorf("%s: %s: exit %d, which does not name %s\n%s%s", c.name, args[0], a.code, key, a.stdout, a.stderr)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(s.home, "*damaged*")); len(left) > 0 {
			s.t.Errorf("%s: %q is left", c.name, left)
		}
		s.must(errors.Join(os.RemoveAll(filepath.Dir(path)), os.Rename(filepath.Dir(path)+".whole", filepath.Dir(path))))
	}
}

// flipBit changes one bit in the middle of a file.
func flipBit(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, 1)
	_, err = f.ReadAt(b, st.Size()/2)
	b[0] ^= 0x10
	_, err2 := f.WriteAt(b, st.Size()/2)
	return errors.Join(err, err2)
}

// killedRestore kills a restore while it unpacks; there is no destination then, and the same command makes one.
func (s *bucketSite) killedRestore(id, want string) {
	s.t.Helper()
	dest := filepath.Join(s.home, "killed")
	cmd := s.command(nil, "restore", "clo", id, dest, "--tablespace", "ts1:"+dest+"_ts1", "--tablespace", "empty:"+dest+"_empty", "--from", s.url, "--endpoint-url", s.g.URL)
	s.must(cmd.Start())
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if left, _ := filepath.Glob(filepath.Join(s.home, ".killed.holdfast-restore", "base", "*")); len(left) > 0 {
			break
		}
		if time.Now().After(end) {
			s.t.Fatal("nothing is unpacked")
		}
	}
	s.must(cmd.Process.Kill())
	_ = cmd.Wait()
	if _, err := os.Lstat(dest); err == nil {
		s.t.Error("a killed restore has left a destination")
	}
	r := s.restored(s.t, "clo", id, "killed")
	if r.Fingerprint(s.t) != want {
		s.t.Error("after a killed restore: other rows than the source")
	}
	r.Stop(s.t, pgtest.Fast)
}

// deletions deletes backups in turns with Barman; what is left is restored.
func (s *bucketSite) deletions(ids map[string]string, want string) {
	s.t.Helper()
	s.ok("delete", "clo", ids["snappy"])
	oldest := s.idsOf("clo")
	oldest = oldest[len(oldest)-1:]
	if out := s.ok("delete", "clo", oldest[0]); !strings.Contains(out, "Deleted backup "+oldest[0]) {
		s.t.Error(out)
	}
	if left := files(s.t, s.g.Data("bucket")); slices.ContainsFunc(left, func(f string) bool { return strings.Contains(f, oldest[0]) }) {
		s.t.Errorf("of %s is left: %q", oldest[0], left)
	}
	s.agrees("clo")
	next := s.idsOf("clo")
	s.barmanOK("barman-cloud-backup-delete", "-b", next[len(next)-1], s.url, "clo")
	s.agrees("clo")
	r := s.restored(s.t, "clo", "oldest", "after-deletions")
	if r.Fingerprint(s.t) != want {
		s.t.Error("what is left after deletions has other rows")
	}
	r.Stop(s.t, pgtest.Fast)
}

// TestBucketOfABarmanServer: what a Barman server puts into a bucket, by both its methods and incremental too.
func TestBucketOfABarmanServer(t *testing.T) {
	t.Parallel()
	s := newBucketSite(t, "18", "summarize_wal = on")
	conf := filepath.Join(s.home, "barman.conf")
	text := fmt.Sprintf("[barman]\nbarman_home = %[1]s\nbarman_user = postgres\nlog_file = %[1]s/log\n", s.home)
	for name, method := range map[string]string{"ltc": "local-to-cloud", "pgc": "postgres"} {
		text += fmt.Sprintf("[%s]\nbackup_method = %s\nconninfo = %[3]s\nstreaming_conninfo = %[3]s\narchiver = on\nbasebackups_directory = %[4]s\nwals_directory = %[4]s\n"+
			"cloud_staging_directory = %[5]s/staging\n", name, method, s.DSN(), s.url, s.home)
		s.must(os.MkdirAll(filepath.Join(s.home, name, "incoming"), 0o755))
		s.own(filepath.Join(s.home, name))
		s.own(filepath.Join(s.home, name, "incoming"))
	}
	s.must(os.WriteFile(conf, []byte(text), 0o644))
	s.own(s.home)
	s.Fill(t, "first", "ts1", 2000)
	barman := func(args ...string) { s.barmanOK(append([]string{"barman", "-c", conf}, args...)...) }
	s.archived()
	barman("archive-wal", "pgc")
	barman("archive-wal", "ltc")
	var other sync.WaitGroup
	other.Go(func() {
		if r := s.barman("barman", "-c", conf, "backup", "ltc"); r.Exit != 0 {
			t.Errorf("barman backup ltc: exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
		}
	})
	barman("backup", "pgc")
	s.Fill(t, "second", "", 500)
	barman("backup", "--incremental", "latest", "pgc")
	other.Wait()
	before := s.Fingerprint(t)
	s.Fill(t, "first", "ts1", 10)
	want := s.Fingerprint(t)
	s.archived()
	barman("archive-wal", "pgc")
	barman("archive-wal", "ltc")
	for server, types := range map[string]string{"pgc": "IF", "ltc": "F"} {
		got := ""
		for line := range strings.Lines(s.ok("list-backups", server)) {
			got += strings.Split(line, " - ")[1]
		}
		if got != types {
			t.Errorf("%s: types %s, not %s", server, got, types)
		}
		for i, id := range s.idsOf(server) {
			a := s.from("verify-backup", server, id)
			if a.code != 0 || server == "pgc" && a.stderr != "" { // the manifest leaves nothing open
				t.Errorf("%s: exit %d\n%s%s", server, a.code, a.stdout, a.stderr)
			}
			r := s.restored(t, server, id, fmt.Sprintf("%s-%d", server, i))
			if r.Fingerprint(t) != want {
				t.Errorf("%s %s: other rows than the source", server, id)
			}
			r.AmCheck(t)
			r.Stop(t, pgtest.Fast)
		}
	}
	full := s.idsOf("ltc")[0]
	s.goesOn(t, "ltc", full, full+"/data.tar", want, syscall.SIGTERM)
	incremental := s.idsOf("pgc")[0]
	s.goesOn(t, "pgc", incremental, incremental+"/data.tar", want, syscall.SIGKILL)
	r := s.restored(t, "pgc", "latest", "immediately", "--target-immediate", "--target-action", "promote")
	if r.Fingerprint(t) != before {
		t.Error("other rows than at the end of the backup")
	}
	r.Stop(t, pgtest.Fast)
	s.walOnItsOwn(want)
}

// walOnItsOwn: PostgreSQL fetches the WAL of a restore itself, out of a directory, for which it needs no
// credentials; and so does our command out of the bucket.
func (s *bucketSite) walOnItsOwn(want string) {
	s.t.Helper()
	dest := filepath.Join(s.home, "it's fetching")
	mirror := filepath.Join(s.home, "mirror's 5%p")
	s.must(os.CopyFS(mirror, os.DirFS(filepath.Join(s.g.Data("bucket"), "pre/fix"))))
	s.own(mirror)
	url := "file://" + mirror
	s.runOK("restore", "ltc", "latest", dest, "--tablespace", "ts1:"+dest+"_ts1", "--tablespace", "empty:"+dest+"_empty", "--from", url, "--get-wal")
	if there, _ := filepath.Glob(filepath.Join(dest, "*wal", "0*")); len(there) > 0 {
		s.t.Errorf("WAL was copied: %q", there)
	}
	r := pgtest.NewFromDataDir(s.t, s.Version, dest)
	if r.Fingerprint(s.t) != want {
		s.t.Error("WAL that PostgreSQL fetched: other rows than the source")
	}
	r.Stop(s.t, pgtest.Fast)
	out := filepath.Join(s.home, "fetched")
	stored, _ := filepath.Glob(filepath.Join(mirror, "ltc", "wals", "*", strings.Repeat("[0-9A-F]", 24)+"*"))
	if len(stored) == 0 {
		s.t.Fatal("no WAL is stored")
	}
	for name, want := range map[string]int{filepath.Base(stored[0])[:24]: 0, segmentName(999): 1, "nonsense": 126} {
		if a := s.from("wal-restore", "ltc", name, out); a.code != want {
			s.t.Errorf("wal-restore of %s: exit %d, not %d\n%s", name, a.code, want, a.stderr)
		}
	}
	if st, err := os.Stat(out); err != nil || st.Size() != 16<<20 {
		s.t.Errorf("%v, %v", st, err)
	}
}

func (s *bucketSite) runOK(args ...string) {
	s.t.Helper()
	if a := s.run(args...); a.code != 0 {
		s.t.Fatalf("holdfast %v: exit %d\n%s%s", args, a.code, a.stdout, a.stderr)
	}
}

// TestBucketMistakes: one line of cause, the cure, and the documented exit code, from every command.
func TestBucketMistakes(t *testing.T) {
	t.Parallel()
	g := storetest.StartGateway(t, "bucket")
	s := &bucketSite{Cluster: &pgtest.Cluster{BinDir: pgtest.BinDir(t, "18")}, t: t, g: g, home: pgtest.Dir(t)}
	record, err := os.ReadFile("../internal/backupinfo/testdata/barman-cloud-backup.backup.info")
	s.must(err)
	for id, status := range map[string]string{"main/base/20261123T025124": "DONE", "main/base/20261124T025124": "FAILED", "bare/base/20261123T025124": "DONE"} {
		dir := filepath.Join(g.Data("bucket"), "x", id)
		s.must(os.MkdirAll(dir, 0o755))
		s.must(os.WriteFile(filepath.Join(dir, "backup.info"), bytes.ReplaceAll(record, []byte("status=DONE"), []byte("status="+status)), 0o644))
		s.must(os.WriteFile(filepath.Join(dir, "data.tar"), nil, 0o644))
		s.must(os.WriteFile(filepath.Join(dir, "16384.tar"), nil, 0o644))
	}
	s.must(os.MkdirAll(filepath.Join(g.Data("bucket"), "x/main/wals/0000000100000000"), 0o755))
	s.must(os.WriteFile(filepath.Join(g.Data("bucket"), "x/main/wals/0000000100000000/000000010000000000000022"), []byte("x"), 0o644))
	full := filepath.Join(s.home, "full")
	s.must(os.MkdirAll(filepath.Join(full, "x"), 0o755))
	at := func(args ...string) []string {
		return append(args, "--from", "s3://bucket/x", "--endpoint-url", g.URL)
	}
	dest := filepath.Join(s.home, "new")
	commands := map[string][]string{"list-backups": {"main"}, "show-backup": {"main", "latest"}, "verify-backup": {"main", "latest"},
		"keep": {"main", "latest", "--status"}, "delete": {"main", "latest"}, "restore": {"main", "latest", dest}}
	type mistake struct {
		name string
		env  []string
		args []string
		code int
		want []string
	}
	var list []mistake
	for name, args := range commands {
		base := append([]string{name}, args...)
		with := func(more ...string) []string { return append(slices.Clone(base), more...) }
		list = append(list,
			mistake{name + ": no URL", nil, with("--from", ""), 2, []string{"--from has no URL", "s3://BUCKET/PATH"}},
			mistake{name + ": unknown kind", nil, with("--from", "ftp://x/y"), 2, []string{"not known", "s3://BUCKET/PATH"}},
			mistake{name + ": a secret in the URL", nil, with("--from", "s3://me:s3cret@bucket"), 2, []string{"give the bucket alone"}},
			mistake{name + ": no --from", nil, with("--endpoint-url", g.URL), 2, []string{"--endpoint-url belongs to --from"}},
			mistake{name + ": no endpoint", nil, with("--from", "s3://x", "--endpoint-url", "localhost:9000"), 2, []string{"http://HOST:PORT"}},
			mistake{name + ": no bucket", nil, with("--from", "s3://nobody", "--endpoint-url", g.URL), 2, []string{"nobody: it does not exist", "create it"}},
			mistake{name + ": no credentials", []string{"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY="}, with("--from", "s3://bucket/x", "--endpoint-url", g.URL), 1, []string{"credentials for S3", "AWS_ACCESS_KEY_ID"}},
			mistake{name + ": wrong secret", []string{"AWS_SECRET_ACCESS_KEY=x"}, with("--from", "s3://bucket/x", "--endpoint-url", g.URL), 1, []string{"refuses the credentials", "AWS_SECRET_ACCESS_KEY"}},
			mistake{name + ": wrong style", nil, with("--from", "s3://bucket/x", "--addressing-style", "paht"), 2, []string{"auto, path or virtual"}},
			mistake{name + ": no name", nil, append([]string{name, "a/b"}, append(slices.Clone(args[1:]), "--from", "s3://bucket/x", "--endpoint-url", g.URL)...), 2, []string{"SERVER a/b", "URL/SERVER/base"}},
		)
		if name != "list-backups" {
			list = append(list,
				mistake{name + ": not there", nil, append([]string{name, "main", "20200101T000000"}, append(slices.Clone(args[2:]), "--from", "s3://bucket/x", "--endpoint-url", g.URL)...), 3, []string{"there is no such backup", "20261123T025124 (DONE)"}},
				mistake{name + ": no such server", nil, append([]string{name, "mian"}, append(slices.Clone(args[1:]), "--from", "s3://bucket/x", "--endpoint-url", g.URL)...), 3, []string{"s3://bucket/x/mian/base/", "the name is right"}},
			)
		}
	}
	list = append(list,
		mistake{"nothing listens", nil, []string{"list-backups", "main", "--from", "s3://bucket", "--endpoint-url", "http://127.0.0.1:1"}, 1, []string{"give up after 10s", "connection refused", "its port is right"}},
		mistake{"no directory", nil, []string{"list-backups", "main", "--from", "file://" + s.home + "/absent"}, 2, []string{"does not exist", "create it"}},
		mistake{"not empty", nil, at("restore", "main", "latest", full, "--tablespace", "ts1:"+dest+"_ts1"), 4, []string{"not empty", "nothing was changed"}},
		mistake{"a tablespace not empty", nil, at("restore", "main", "latest", dest, "--tablespace", "ts1:"+full), 4, []string{"not empty", "--tablespace ts1:DIR"}},
		mistake{"no WAL", nil, at("restore", "bare", "latest", dest), 4, []string{"WAL segment 000000010000000000000022", "not in the archive"}},
		mistake{"WAL of no name", nil, at("wal-restore", "a/b", "000000010000000000000001", dest), 126, []string{"no name below a URL"}},
		mistake{"WAL of no bucket", nil, []string{"wal-restore", "main", "000000010000000000000001", dest, "--from", "s3://nobodys", "--endpoint-url", g.URL}, 126, []string{"nobodys"}},
		mistake{"WAL of no URL", nil, []string{"wal-restore", "main", "000000010000000000000001", dest, "--from", ""}, 126, []string{"--from has no URL"}},
		mistake{"WAL of two places", nil, at("wal-restore", "main", "000000010000000000000001", dest, "--host", "x"), 126, []string{"--from", "--host", "leave one of them out"}},
		mistake{"WAL of no store", nil, []string{"wal-restore", "main", "000000010000000000000001", dest, "--endpoint-url", g.URL}, 126, []string{"--endpoint-url belongs to --from"}},
		mistake{"failed", nil, at("restore", "main", "20261124T025124", dest), 4, []string{"the backup is FAILED", "list-backups main", "--from s3://bucket/x"}},
		mistake{"verify failed", nil, at("verify-backup", "main", "20261124T025124"), 4, []string{"it is FAILED", "--from s3://bucket/x"}},
		mistake{"keep failed", nil, at("keep", "main", "20261124T025124", "--target", "full"), 4, []string{"it is FAILED, not DONE"}},
		mistake{"jobs", nil, at("restore", "main", "latest", dest, "--jobs", "-1"), 2, []string{"-1 is not at least 1"}},
		mistake{"jobs of a local one", nil, []string{"verify-backup", "main", "latest", "--jobs", "2"}, 2, []string{"--jobs belongs to --from"}},
		mistake{"no tablespace", nil, at("restore", "main", "latest", dest, "--tablespace", "nobody:/x"), 2, []string{"--tablespace nobody", "has ts1"}},
	)
	for _, m := range list {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			a := s.runWith(m.env, m.args...)
			lines := strings.Split(strings.TrimSpace(a.stdout+a.stderr), "\n")
			if a.code != m.code || len(lines) > 2 {
				t.Errorf("exit %d, not %d:\n%s%s", a.code, m.code, a.stdout, a.stderr)
			}
			for _, want := range m.want {
				if !strings.Contains(a.stdout+a.stderr, want) {
					t.Errorf("%q is missing in:\n%s%s", want, a.stdout, a.stderr)
				}
			}
			if strings.Contains(a.stdout+a.stderr, "s3cret") {
				t.Errorf("a secret was printed:\n%s%s", a.stdout, a.stderr)
			}
		})
	}
}
