// Package stacktest runs a whole Holdfast for tests: a PostgreSQL cluster, a
// configuration, "holdfast up" and the command line, as a user has them. The
// programs are those of bin/, but for a worker that announces its kill points.
package stacktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// Server is the name of the server in the configuration.
const Server = "main"

// Options describe a stack.
type Options struct {
	Version     string            // of PostgreSQL
	OneDatabase bool              // as pgtest has it
	Method      string            // backup_method
	Tablespaces []string          // names
	Settings    []string          // further lines of the server's section
	Config      []string          // further lines of postgresql.conf
	SegmentMB   int               // as pgtest has it
	Home        string            // barman_home; empty for a directory of its own
	Faults      Faults            // told of every kill point; may be nil
	Env         map[string]string // of every process, beside the test's own
	Data        string            // as pgtest has it
	Spaces      string            // as pgtest has it
}

// Stack is a running Holdfast.
type Stack struct {
	Cluster *pgtest.Cluster
	Dir     string // everything but the cluster
	Home    string // barman_home
	Config  string
	Bin     string
	Env     map[string]string
	// Heartbeat is that of workers that are started from now on.
	Heartbeat time.Duration

	enginePort, uiPort int
	up                 *exec.Cmd
	upLog              string
	faults             *listener
}

// Heartbeat is the heartbeat timeout of the workers under test, unless a stack has its own.
const Heartbeat = 5 * time.Second

// patience bounds every wait for what comes by itself; only a hang lasts as long.
const patience = 5 * time.Minute

// Start makes a stack; "holdfast up" runs when it returns.
func Start(t testing.TB, o Options) *Stack {
	t.Helper()
	s := &Stack{Dir: pgtest.Dir(t), Home: o.Home, Env: o.Env, Heartbeat: Heartbeat}
	s.Bin = install(t, s.Dir)
	s.Config = filepath.Join(s.Dir, "barman.conf")
	if s.Home == "" {
		s.Home = filepath.Join(s.Dir, "home")
	}
	s.mkdir(t, s.Home)
	s.Cluster = pgtest.Start(t, pgtest.Options{Version: o.Version, Tablespaces: o.Tablespaces, Config: o.Config, OneDatabase: o.OneDatabase, SegmentMB: o.SegmentMB, Data: o.Data, Spaces: o.Spaces,
		ArchiveCommand: fmt.Sprintf("%s%s/holdfast -c %s wal-archive %s %%p", s.asShell(), s.Bin, s.Config, Server)})
	s.Configure(t, o.Method, o.Settings...)
	s.enginePort, s.uiPort = pgtest.FreePort(t), pgtest.FreePort(t)
	if o.Faults != nil {
		s.faults = listen(t, filepath.Join(s.Dir, "faults"), o.Faults)
	}
	t.Cleanup(func() { s.Down(t) })
	s.Up(t)
	return s
}

// Configure writes the configuration.
func (s *Stack) Configure(t testing.TB, method string, settings ...string) {
	t.Helper()
	owner := "postgres"
	if os.Getuid() != 0 {
		owner = os.Getenv("USER")
	}
	lines := append([]string{"[barman]", "barman_home = " + s.Home, "barman_user = " + owner, "log_level = INFO", "path_prefix = " + s.Cluster.BinDir, "",
		"[" + Server + "]", "conninfo = " + s.Cluster.DSN(), "immediate_checkpoint = true", "backup_method = " + method}, settings...)
	if !slices.ContainsFunc(settings, func(line string) bool { return strings.HasPrefix(line, "archiver =") }) {
		lines = append(lines, "archiver = on")
	}
	must(t, os.WriteFile(s.Config, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
}

// Up starts "holdfast up" and waits until all three roles are ready.
func (s *Stack) Up(t testing.TB) {
	t.Helper()
	s.upLog = filepath.Join(s.Dir, fmt.Sprintf("up-%d.log", time.Now().UnixNano()))
	log, err := os.Create(s.upLog)
	must(t, err)
	defer log.Close()
	s.up = exec.Command(filepath.Join(s.Bin, "holdfast"), "-c", s.Config, "up", "--port", fmt.Sprint(s.enginePort), "--ui-port", fmt.Sprint(s.uiPort))
	s.up.Stdout, s.up.Stderr = log, log
	s.up.Env = append(s.environ(), "HOLDFAST_HEARTBEAT_TIMEOUT="+s.Heartbeat.String())
	if s.faults != nil {
		s.up.Env = append(s.up.Env, "HOLDFAST_FAULTS_SOCKET="+s.faults.path)
	}
	s.up.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, s.up.Start())
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if strings.Count(s.Log(t), "msg=ready") >= 3 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("holdfast up is not ready:\n%s", s.Log(t))
		}
	}
}

