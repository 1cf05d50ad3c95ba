//go:build integration

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/sshtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// way is a way to take a backup: a row of the matrix.
type way struct {
	name     string
	method   string
	settings []string
	from, to int      // versions of PostgreSQL; 0 for no bound
	primary  bool     // no standby can do it
	chain    int      // incremental backups on top
	tested   []string // columns that CI tests
	disks    string   // the provider of snapshots; "" for a cluster that lies anywhere
	only     []string // columns that are run; nil for all
}

func compressing(lines ...string) []string {
	for i, line := range lines {
		lines[i] = "backup_compression" + line
	}
	return lines
}

var ways = []way{
	{name: "rsync over ssh", method: config.MethodRsync, tested: []string{"13", "standby 18"}},
	{name: "rsync over ssh, exclusive", method: config.MethodRsync, settings: []string{"backup_options = exclusive_backup"}, to: 14, primary: true, tested: []string{"13"}},
	{name: "local-rsync", method: config.MethodLocalRsync, tested: []string{"17", "standby 15"}},
	{name: "local-rsync, exclusive", method: config.MethodLocalRsync, settings: []string{"backup_options = exclusive_backup"}, to: 14, primary: true, tested: []string{"13"}},
	{name: "postgres", method: config.MethodPostgres, tested: []string{"13", "standby 18"}},
	{name: "postgres, tar, gzip", method: config.MethodPostgres, settings: compressing(" = gzip", "_format = tar"), tested: []string{"13"}},
	{name: "postgres, tar, lz4", method: config.MethodPostgres, settings: compressing(" = lz4", "_format = tar"), tested: []string{"18"}},
	{name: "postgres, tar, zstd", method: config.MethodPostgres, settings: compressing(" = zstd", "_format = tar"), tested: []string{"17", "standby 15"}},
	{name: "postgres, tar, zstd by the server", method: config.MethodPostgres, settings: compressing(" = zstd", "_format = tar", "_location = server"), from: 15, tested: []string{"18"}},
	{name: "postgres, plain, lz4 on its way", method: config.MethodPostgres, settings: compressing(" = lz4", "_format = plain", "_location = server"), from: 15, tested: []string{"17"}},
	{name: "local-to-cloud", method: config.MethodLocalToCloud, tested: []string{"13", "standby 18"}},
	{name: "snapshot, btrfs", method: config.MethodSnapshot, disks: "btrfs", tested: []string{"standby 15"}},
	{name: "snapshot, btrfs, exclusive", method: config.MethodSnapshot, disks: "btrfs", settings: []string{"backup_options = exclusive_backup"}, to: 14, primary: true},
	{name: "snapshot, command that clones files on XFS", method: config.MethodSnapshot, disks: "command"},
	{name: "snapshot, volumes of AWS (played by a server)", method: config.MethodSnapshot, disks: rented, only: []string{"13", "15", "17", "18"}},
	{name: "snapshot, volumes of AWS, exclusive", method: config.MethodSnapshot, disks: rented, settings: []string{"backup_options = exclusive_backup"}, to: 14, primary: true, tested: []string{"13"}},
	{name: "postgres, three incremental backups", method: config.MethodPostgres, from: 17, primary: true, chain: 3, tested: []string{"17", "18"}},
}

// rented are the disks of a cloud: each backup of them has a cluster of its own, because its
// restore takes the place of that.
const rented = "aws"

// columns are the servers that backups are taken of.
var columns = []string{"13", "15", "17", "18", "standby 15", "standby 18"}

// fits reports whether a way exists for a column.
func (w way) fits(column string) bool {
	version, standby := strings.CutPrefix(column, "standby ")
	n, err := strconv.Atoi(version)
	return err == nil && !(standby && w.primary) && n >= w.from && (w.to == 0 || n <= w.to)
}

// TestMatrix: every way to take a backup, on every version, while the server
// works: it is DONE, and restored to the end of the WAL it has the server's rows.
func TestMatrix(t *testing.T) {
	t.Parallel()
	results := openResults(t, "HOLDFAST_MATRIX")
	t.Cleanup(func() { results.write(t, "matrix.md", matrixPage) })
	for _, column := range columns {
		cells := slices.DeleteFunc(slices.Clone(ways), func(w way) bool {
			return !w.fits(column) || w.only != nil && !slices.Contains(w.only, column) || !results.all && !slices.Contains(w.tested, column)
		})
		results.planned += len(cells)
		t.Run(column, func(t *testing.T) {
			t.Parallel()
			fields := map[string]*field{}
			for _, w := range cells {
				name := w.name + "/" + column
				if results.passed(name) || results.sittingIsOver() {
					continue
				}
				f := fields[w.disks]
				if f == nil && w.disks != rented {
					f = newField(t, column, w.disks)
					fields[w.disks] = f
				}
				t.Run(w.name, func(t *testing.T) {
					began := time.Now()
					if w.disks == rented {
						tryRented(t, w, column)
					} else {
						f.try(t, w)
					}
					results.add(t, result{Name: name, Passed: !t.Failed(), Attempts: 1, Seconds: time.Since(began).Seconds()})
				})
			}
		})
	}
}

// field is a bed whose server works, and perhaps a standby of it that backups
// are taken of.
type field struct {
	*bed
	primary *pgtest.Cluster
	ssh     *sshtest.Server
	store   *cloud
}

