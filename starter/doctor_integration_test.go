//go:build integration

package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/sshtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// finding is what doctor says of a leftover in JSON.
type finding struct {
	Kind, Subject, Proof, Doubt, Way, Error string
	Removed                                 bool
}

func findings(t *testing.T, stdout string) []finding {
	t.Helper()
	var all struct{ Main struct{ Findings []finding } }
	if err := json.Unmarshal([]byte(stdout), &all); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	return all.Main.Findings
}

// kinds are those of findings that a test wants, sorted.
func kinds(list []finding, want func(finding) bool) string {
	var out []string
	for _, f := range list {
		if want(f) {
			out = append(out, f.Kind)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func proven(f finding) bool   { return f.Proof != "" && f.Doubt == "" && f.Way == "" }
func doubted(f finding) bool  { return f.Doubt != "" && !f.Removed }
func removed(f finding) bool  { return f.Removed && f.Error == "" }
func anything(f finding) bool { return true }

// TestDoctorAndARunningBackup: what a backup needs is no leftover while its
// workflow runs or may run; once the backup has ended, it is.
func TestDoctorAndARunningBackup(t *testing.T) {
	s := stacktest.Start(t, stacktest.Options{Method: "postgres", Settings: []string{"bandwidth_limit = 500"}})
	s.Cluster.Fill(t, "rows", "", 20000)
	s.Must(t, "backup", stacktest.Server, "--detach")
	for end := time.Now().Add(2 * time.Minute); s.Signal(t, "child", 0) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no copy began")
		}
	}
	if r := s.Holdfast(t, "doctor", "--fix"); r.Code != 0 || !strings.Contains(r.Stdout, "nothing is left over") {
		t.Errorf("while the backup runs: exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	s.Crash(t)
	if s.Signal(t, "child", 0) == 0 {
		t.Fatal("the copy has ended with its worker")
	}
	r := s.Holdfast(t, "-f", "json", "doctor", "--fix")
	list := findings(t, r.Stdout)
	if got := kinds(list, anything); r.Code != 1 || got != kinds(list, doubted) || !strings.Contains(got, "process") || !strings.Contains(got, "session record") || !strings.Contains(got, "abandoned backup") {
		t.Errorf("with the engine down: exit %d, %s\n%s", r.Code, got, r.Stdout)
	}
	if s.Signal(t, "child", 0) == 0 {
		t.Fatal("the copy was ended, though its workflow may go on")
	}

	fail(t, s)
	r = s.Holdfast(t, "-f", "json", "doctor")
	list = findings(t, r.Stdout)
	if got := kinds(list, proven); r.Code != 1 || got != kinds(list, anything) || !strings.Contains(got, "process") || !strings.Contains(got, "session record") {
		t.Errorf("after its end: exit %d\n%s", r.Code, r.Stdout)
	}
	if s.Signal(t, "child", 0) == 0 {
		t.Fatal("a look has ended the copy")
	}
	r = s.Holdfast(t, "-f", "json", "doctor", "--fix")
	if got := kinds(findings(t, r.Stdout), removed); r.Code != 0 || !strings.Contains(got, "process") || !strings.Contains(got, "session record") {
		t.Errorf("--fix: exit %d\n%s", r.Code, r.Stdout)
	}
	for end := time.Now().Add(time.Minute); s.Signal(t, "writer", 0) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the copy goes on")
		}
	}
	// PostgreSQL may take a moment to notice.
	for end := time.Now().Add(time.Minute); ; {
		r := s.Holdfast(t, "doctor", "--fix")
		if r.Code == 0 && strings.Contains(r.Stdout, "nothing is left over") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after --fix: exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
		}
	}
}

