package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a server.
const patience = 2 * time.Minute

// Options describe a new cluster.
type Options struct {
	Version        string   // major version; empty means "15"
	Tablespaces    []string // names of tablespaces to create
	ArchiveCommand string   // archive_mode is on when it is set
	Config         []string // further lines of postgresql.conf
	HBA            []string // lines of pg_hba.conf that precede those that trust everybody
	NewIdentity    bool     // a system identifier of its own, at the price of an initdb
	OneDatabase    bool     // the database postgres and no template: a third of the files
	SegmentMB      int      // wal_segment_size, at the price of an initdb; 0 for the default
	Data           string   // a directory in which the data directory is made; empty for a new one
	Spaces         string   // the same for tablespaces
}

// Cluster is a running PostgreSQL server.
type Cluster struct {
	Version     string
	BinDir      string
	DataDir     string
	SocketDir   string
	Port        int
	Tablespaces map[string]string // name to directory, outside the data directory

	overrides []string // settings on the server's command line
	server    *exec.Cmd
	exited    chan struct{}
}

// Start makes a cluster and starts it.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	if o.Version == "" {
		o.Version = "15"
	}
	home := Dir(t)
	c := &Cluster{
		Version: o.Version, BinDir: BinDir(t, o.Version), DataDir: filepath.Join(home, "data"), SocketDir: home,
		Port: FreePort(t), Tablespaces: map[string]string{},
	}
	if o.Data != "" {
		c.DataDir = filepath.Join(o.Data, "data")
	}
	spaces := cmp.Or(o.Spaces, filepath.Join(home, "tablespaces"))
	switch {
	case o.SegmentMB > 0:
		initdb(t, c.BinDir, c.DataDir, fmt.Sprintf("--wal-segsize=%d", o.SegmentMB))
	case o.NewIdentity:
		initdb(t, c.BinDir, c.DataDir)
	default:
		fromTemplate(t, c.BinDir, c.DataDir, o.OneDatabase)
	}
	settings := []string{
		"listen_addresses = '127.0.0.1'", fmt.Sprintf("port = %d", c.Port), fmt.Sprintf("unix_socket_directories = '%s'", home),
		"fsync = off", "shared_buffers = 32MB", "jit = off", "wal_level = replica", "max_wal_senders = 10",
		"log_line_prefix = '%m [%p] %a '",
	}
	if o.ArchiveCommand != "" {
		settings = append(settings, "archive_mode = on", "archive_command = '"+strings.ReplaceAll(o.ArchiveCommand, "'", "''")+"'")
	}
	appendLines(t, filepath.Join(c.DataDir, "postgresql.conf"), append(settings, o.Config...))
	hba := filepath.Join(c.DataDir, "pg_hba.conf")
	trust, err := os.ReadFile(hba)
	must(t, err)
	must(t, os.WriteFile(hba, append([]byte(strings.Join(o.HBA, "\n")+"\n"), trust...), 0o600))
	c.start(t)
	t.Cleanup(func() { c.end(t) })
	c.await(t, false)
	for _, name := range o.Tablespaces {
		dir := filepath.Join(spaces, strings.ReplaceAll(name, "'", "_")) // PostgreSQL refuses quotes in a location
		must(t, os.MkdirAll(dir, 0o700))
		own(t, spaces)
		c.Tablespaces[name] = dir
		c.Exec(t, fmt.Sprintf("CREATE TABLESPACE %s LOCATION '%s'", quoted(name), dir))
	}
	return c
}

// NewFromDataDir starts a restored data directory on a port of its own and waits until it has
// recovered, that is, accepts writes. It does not archive, so that it cannot disturb the archive
// that it came from. Settings, as NAME=VALUE, go to the server's command line.
func NewFromDataDir(t testing.TB, version, dataDir string, settings ...string) *Cluster {
	t.Helper()
	c := fromDataDir(t, version, dataDir, settings...)
	c.await(t, false)
	return c
}

// NewStandbyFromDataDir is NewFromDataDir for a server that stays in recovery: it waits until the
// server accepts reads.
func NewStandbyFromDataDir(t testing.TB, version, dataDir string, settings ...string) *Cluster {
	t.Helper()
	c := fromDataDir(t, version, dataDir, settings...)
	c.await(t, true)
	return c
}

func fromDataDir(t testing.TB, version, dataDir string, settings ...string) *Cluster {
	t.Helper()
	c := &Cluster{
		Version: version, BinDir: BinDir(t, version), DataDir: dataDir, SocketDir: Dir(t), Port: FreePort(t),
		Tablespaces: map[string]string{},
	}
	must(t, os.Chmod(dataDir, 0o700))
	own(t, dataDir)
	letThrough(t, dataDir)
	c.overrides = append([]string{
		"listen_addresses=127.0.0.1", fmt.Sprintf("port=%d", c.Port), "unix_socket_directories=" + c.SocketDir,
		"archive_mode=off", "fsync=off",
	}, settings...)
	c.start(t)
	t.Cleanup(func() { c.end(t) })
	return c
}

