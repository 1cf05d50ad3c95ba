package stacktest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fence"
	"github.com/holdfast-pg/holdfast/internal/keeper"
)

// Victims are what Kill can kill.
var Victims = []string{"keeper", "copy", "workflow", "engine", "child", "session"}

// Kill kills a victim with signal 9 (a session with pg_terminate_backend) and
// returns how many there were.
func (s *Stack) Kill(t testing.TB, victim string) int {
	t.Helper()
	if victim == "session" {
		n, err := strconv.Atoi(s.Cluster.Value(t, "select count(pg_terminate_backend(pid)) from pg_stat_activity where pid <> pg_backend_pid() and (application_name like 'holdfast%' or backend_type = 'walsender')"))
		must(t, err)
		return n
	}
	return s.Signal(t, victim, unix.SIGKILL)
}

// Signal sends a signal to a victim's processes and returns how many there were.
func (s *Stack) Signal(t testing.TB, victim string, signal syscall.Signal) int {
	t.Helper()
	pids := s.pids(t, victim)
	for _, pid := range pids {
		_ = unix.Kill(pid, signal)
	}
	return len(pids)
}

// Crash kills "holdfast up" and all that it runs with signal 9, none before it
// has a word to say about another; what outlives workers goes on.
func (s *Stack) Crash(t testing.TB) {
	t.Helper()
	s.Signal(t, "program", unix.SIGSTOP)
	must(t, s.up.Process.Kill())
	_ = s.up.Wait()
	s.up = nil
	for deadline := time.Now().Add(patience); s.Signal(t, "program", unix.SIGKILL) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("programs outlive signal 9")
		}
	}
}

// Freeze stops a victim's processes and returns them; they get SIGCONT at the
// end of the test at the latest.
func (s *Stack) Freeze(t testing.TB, victim string) []int {
	t.Helper()
	pids := s.pids(t, victim)
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGSTOP)
	}
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGCONT)
		}
	})
	return pids
}

// PeakRSS is the most memory that a role's process has had, in bytes.
func (s *Stack) PeakRSS(t testing.TB, role string) int64 {
	t.Helper()
	var most int64
	for _, pid := range s.pids(t, role) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		must(t, err)
		_, rest, _ := strings.Cut(string(status), "VmHWM:")
		var kb int64
		_, err = fmt.Sscan(rest, &kb)
		must(t, err)
		most = max(most, kb<<10)
	}
	return most
}

// pids finds the processes of this stack that are called so.
func (s *Stack) pids(t testing.TB, victim string) []int {
	t.Helper()
	var out []int
	dirs, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile(dir + "/cmdline")
		if err != nil || len(cmdline) == 0 {
			continue // gone, or a zombie
		}
		args := strings.Split(string(bytes.TrimSuffix(cmdline, []byte{0})), "\x00")
		if s.is(args, dir, victim) {
			out = append(out, pid)
		}
	}
	return out
}

func (s *Stack) is(args []string, proc, victim string) bool {
	ours := strings.HasPrefix(args[0], s.Bin+"/")
	switch victim {
	case "engine":
		return args[0] == s.Bin+"/holdfast-engine"
	case "clouds":
		return args[0] == s.Bin+"/holdfast-clouds"
	case "keeper", "copy", "workflow":
		return ours && strings.Contains(strings.Join(args, " "), "--role "+victim)
	case "program":
		return ours && (len(args) < 2 || args[1] != command.ShimArg)
	case "child":
		program := filepath.Base(args[0])
		return (program == "pg_basebackup" || program == "rsync") && s.writes(proc)
	case "receiver":
		return filepath.Base(args[0]) == "pg_receivewal" && strings.Contains(strings.Join(args, " "), s.Home)
	case "writer":
		return s.writes(proc)
	}
	return false
}

// writes tells the fence's mark on what writes into a backup of this stack.
func (s *Stack) writes(proc string) bool {
	env, err := os.ReadFile(proc + "/environ")
	return err == nil && bytes.Contains(env, []byte(fence.MarkerEnv+"="+s.Home))
}

// CheckNothingIsLeft verifies that an ended backup has left no process, no
// PostgreSQL session, no temporary file, no record of a session and no lock.
func (s *Stack) CheckNothingIsLeft(t testing.TB) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if left = s.leftovers(t); len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("left behind: %s", strings.Join(left, "; "))
			return
		}
	}
}

func (s *Stack) leftovers(t testing.TB) []string {
	t.Helper()
	var left []string
	for _, pid := range s.pids(t, "writer") {
		left = append(left, fmt.Sprint("process ", pid))
	}
	if n := s.Cluster.Value(t, "select count(*) from pg_stat_activity where pid <> pg_backend_pid() and (application_name like 'holdfast%' or backend_type = 'walsender' and application_name <> 'barman_receive_wal')"); n != "0" {
		left = append(left, n+" PostgreSQL sessions")
	}
	records, err := keeper.Records(filepath.Join(s.Home, ".holdfast"))
	must(t, err)
	for _, r := range records {
		left = append(left, "session record "+r.Epoch)
	}
	must(t, filepath.Walk(filepath.Join(s.Home, Server), func(path string, _ os.FileInfo, err error) error {
		if err == nil && (strings.HasPrefix(filepath.Base(path), atomicfile.TempPrefix) || strings.HasPrefix(filepath.Base(path), "run-")) {
			left = append(left, path)
		}
		return nil
	}))
	lock := filepath.Join(s.Home, "."+Server+"-backup.lock")
	if f, err := os.Open(lock); err == nil {
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
			left = append(left, "lock "+lock)
		}
		f.Close()
	}
	return left
}