func newField(t *testing.T, column, disks string) *field {
	version, standby := strings.CutPrefix(column, "standby ")
	var settings []string
	if n, err := strconv.Atoi(version); err == nil && n >= 17 {
		settings = []string{"summarize_wal = on"}
	}
	store := newCloud(t)
	o := stacktest.Options{Version: version, Method: config.MethodPostgres, Config: settings, Env: store.Environment()}
	at := place(t, disks, &o)
	f := &field{bed: newBedWith(t, o), store: store, ssh: sshtest.Start(t, sshtest.Options{As: pgtest.Credential(t)})}
	f.primary, f.disks = f.Cluster, at
	inside := filepath.Join(f.Cluster.DataDir, "in side")
	if err := os.Mkdir(inside, 0o700); err != nil {
		t.Fatal(err)
	}
	f.chown(t, inside)
	if !standby {
		// A standby of it would have its directory in the primary's data.
		f.Cluster.Exec(t, "CREATE TABLESPACE inside LOCATION '"+inside+"'")
		f.Cluster.Fill(t, "within", "inside", 1000)
	}
	f.pgbench(t, "--initialize", "--quiet", "--scale=2").wait(t)
	if standby {
		f.follow(t, config.MethodPostgres, "always")
	}
	return f
}

// try takes a backup in a way while the server works, and restores it.
func (f *field) try(t *testing.T, w way) {
	settings := slices.Clone(w.settings)
	if f.Cluster != f.primary {
		settings = append(settings, "primary_conninfo = "+f.primary.DSN())
	}
	f.cloud = nil
	switch w.method {
	case config.MethodRsync:
		settings = append(settings, "ssh_command = "+f.ssh.Command())
	case config.MethodLocalToCloud:
		f.cloud = f.store
		settings = append(settings, f.store.settings()...)
	}
	if len(w.settings) > 0 && strings.HasPrefix(w.settings[0], "backup_compression") {
		// Older servers can be backed up compressed by a newer pg_basebackup.
		settings = append(settings, "path_prefix = "+pgtest.BinDir(t, "18"))
	}
	if f.disks != nil {
		settings = append(settings, f.disks.settings(t)...)
	}
	f.Configure(t, w.method, settings...)
	before := f.count(t)
	work := f.pgbench(t, "--no-vacuum", "--client=2", "--time=600", "--rate=50")
	got := f.backup(t)
	for range w.chain {
		got = f.backup(t, "--incremental", "latest")
	}
	work.stop(t)
	f.idle(t)
	f.rows = f.primary.Fingerprint(t)
	f.archived(t)
	f.verify(t, got, before+w.chain)
	if w.chain > 0 {
		f.Must(t, "delete", stacktest.Server, "oldest")
	}
}

// tryRented is try with a cluster on the disks of a cloud, which are cut one after the other.
func tryRented(t *testing.T, w way, version string) {
	c := amazon(t)
	c.hurry()
	b, disks := newRentedBed(t, c, version, w.settings...)
	c.creating(func(involved func(string) bool) {
		if err := cut(disks, involved); err != nil {
			t.Error(err)
		}
	})
	f := &field{bed: b, primary: b.Cluster}
	f.pgbench(t, "--initialize", "--quiet", "--scale=2").wait(t)
	work := f.pgbench(t, "--no-vacuum", "--client=2", "--time=600", "--rate=50")
	got := b.backup(t)
	work.stop(t)
	f.idle(t)
	b.rows = b.Cluster.Fingerprint(t)
	f.archived(t)
	b.fromDisks(t, c, disks, string(got.ID))
}

// idle returns when the sessions of what wrote have ended.
func (f *field) idle(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); f.primary.Value(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'") != "0"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("pgbench still has sessions")
		}
	}
}

// archived returns when all that the server has done until now is archived.
func (f *field) archived(t *testing.T) {
	t.Helper()
	last := f.primary.Value(t, "pg_walfile_name(pg_switch_wal())")
	path := filepath.Join(f.Home, stacktest.Server, "wals", wal.HashDir(last), last)
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not archived", last)
		}
	}
}

// program is a child of the test.
type program struct{ cmd *exec.Cmd }

func (f *field) pgbench(t *testing.T, args ...string) program {
	t.Helper()
	args = append(args, "--host=127.0.0.1", fmt.Sprintf("--port=%d", f.primary.Port), "--username=postgres", "postgres")
	cmd := exec.Command(filepath.Join(f.primary.BinDir, "pgbench"), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return program{cmd}
}

func (p program) wait(t *testing.T) {
	t.Helper()
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("%v: %v", p.cmd.Args, err)
	}
}

// stop ends a program that must still run.
func (p program) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%v: %v", p.cmd.Args, err)
	}
	_ = p.cmd.Wait() // it was killed
}

func matrixPage(r *results) string {
	var b strings.Builder
	b.WriteString(`# Methods and versions

Made by ` + "`make test-matrix`" + `. In each cell a backup was taken while pgbench wrote, of a cluster with
tablespaces outside and inside the data directory, was DONE, was restored to the end of the archived WAL and
started, pg_amcheck found nothing, and all rows were those of the server. A cell says how many seconds that
took; a dash means that PostgreSQL or the method has no such thing. A standby's backups had the primary's WAL
ended by primary_conninfo.

`)
	fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, w := range ways {
		b.WriteString("| " + w.name + " |")
		for _, column := range columns {
			one, passed := r.done[w.name+"/"+column]
			switch {
			case passed:
				fmt.Fprintf(&b, " %.0f |", one.Seconds)
			case w.fits(column):
				b.WriteString(" not run |")
			default:
				b.WriteString(" - |")
			}
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\n%d of %d cells were run and passed.\n", len(r.done), r.planned)
	return b.String()
}
