//go:build integration

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/sshtest"
	"github.com/holdfast-pg/holdfast/internal/walship"
)

// newStreamingSite is a site whose WAL is streamed, and delivered too.
func newStreamingSite(t *testing.T, version string, options ...string) *site {
	t.Helper()
	s := newSite(t, version, append([]string{"streaming_archiver = on", "slot_name = ours"}, options...)...)
	t.Cleanup(func() { s.ok("receive-wal", "--stop", "main") })
	return s
}

func (s *site) awaitStreaming() {
	s.t.Helper()
	s.await("streaming", func() bool {
		return s.Value(s.t, "select count(*) from pg_stat_replication where application_name = 'barman_receive_wal' and state = 'streaming' and flush_lsn = pg_current_wal_lsn()") == "1"
	})
}

// sameChecks makes sure that Barman and we find the same.
func (s *site) sameChecks(when string, failed ...string) {
	s.t.Helper()
	run := s.run("-f", "json", "check", "main")
	judged := s.barman("-f", "json", "check", "main")
	ours, theirs := s.checks(run.stdout, run.code), s.checks(judged.Stdout, judged.Exit)
	for key, item := range theirs.items {
		if got, is := ours.items[key]; !is || got.Status != item.Status {
			s.t.Errorf("%s: %s: Barman says %v, we say %v", when, key, item, got)
		}
	}
	for key, item := range ours.items {
		if _, is := theirs.items[key]; !is {
			s.t.Errorf("%s: %s: only we have it: %v", when, key, item)
		}
	}
	for _, key := range failed {
		if got := ours.items[key]; got.Status != "FAILED" || got.Hint == "" {
			s.t.Errorf("%s: %s: %v", when, key, got)
		}
	}
}

// same makes sure that Barman and we say the same of a server, which may write
// some WAL between the two.
func (s *site) same(args []string, read func(string) string) {
	s.t.Helper()
	var theirs, ours string
	for range 5 {
		theirs, ours = read(s.barmanOK(args...)), read(s.ok(args...))
		if ours == theirs {
			return
		}
	}
	s.t.Errorf("%v: Barman says\n%s\nwe say\n%s", args, theirs, ours)
}

// TestStreamingIsBarmans: slots, checks and the status of replication are what
// Barman says of the same server.
func TestStreamingIsBarmans(t *testing.T) {
	t.Parallel()
	s := newStreamingSite(t, "18")
	s.backup()
	s.sameChecks("without a slot", "replication_slot", "receive_wal_running")
	s.want(3, "does not exist", "receive-wal", "--drop-slot", "main")
	s.want(0, "does not exist", "receive-wal", "--drop-slot", "--if-exists", "main")
	s.want(0, "Replication slot 'ours' created", "receive-wal", "--create-slot", "main")
	s.want(1, "already", "receive-wal", "--create-slot", "main")
	s.want(0, "already exists", "receive-wal", "--create-slot", "--if-not-exists", "main")
	s.want(2, "--create-slot", "receive-wal", "--if-not-exists", "main")
	s.sameChecks("with nobody at the slot", "replication_slot", "receive_wal_running")
	s.want(0, "was not being received", "receive-wal", "--stop", "main")

	// In the foreground, until it is interrupted.
	cmd, stdout, stderr := s.start("receive-wal", "main")
	s.awaitStreaming()
	s.want(4, "(pg_receivewal)", "receive-wal", "main")
	s.want(4, "--stop main first", "receive-wal", "--reset", "main")
	s.want(4, "--stop", "receive-wal", "--drop-slot", "main")
	s.sameChecks("streaming")
	if x, y := order(s.barman("check", "main").Stdout), order(s.run("check", "main").stdout); !slices.Equal(x, y) {
		t.Errorf("Barman's order is %q, ours %q", x, y)
	}
	s.must(cmd.Process.Signal(syscall.SIGINT))
	if err := cmd.Wait(); err != nil || !strings.Contains(stdout.String(), "Starting receive-wal for server main") {
		t.Errorf("%v\n%s%s", err, stdout, stderr)
	}
	s.await("the end of streaming", func() bool { return s.Value(t, "select count(*) from pg_stat_replication") == "0" })

	// In the background, without an engine.
	s.want(5, "WAL is streamed now", "cron", "main")
	s.awaitStreaming()
	s.Standby(t, "cluster_name=stand")
	s.await("the standby", func() bool {
		return s.Value(t, "select count(*) from pg_stat_replication where replay_lsn = pg_current_wal_lsn()") == "1"
	})
	for _, args := range [][]string{{"main", "--target", "hot-standby"}, {"--minimal", "main", "--target", "wal-streamer", "--source", "wal-host"}} {
		args = append([]string{"replication-status"}, args...)
		s.same(args, func(text string) string { return text })
		s.same(append([]string{"-f", "json"}, args...), func(text string) string {
			var all map[string]any
			if err := json.Unmarshal([]byte(text), &all); err != nil {
				t.Errorf("%v in %s", err, text)
			}
			return fmt.Sprint(all["main"])
		})
	}

	asking, err := pg.ConnectStreaming(t.Context(), s.DSN())
	s.must(err)
	defer asking.Close()
	s.want(0, "Number of streaming clients: 2", "replication-status", "main")
	s.want(2, "hot-standby", "replication-status", "main", "--target", "x")

	// What was streamed is archived by hand, and Barman's receiver and ours keep each other out.
	s.Exec(t, "create table more(); select pg_switch_wal()")
	s.awaitStreaming()
	s.want(0, "Processing WAL", "archive-wal", "main")
	if r := s.barman("receive-wal", "main"); r.Exit == 0 || !strings.Contains(r.Stderr, "already running") {
		t.Errorf("Barman's receive-wal beside ours: exit %d, %s%s", r.Exit, r.Stdout, r.Stderr)
	}
	s.want(0, "Stopped receive-wal", "receive-wal", "--stop", "main")
	s.want(0, "begins at", "receive-wal", "--reset", "main")
	s.want(0, "dropped", "receive-wal", "--drop-slot", "main")
}