// Standby makes a streaming standby of c with pg_basebackup and starts it, with settings as
// NewFromDataDir has them.
func (c *Cluster) Standby(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	home := Dir(t)
	return c.StandbyIn(t, home, filepath.Join(home, "tablespaces"), settings...)
}

// StandbyIn is Standby below the directory home, with its tablespaces below spaces; both belong to
// the server's user.
func (c *Cluster) StandbyIn(t testing.TB, home, spaces string, settings ...string) *Cluster {
	t.Helper()
	dataDir := filepath.Join(home, "data")
	args := []string{"-D", dataDir, "-d", c.DSN(), "-R", "-X", "stream", "-c", "fast", "--no-sync"}
	for name, dir := range c.Tablespaces {
		args = append(args, "-T", dir+"="+filepath.Join(spaces, name))
	}
	run(t, home, filepath.Join(c.BinDir, "pg_basebackup"), args...)
	return NewStandbyFromDataDir(t, c.Version, dataDir, settings...)
}

// DSN connects as superuser, over TCP.
func (c *Cluster) DSN() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres", c.Port)
}

// Log is what the server has logged.
func (c *Cluster) Log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(c.logFile())
	must(t, err)
	return string(text)
}

func (c *Cluster) logFile() string { return filepath.Join(c.SocketDir, "postgres.log") }

func (c *Cluster) start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	must(t, err)
	defer log.Close()
	args := []string{"-D", c.DataDir}
	for _, o := range c.overrides {
		args = append(args, "-c", o)
	}
	cmd := exec.Command(filepath.Join(c.BinDir, "postgres"), args...)
	cmd.Dir, cmd.Env = "/", cleanEnv()
	cmd.Stdout, cmd.Stderr = log, log
	// SIGQUIT makes a server end at once with all its processes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: Credential(t), Setpgid: true, Pdeathsig: syscall.SIGQUIT}
	must(t, cmd.Start())
	exited := make(chan struct{})
	c.server, c.exited = cmd, exited
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
}

// await returns once the server answers and, unless a standby is enough, has left recovery.
func (c *Cluster) await(t testing.TB, standby bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		var recovering bool
		err := c.scan(ctx, "SELECT pg_is_in_recovery()", &recovering)
		if err == nil && (standby || !recovering) {
			return
		}
		select {
		case <-c.exited:
			t.Fatalf("PostgreSQL %s on %s ended: %s\n%s", c.Version, c.DataDir, c.server.ProcessState, c.Log(t))
		case <-ctx.Done():
			t.Fatalf("PostgreSQL %s on %s is not ready (in recovery: %t): %v\n%s", c.Version, c.DataDir, recovering, err, c.Log(t))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Mode is how a server is stopped.
type Mode = syscall.Signal

// The modes of pg_ctl stop, and a kill of the postmaster.
const (
	Smart     Mode = syscall.SIGTERM
	Fast      Mode = syscall.SIGINT
	Immediate Mode = syscall.SIGQUIT
	Kill      Mode = syscall.SIGKILL
)

// Stop ends the server and waits until it is gone.
func (c *Cluster) Stop(t testing.TB, mode Mode) {
	t.Helper()
	if err := c.server.Process.Signal(mode); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	select {
	case <-c.exited:
	case <-time.After(patience):
		t.Fatalf("PostgreSQL %s on %s did not stop\n%s", c.Version, c.DataDir, c.Log(t))
	}
	// A killed postmaster's children notice it a little later, and keep its successor from starting.
	for deadline := time.Now().Add(patience); c.inUse(t); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("processes of PostgreSQL %s on %s outlive it\n%s", c.Version, c.DataDir, c.Log(t))
		}
	}
}

// inUse reports whether a process works in the data directory, as PostgreSQL's do.
func (c *Cluster) inUse(t testing.TB) bool {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	must(t, err)
	for _, link := range links {
		if dir, err := os.Readlink(link); err == nil && dir == c.DataDir {
			return true
		}
	}
	return false
}

// Restart starts the server again, on the same port, after a fast stop if it runs.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	c.Stop(t, Fast)
	c.start(t)
	c.await(t, false)
}

// Promote ends a standby's recovery.
func (c *Cluster) Promote(t testing.TB) {
	t.Helper()
	run(t, "/", filepath.Join(c.BinDir, "pg_ctl"), "promote", "-w", "-D", c.DataDir)
	c.await(t, false)
}

func (c *Cluster) end(t testing.TB) {
	c.Stop(t, Immediate)
}

func appendLines(t testing.TB, file string, lines []string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(strings.Join(lines, "\n") + "\n")
	must(t, errors.Join(err, f.Close()))
}
