//go:build integration

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/backuplabel"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/killtest"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

var program struct {
	sync.Once
	path string
	err  error
}

func TestMain(m *testing.M) {
	if killtest.Victim() {
		killtest.Begun()
		os.Exit(run(context.Background(), os.Args[1:]))
	}
	code := stacktest.Main(m)
	if program.path != "" {
		_ = os.RemoveAll(filepath.Dir(program.path))
	}
	os.Exit(code)
}

// holdfast is the program, built once with holdfast-cli, where every user can run it.
func holdfast(t testing.TB) string {
	t.Helper()
	program.Do(func() {
		var dir string
		if dir, program.err = os.MkdirTemp("", "holdfast-bin-"); program.err != nil {
			return
		}
		program.path = filepath.Join(dir, "holdfast")
		if program.err = os.Chmod(dir, 0o755); program.err != nil {
			return
		}
		for name, from := range map[string]string{"holdfast": "./front", "holdfast-cli": "."} {
			if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), from).CombinedOutput(); err != nil {
				program.err = fmt.Errorf("%w\n%s", err, out)
			}
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return program.path
}

// site is a server that archives with our program, and a place for its backups.
type site struct {
	*pgtest.Cluster
	t    *testing.T
	home string
	conf string
}

// newSite starts a server. No engine runs anywhere near it.
func newSite(t *testing.T, version string, options ...string) *site {
	t.Helper()
	home := pgtest.Dir(t)
	s := &site{t: t, home: home, conf: filepath.Join(home, "holdfast.conf")}
	s.Cluster = pgtest.Start(t, pgtest.Options{Version: version, Tablespaces: []string{"ts1"}, ArchiveCommand: holdfast(t) + " -c " + s.conf + " wal-archive main %p"})
	text := fmt.Sprintf("[barman]\nbarman_home = %[1]s/repo\nbarman_user = postgres\nlog_file = %[1]s/log\nholdfast_state_directory = %[1]s/state\n"+
		"[main]\ndescription = our own\nbackup_method = postgres\narchiver = on\nconninfo = %[2]s\nstreaming_conninfo = %[2]s\npath_prefix = %[3]s\n%[4]s\n",
		home, s.DSN(), s.BinDir, strings.Join(options, "\n"))
	s.must(os.WriteFile(s.conf, []byte(text), 0o644))
	s.must(os.MkdirAll(filepath.Join(home, "repo"), 0o755))
	s.own(filepath.Join(home, "repo"))
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// own gives a tree to the user that the server and our program run as.
func (s *site) own(dir string) {
	s.t.Helper()
	cred := pgtest.Credential(s.t)
	if cred == nil {
		return
	}
	s.must(filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, int(cred.Uid), int(cred.Gid)))
	}))
}

// answer is what a command printed and how it ended.
type answer struct {
	stdout, stderr string
	code           int
}