// fail says of the only backup that it has failed.
func fail(t *testing.T, s *stacktest.Stack) {
	t.Helper()
	cfg, err := config.Load(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	server, err := cfg.Server(stacktest.Server)
	if err != nil {
		t.Fatal(err)
	}
	cat := catalog.Open(catalog.LayoutOf(server))
	info, err := cat.Resolve(onlyBackup(t, s))
	if err == nil {
		info.Status, info.Error = backup.Failed, ptr("ended by a test")
		err = cat.Save(info)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// halfOpen opens a session and lets its end vanish without a word to the
// server, as when a machine or its network dies.
func (s *site) halfOpen(application, localIP, replication, statement string) (vanish func()) {
	s.t.Helper()
	cfg, err := pgx.ParseConfig(s.DSN())
	s.must(err)
	cfg.RuntimeParams["application_name"] = application
	if replication != "" {
		cfg.RuntimeParams["replication"] = replication
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(localIP)}}
	cfg.DialFunc = dialer.DialContext
	c, err := pgx.ConnectConfig(s.t.Context(), cfg)
	s.must(err)
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c.Close(ctx)
	})
	_, err = c.PgConn().Exec(s.t.Context(), statement).ReadAll()
	s.must(err)
	return func() {
		conn := c.PgConn().Conn()
		raw, err := conn.(*net.TCPConn).SyscallConn()
		s.must(err)
		var failed error
		s.must(raw.Control(func(fd uintptr) {
			// Without the last acknowledgement the server would send again, and be refused.
			for _, option := range []int{unix.TCP_QUICKACK, unix.TCP_REPAIR} {
				failed = errors.Join(failed, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, option, 1))
			}
		}))
		s.must(failed)
		s.must(conn.Close())
	}
}