// far is the host of PostgreSQL: it reaches the archive through ssh alone.
type far struct {
	*site
	ssh *sshtest.Server
	bin string // ssh as this host has it configured
}

// newFar lets a daemon run where the archive is, whose users know our program
// as holdfast and as barman.
func newFar(t *testing.T, s *site) *far {
	t.Helper()
	bin := pgtest.Dir(t)
	for _, name := range []string{"holdfast", "barman"} {
		s.must(os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\nexec "+holdfast(t)+" \"$@\"\n"), 0o755))
	}
	f := &far{site: s, bin: pgtest.Dir(t), ssh: sshtest.Start(t, sshtest.Options{As: pgtest.Credential(t), Path: bin + ":/usr/bin:/bin"})}
	s.must(os.WriteFile(filepath.Join(f.bin, "ssh"), []byte("#!/bin/sh\nexec /usr/bin/ssh -F "+filepath.Join(f.ssh.Dir, "ssh_config")+" \"$@\"\n"), 0o755))
	return f
}

// call runs our program on that host, which has no configuration.
func (f *far) call(args ...string) answer {
	f.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(f.t.Context(), holdfast(f.t), args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = []string{"PATH=" + f.bin + ":/usr/bin:/bin", "HOLDFAST_CONFIG=/nonexistent"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pgtest.Credential(f.t), Pdeathsig: syscall.SIGKILL}
	_ = cmd.Run()
	return answer{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// theirs runs one of Barman's programs on that host.
func (f *far) theirs(args ...string) barmantest.Result {
	f.t.Helper()
	binds := []string{f.ssh.Dir, f.bin, f.home}
	return barmantest.Run(f.t, binds, 0, append([]string{"env", "PATH=" + f.bin + ":/usr/bin:/bin"}, args...)...)
}

// TestWALFromAfar: ours delivers to ours, Barman's to ours and ours to Barman's,
// and the same the other way round.
func TestWALFromAfar(t *testing.T) {
	t.Parallel()
	s := newSite(t, pgtest.Versions()[0])
	f := newFar(t, s)
	// PostgreSQL archives through ssh from now on.
	command := fmt.Sprintf("PATH=%s:/usr/bin:/bin %s wal-archive --host cluster --remote-config %s main %%p", f.bin, holdfast(t), s.conf)
	s.Exec(t, "alter system set archive_command = '"+command+"'")
	s.Exec(t, "select pg_reload_conf()")
	s.Exec(t, "create table one(); select pg_switch_wal()")
	wal := s.catalog().WALDir
	var segment string
	s.await("WAL from afar", func() bool {
		segment = s.Value(t, "select last_archived_wal from pg_stat_archiver")
		return len(segment) == 24
	})
	stored := filepath.Join(wal, segment[:16], segment)
	content := readFile(t, stored)
	source := filepath.Join(s.home, segment)
	s.must(os.WriteFile(source, content, 0o644))

	to := []string{"--host", "cluster", "--remote-config", s.conf}
	put := func(args ...string) answer { return f.call(append(append([]string{"wal-archive"}, to...), args...)...) }
	get := func(name, dest string) answer {
		return f.call(append(append([]string{"wal-restore"}, to...), "main", name, dest)...)
	}
	expect := func(what string, a answer, code int, says string) {
		t.Helper()
		if a.code != code || !strings.Contains(a.stdout+a.stderr, says) {
			t.Errorf("%s: exit %d, want %d and %q\n%s%s", what, a.code, code, says, a.stdout, a.stderr)
		}
	}
	expect("again", put("main", source), 0, "")
	other := filepath.Join(pgtest.Dir(t), segment)
	s.must(os.WriteFile(other, append(content[:len(content)-1:len(content)-1], content[len(content)-1]^1), 0o644))
	s.own(filepath.Dir(other))
	expect("other content", put("main", other), 1, "another file of this name")
	expect("no WAL", put("main", s.conf), 1, "neither a segment")
	expect("no file", put("main", "/nonexistent"), 3, "no such file")
	expect("no such server", put("mian", source), 1, "did you mean main?")
	expect("no such host", f.call("wal-archive", "--host", "nowhere.invalid", "main", source), 1, "ssh -o BatchMode=yes")
	expect("no program", f.call("wal-archive", "--host", "cluster", "--remote-program", "hodlfast", "main", source), 1, "--remote-program")
	expect("an option as a host", f.call("wal-archive", "--host", "-oProxyCommand=false", "main", source), 2, "user@host")
	expect("half of it", f.call("wal-archive", "--remote-config", "x", "main", source), 2, "--host")

	dest := filepath.Join(filepath.Dir(other), "fetched")
	expect("restore", get(segment, dest), 0, "")
	if !bytes.Equal(readFile(t, dest), content) {
		t.Error("what was fetched is not what was sent")
	}
	expect("what is not there", get(segmentName(99), dest), 1, "")
	expect("no name", get("nonsense", dest), 126, "neither a segment")
	expect("no host", f.call("wal-restore", "--host", "nowhere.invalid", "main", segment, dest), 126, "ssh -o BatchMode=yes")

	// Barman's programs speak to ours.
	if r := f.theirs("barman-wal-archive", "-U", "postgres", "-c", s.conf, "cluster", "main", source); r.Exit != 0 {
		t.Errorf("barman-wal-archive: exit %d, %s%s", r.Exit, r.Stdout, r.Stderr)
	}
	if r := f.theirs("barman-wal-archive", "-U", "postgres", "--test", "-c", s.conf, "cluster", "main", "x"); r.Exit != 0 {
		t.Errorf("barman-wal-archive --test: exit %d, %s%s", r.Exit, r.Stdout, r.Stderr)
	}
	history := filepath.Join(s.home, "00000009.history")
	s.must(os.WriteFile(history, []byte("1\t0/3000000\tno recovery target specified\n"), 0o644))
	if r := f.theirs("barman-wal-archive", "-U", "postgres", "--md5", "-c", s.conf, "cluster", "main", history); r.Exit != 0 {
		t.Errorf("barman-wal-archive --md5: exit %d, %s%s", r.Exit, r.Stdout, r.Stderr)
	}
	if _, err := os.Stat(filepath.Join(wal, "00000009.history")); err != nil {
		t.Error(err)
	}
	theirs := filepath.Join(s.home, "theirs")
	if r := f.theirs("barman-wal-restore", "-U", "postgres", "-P", "cluster", "main", segment, theirs, "-c", s.conf); r.Exit != 0 || !bytes.Equal(readFile(t, theirs), content) {
		t.Errorf("barman-wal-restore: exit %d, %s%s", r.Exit, r.Stdout, r.Stderr)
	}

	// Barman's put-wal takes what ours sends.
	var stream bytes.Buffer
	s.must(walship.Pack(t.Context(), &stream, source))
	s.must(os.WriteFile(filepath.Join(s.home, "stream.tar"), stream.Bytes(), 0o644))
	r := barmantest.Run(t, []string{s.home}, 0, "bash", "-c", fmt.Sprintf("barman -c %s put-wal main < %s/stream.tar", s.conf, s.home))
	if got, err := os.ReadFile(filepath.Join(s.home, "repo", "main", "incoming", segment)); r.Exit != 0 || err != nil || !bytes.Equal(got, content) {
		t.Errorf("Barman's put-wal: exit %d, %v\n%s%s", r.Exit, err, r.Stdout, r.Stderr)
	}
}