// start begins a command as the user of the server, in its data directory.
func (s *site) start(args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(holdfast(s.t), append([]string{"-c", s.conf}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.DataDir, &stdout, &stderr
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "TZ=UTC", "TEMPORAL_ADDRESS=127.0.0.1:1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pgtest.Credential(s.t), Pdeathsig: syscall.SIGKILL}
	s.must(cmd.Start())
	return cmd, &stdout, &stderr
}

func (s *site) run(args ...string) answer {
	s.t.Helper()
	cmd, stdout, stderr := s.start(args...)
	timeout := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timeout.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return explained(s.t, args, answer{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()})
}

// explained makes sure that who was refused was told what forces it, or that
// nothing does.
func explained(t *testing.T, args []string, a answer) answer {
	t.Helper()
	if said := a.stdout + a.stderr; a.code == 4 && !strings.Contains(said, "force") && !strings.Contains(said, " --") {
		t.Errorf("holdfast %v was refused, and no way to force it was named or denied:\n%s", args, said)
	}
	return a
}

// ok runs a command that must succeed.
func (s *site) ok(args ...string) string {
	s.t.Helper()
	a := s.run(args...)
	if a.code != 0 {
		s.t.Fatalf("holdfast %v: exit %d\n%s%s", args, a.code, a.stdout, a.stderr)
	}
	return a.stdout
}

func (s *site) catalog() *catalog.Catalog {
	s.t.Helper()
	cfg, err := config.Load(s.conf)
	s.must(err)
	server, err := cfg.Server("main")
	s.must(err)
	return catalog.Open(catalog.LayoutOf(server))
}

// backup takes a backup with PostgreSQL's own program and files it.
func (s *site) backup() backup.ID {
	s.t.Helper()
	cat := s.catalog()
	s.must(cat.EnsureDirs())
	begin := time.Now()
	id := backup.NewID(begin)
	conn, err := pg.Connect(s.t.Context(), s.DSN())
	s.must(err)
	defer conn.Close()
	f, err := conn.MeasuredFacts(s.t.Context())
	s.must(err)
	args := []string{"-d", s.DSN(), "-D", cat.DataDir(id), "--wal-method=none", "--checkpoint=fast", "--no-sync", "--manifest-checksums=SHA256"}
	info := &backupinfo.Info{ID: id, ServerName: "main", Status: backup.Started, Mode: ptr("postgres"), SystemID: &f.SystemID, Version: &f.Version, PGData: &f.DataDirectory,
		ConfigFile: &f.ConfigFile, HBAFile: &f.HBAFile, IdentFile: &f.IdentFile, DataChecksums: &f.DataChecksums, ClusterSize: &f.ClusterSize, SegmentSize: &f.SegmentSize, BeginTime: &begin}
	s.must(cat.Create(info))
	for _, t := range f.Tablespaces {
		info.Tablespaces = append(info.Tablespaces, backupinfo.Tablespace{Name: t.Name, OID: t.OID, Location: t.Location})
		args = append(args, "-T", t.Location+"="+cat.TablespaceDir(id, t.OID))
	}
	s.own(filepath.Join(s.home, "repo"))
	cmd := exec.Command(filepath.Join(s.BinDir, "pg_basebackup"), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pgtest.Credential(s.t)}
	if out, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(cat.DataDir(id), "backup_label"))
	s.must(err)
	label, err := backuplabel.Parse(string(text))
	s.must(err)
	end, err := wal.ParseLSN(s.Value(s.t, "pg_current_wal_lsn()"))
	s.must(err)
	now := time.Now()
	size, _, err := catalog.Measure(context.Background(), cat.BackupDirOf(id))
	s.must(err)
	info.BackupLabel, info.Timeline, info.BeginLSN, info.BeginWAL, info.BeginOffset = ptr(string(text)), &label.Timeline, &label.StartLSN, &label.StartWAL, ptr(wal.Offset(label.StartLSN, f.SegmentSize))
	info.EndLSN, info.EndWAL, info.EndOffset = &end, ptr(wal.SegmentOf(label.Timeline, end-1, f.SegmentSize).Name()), ptr(wal.Offset(end, f.SegmentSize))
	info.EndTime, info.Size, info.DeduplicatedSize = &now, &size, &size
	s.must(cat.EnsureIdentity(catalog.Identity{SystemID: f.SystemID, Version: s.Version}))
	info.Status = backup.Done
	s.must(cat.Save(info))
	s.must(cat.SaveExtra(id, &catalog.Extra{Method: "postgres", Proof: &catalog.Proof{At: now, Files: 1, Bytes: size}, Attempts: []catalog.Attempt{{Number: 1, Begun: begin}}}))
	s.own(filepath.Join(s.home, "repo"))
	s.archive()
	return id
}

// archive makes everything that was written durable in the archive.
func (s *site) archive() {
	s.t.Helper()
	s.ok("switch-wal", "main", "--force", "--archive")
}

func ptr[T any](v T) *T { return &v }

// theBackup is the only backup of the site.
func (s *site) theBackup() backup.ID {
	s.t.Helper()
	info, err := s.catalog().Resolve("latest")
	s.must(err)
	return info.ID
}