// TestDoctor makes every leftover that needs no engine, and things beside them
// that somebody owns.
func TestDoctor(t *testing.T) {
	s := newSite(t, "15")
	s.backup()
	cat := s.catalog()
	repo := filepath.Join(s.home, "repo")
	if r := s.run("doctor"); r.code != 0 {
		t.Fatalf("nothing is left: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	old := time.Now().Add(-2 * time.Hour)

	hba, err := os.OpenFile(filepath.Join(s.DataDir, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	s.must(err)
	_, err = hba.WriteString("host all all 127.0.0.2/32 trust\n")
	s.must(err)
	s.must(hba.Close())
	s.Exec(t, "select pg_reload_conf()")
	s.await("the new pg_hba.conf", func() bool {
		return s.Value(t, "select count(*) from pg_hba_file_rules where address = '127.0.0.2'") == "1"
	})
	s.halfOpen(pg.BackupApplication, "127.0.0.1", "", "select pg_backup_start('left', true)")()
	s.halfOpen("barman_streaming_backup", "127.0.0.1", "true", "CREATE_REPLICATION_SLOT pg_basebackup_left TEMPORARY PHYSICAL")()
	s.halfOpen(pg.BackupApplication, "127.0.0.2", "", "select 1")() // to the server, another host
	s.halfOpen(pg.BackupApplication, "127.0.0.1", "", "select 'alive'")

	for path, age := range map[string]time.Time{filepath.Join(cat.MetaDir, "x"): old, filepath.Join(cat.WALDir, "y"): old, filepath.Join(cat.MetaDir, "young"): time.Now()} {
		f, err := atomicfile.Create(path, 0o600)
		s.must(err)
		s.must(os.Chtimes(f.Name(), age, age))
		s.must(f.Close())
	}
	left, err := cat.LockID("20200101T000000")
	s.must(err)
	s.must(left.Release())
	held, err := cat.LockID("20200101T000001")
	s.must(err)
	defer held.Release()

	partial := filepath.Join(cat.BackupDirOf("20200102T000000"), "data", "base")
	s.must(os.MkdirAll(partial, 0o700))
	lost := filepath.Join(cat.BackupDirOf("20200103T000000"), "data", "global")
	s.must(os.MkdirAll(lost, 0o700))
	s.must(os.WriteFile(filepath.Join(lost, "pg_control"), []byte("x"), 0o600))
	s.must(os.Chtimes(cat.BackupDirOf("20200102T000000"), old, old))

	s.must(cat.Create(&backupinfo.Info{ID: "20200104T000000", ServerName: "main", Status: backup.Done}))
	s.must(os.MkdirAll(cat.DataDir("20200104T000000"), 0o700))
	s.must(cat.MarkDeleting("20200104T000000"))
	s.must(cat.Create(&backupinfo.Info{ID: "20200105T000000", ServerName: "main", Status: backup.Started}))
	s.own(repo)

	const wanted = "deletion, directory, lock file, session, session, temporary file, temporary file"
	look := s.run("-f", "json", "doctor", "main")
	list := findings(t, look.stdout)
	if got := kinds(list, proven); look.code != 1 || got != wanted {
		t.Errorf("exit %d, %s\n%s", look.code, got, look.stdout)
	}
	if got := kinds(list, doubted); got != "directory, session" {
		t.Errorf("doubted: %s", got)
	}
	if out := s.run("doctor", "main"); out.code != 1 || !strings.Contains(out.stdout, "\tleft over: abandoned backup 20200105T000000 (STARTED): nobody has the server's backup lock; holdfast cron main") ||
		!strings.Contains(out.stdout, "with the temporary replication slot pg_basebackup_left: it comes from port") {
		t.Errorf("%s", out.stdout)
	}
	sessions := func() string {
		return s.Value(t, "select string_agg(coalesce(host(client_addr), '') || ' ' || query, ', ' order by client_addr, query) from pg_stat_activity where application_name in ('holdfast backup', 'barman_streaming_backup')")
	}
	before := sessions()

	fixed := s.run("-f", "json", "doctor", "--fix")
	if got := kinds(findings(t, fixed.stdout), removed); fixed.code != 1 || got != wanted {
		t.Errorf("--fix: exit %d, %s\n%s%s", fixed.code, got, fixed.stdout, fixed.stderr)
	}
	if got := sessions(); got != "127.0.0.1 select 'alive', 127.0.0.2 select 1" {
		t.Errorf("sessions: %s\nbefore: %s", got, before)
	}
	if n := s.Value(t, "select count(*) from pg_replication_slots"); n != "0" {
		t.Errorf("%s replication slots", n)
	}
	for path, there := range map[string]bool{partial: false, filepath.Join(lost, "pg_control"): true, cat.BackupDirOf("20200104T000000"): false, cat.InfoPath("20200104T000000"): false,
		cat.InfoPath("20200105T000000"): true, filepath.Join(cat.LockDir, ".main-20200101T000000.lock"): false, filepath.Join(cat.LockDir, ".main-20200101T000001.lock"): true} {
		if _, err := os.Lstat(path); (err == nil) != there {
			t.Errorf("%s: there %t", path, err == nil)
		}
	}
	young, err := cat.Temporary(time.Now(), 0)
	s.must(err)
	if len(young) != 1 || !strings.Contains(young[0], "young") {
		t.Errorf("temporary files: %v", young)
	}
	if got := kinds(findings(t, s.run("-f", "json", "doctor").stdout), anything); got != "abandoned backup, directory, session" {
		t.Errorf("after --fix: %s", got)
	}
}

// TestDoctorOnTheHostOfTheCluster: what a copy over ssh has left over there is
// found, and ended when nobody works for the copy any more.
func TestDoctorOnTheHostOfTheCluster(t *testing.T) {
	host := sshtest.Start(t, sshtest.Options{})
	s := newShelf(t, "ssh_command = "+host.Command())
	s.must(os.WriteFile(s.conf, []byte(strings.Replace(string(readFile(t, s.conf)), "backup_method = postgres", "backup_method = rsync", 1)), 0o644))
	us, err := os.Hostname()
	s.must(err)
	strays := map[string]*exec.Cmd{}
	base := s.BaseDir
	for _, mark := range []string{us + ":" + base + "/20260101T000000/holdfast", us + ":" + base + "-other/20260101T000000/holdfast", "elsewhere:" + base + "/20260101T000000/holdfast"} {
		cmd := exec.CommandContext(t.Context(), "sleep", "600")
		cmd.Env = []string{"HOLDFAST_COPY=" + mark}
		s.must(cmd.Start())
		strays[mark] = cmd
	}
	list := findings(t, s.run("-f", "json", "doctor").stdout)
	if len(list) != 1 || list[0].Kind != "process" || !strings.Contains(list[0].Subject, "1 of them, for backup 20260101T000000") || !proven(list[0]) {
		t.Errorf("%+v", list)
	}
	s.want(0, "removed: process on the host of the cluster", "doctor", "--fix")
	for mark, cmd := range strays {
		ours := strings.HasPrefix(mark, us+":"+base+"/")
		if !ours {
			s.must(cmd.Process.Signal(unix.SIGTERM))
		}
		err := cmd.Wait()
		if ws, _ := cmd.ProcessState.Sys().(syscall.WaitStatus); (ws.Signal() == unix.SIGKILL) != ours {
			t.Errorf("%s: %v", mark, err)
		}
	}
	s.want(0, "nothing is left over", "doctor")
}