// SpawnWorker runs one more worker process of a role until the end of the test.
func (s *Stack) SpawnWorker(t testing.TB, role string) {
	t.Helper()
	log, err := os.Create(filepath.Join(s.Dir, "spawned-"+role+".log"))
	must(t, err)
	defer log.Close()
	cmd := exec.Command(filepath.Join(s.Bin, "holdfast-worker"), "-c", s.Config, "--role", role)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(s.environ(), "HOLDFAST_HEARTBEAT_TIMEOUT="+s.Heartbeat.String())
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

// Down ends "holdfast up" as Ctrl-C does.
func (s *Stack) Down(t testing.TB) {
	t.Helper()
	if s.up == nil {
		return
	}
	if t.Failed() {
		t.Logf("what holdfast up said:\n%s", tail(s.Log(t), 6000))
	}
	up := s.up
	s.up = nil
	must(t, up.Process.Signal(syscall.SIGTERM))
	done := make(chan error, 1)
	go func() { done <- up.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("holdfast up ended with %v", err)
		}
	case <-time.After(patience):
		must(t, up.Process.Kill())
		<-done
		t.Error("holdfast up did not end by itself")
	}
}

// Log is what "holdfast up" and its children have said.
func (s *Stack) Log(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(s.upLog)
	must(t, err)
	return string(b)
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Holdfast runs the command line.
func (s *Stack) Holdfast(t testing.TB, args ...string) Result {
	t.Helper()
	return s.Within(t, 2*patience, args...)
}

// HoldfastAs is Holdfast as another user.
func (s *Stack) HoldfastAs(t testing.TB, who *syscall.Credential, args ...string) Result {
	t.Helper()
	return s.run(t, 2*patience, who, args)
}

// Within is Holdfast with a bound on the time; a command that exceeds it is killed.
func (s *Stack) Within(t testing.TB, patience time.Duration, args ...string) Result {
	t.Helper()
	return s.run(t, patience, nil, args)
}

func (s *Stack) run(t testing.TB, patience time.Duration, who *syscall.Credential, args []string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.Bin, "holdfast"), append([]string{"-c", s.Config}, args...)...)
	cmd.Env, cmd.SysProcAttr = s.environ(), &syscall.SysProcAttr{Credential: who}
	if who != nil {
		cmd.Env = append(cmd.Env, "HOME="+s.Home)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("holdfast %v: %v", args, err)
	}
	return Result{Stdout: out.String(), Stderr: errs.String(), Code: cmd.ProcessState.ExitCode()}
}

// Must is Holdfast for a command that has to succeed.
func (s *Stack) Must(t testing.TB, args ...string) Result {
	t.Helper()
	r := s.Holdfast(t, args...)
	if r.Code != 0 {
		t.Fatalf("holdfast %s: exit code %d\n%s%s", strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r
}

func (s *Stack) mkdir(t testing.TB, dir string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	if c := pgtest.Credential(t); c != nil {
		must(t, os.Chown(dir, int(c.Uid), int(c.Gid)))
	}
}

// environ is ours without what would lead commands to another engine or configuration.
func (s *Stack) environ() []string {
	var out []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "TEMPORAL_") && !strings.HasPrefix(kv, "HOLDFAST_") && !strings.HasPrefix(kv, "BARMAN_") && !strings.HasPrefix(kv, "PG") {
			out = append(out, kv)
		}
	}
	for name, value := range s.Env {
		out = append(out, name+"="+value)
	}
	return out
}

// asShell gives a command of PostgreSQL, whose environment is its own, the stack's.
func (s *Stack) asShell() string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		fmt.Fprintf(&out, "%s='%s' ", name, s.Env[name])
	}
	return out.String()
}

var build struct {
	once sync.Once
	dir  string
	err  error
}

// install puts the programs to where the server's user can run them, as links
// to one copy. The command line and the worker are built once per test process.
func install(t testing.TB, dir string) string {
	t.Helper()
	build.once.Do(func() { build.dir, build.err = programs(repository(t)) })
	must(t, build.err)
	bin := filepath.Join(dir, "bin")
	must(t, os.Mkdir(bin, 0o755))
	for _, program := range []string{"holdfast", "holdfast-cli", "holdfast-worker", "holdfast-clouds", "holdfast-engine"} {
		must(t, os.Link(filepath.Join(build.dir, program), filepath.Join(bin, program)))
	}
	return bin
}

// programs makes a directory of them.
func programs(root string) (dir string, err error) {
	if dir, err = os.MkdirTemp("", "holdfast-bin-"); err != nil {
		return "", err
	}
	engine := filepath.Join(root, "bin", "holdfast-engine")
	if _, err := os.Stat(engine); err != nil {
		return dir, fmt.Errorf("%w: run `make engine`", err)
	}
	for _, args := range [][]string{
		{"go", "build", "-tags", "faults", "-o", dir + "/", "./starter", "./starter/front", "./worker", "./worker/clouds"},
		{"mv", filepath.Join(dir, "front"), filepath.Join(dir, "holdfast")},
		{"mv", filepath.Join(dir, "starter"), filepath.Join(dir, "holdfast-cli")},
		{"mv", filepath.Join(dir, "worker"), filepath.Join(dir, "holdfast-worker")},
		{"mv", filepath.Join(dir, "clouds"), filepath.Join(dir, "holdfast-clouds")},
		{"cp", engine, dir},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
	}
	return dir, nil
}

// Main removes what the tests of a package have built; call it from TestMain.
func Main(m *testing.M) int {
	code := m.Run()
	if build.dir != "" {
		_ = os.RemoveAll(build.dir)
	}
	return code
}

func repository(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	must(t, err)
	return filepath.Dir(strings.TrimSpace(string(out)))
}

func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
