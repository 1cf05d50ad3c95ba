//go:build integration

package walreceive_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pg"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/walreceive"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == command.ShimArg {
		os.Exit(command.Shim(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// patience bounds every wait; only a hang lasts as long.
const patience = time.Minute

// desk is a server, its settings and its receiver.
type desk struct {
	*pgtest.Cluster
	t     *testing.T
	conf  string
	state string
}

func newDesk(t *testing.T, version string) *desk {
	t.Helper()
	home := pgtest.Dir(t)
	d := &desk{t: t, conf: filepath.Join(home, "barman.conf"), state: filepath.Join(home, "state"),
		Cluster: pgtest.Start(t, pgtest.Options{Version: version, OneDatabase: true})}
	d.configure("streaming_archiver = on", "slot_name = ours", "create_slot = auto")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := d.receiver().Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *desk) configure(options ...string) {
	d.t.Helper()
	home := filepath.Dir(d.conf)
	text := fmt.Sprintf("[barman]\nbarman_home = %s\n[main]\nbackup_method = postgres\nconninfo = %s password=unused\npath_prefix = %s\n%s\n", home, d.DSN(), d.BinDir, strings.Join(options, "\n"))
	d.must(os.WriteFile(d.conf, []byte(text), 0o644))
}

func (d *desk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) servers() []*config.Server {
	d.t.Helper()
	cfg, err := config.Load(d.conf)
	d.must(err)
	return cfg.Servers()
}

func (d *desk) receiver() *walreceive.Receiver { return walreceive.Of(d.servers()[0], d.state) }

func slots(ctx context.Context, s *config.Server) error {
	sql, streaming := s.WALSource()
	return pg.EnsureSlot(ctx, sql.Reveal(), streaming.Reveal(), s.SlotName)
}

func (d *desk) tender() *walreceive.Tender {
	return &walreceive.Tender{StateDir: d.state, Slots: slots, Log: slog.New(slog.NewTextHandler(d.t.Output(), nil))}
}

func (d *desk) await(what string, done func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("%s does not happen: %v", what, d.receiver().Failure())
		}
	}
}

// tend lets a tender work until something is so.
func (d *desk) tend(tender *walreceive.Tender, now time.Time, what string, done func() bool) {
	d.t.Helper()
	d.await(what, func() bool {
		tender.Tend(d.t.Context(), now, d.servers())
		return done()
	})
}

// streams is the PID of the only client that streams; 0 when there is none.
func (d *desk) streams() string {
	return d.Value(d.t, "select coalesce(string_agg(r.pid || ' ' || application_name || ' ' || slot_name, ', '), '') from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid where r.state = 'streaming'")
}

func (d *desk) pid() int {
	d.t.Helper()
	pid, running, err := d.receiver().Process()
	d.must(err)
	if !running {
		return 0
	}
	return pid
}

// shim is the parent of the receiver.
func (d *desk) shim() int {
	d.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.pid()))
	d.must(err)
	_, rest, _ := strings.Cut(string(stat), "PPid:")
	var parent int
	_, err = fmt.Sscan(rest, &parent)
	d.must(err)
	return parent
}

// TestTender: one receiver runs as long as it is wanted, whoever looks after
// it, and it is started again when it dies.
func TestTender(t *testing.T) {
	t.Parallel()
	for _, version := range pgtest.Versions() {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, version)
			now := time.Now()
			first := d.tender()
			first.Tend(t.Context(), now, d.servers())
			d.await("streaming", func() bool { return strings.Contains(d.streams(), "barman_receive_wal ours") })
			pid := d.pid()
			if secret, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || strings.Contains(string(secret), "unused") {
				t.Errorf("the password is an argument: %q, %v", secret, err)
			}
			if owner, held, err := catalog.LayoutOf(d.servers()[0]).Receiver(); owner != pid || !held || err != nil {
				t.Errorf("the lock is of %d, %v, %v; the receiver is %d", owner, held, err, pid)
			}

			// Another one, as after a crash, finds it. So does whoever starts one.
			second := d.tender()
			second.Tend(t.Context(), now, d.servers())
			if err := d.receiver().Start(t.Context(), slots); !fault.Is(err, fault.Refused) || d.pid() != pid {
				t.Errorf("a second receiver: %v, process %d", err, d.pid())
			}

			// A dead one is started again, after a pause.
			d.must(syscall.Kill(pid, syscall.SIGKILL))
			d.await("the end", func() bool { return d.pid() == 0 })
			second.Tend(t.Context(), now, d.servers())
			if d.pid() != 0 {
				t.Error("it was started without a pause")
			}
			now = now.Add(2 * time.Second)
			d.tend(second, now, "streaming again", func() bool { return d.streams() != "" })

			// One whose shim is dead goes on, and is known.
			pid = d.pid()
			d.must(syscall.Kill(d.shim(), syscall.SIGKILL))
			second.Tend(t.Context(), now, d.servers())
			if d.pid() != pid || d.streams() == "" {
				t.Errorf("without its shim, process %d is taken for %d; %s streams", pid, d.pid(), d.streams())
			}

			// Other settings are used at once.
			d.configure("streaming_archiver = on", "slot_name = ours", "streaming_archiver_name = another")
			d.tend(second, now, "streaming with other settings", func() bool { return strings.Contains(d.streams(), "another ours") })
			if d.pid() == pid {
				t.Error("it is the same process")
			}

			// Stopped by a person, it stays so.
			d.must(d.receiver().Forbid())
			second.Tend(t.Context(), now, d.servers())
			d.await("the end", func() bool { return d.streams() == "" })
			second.Tend(t.Context(), now.Add(time.Hour), d.servers())
			if d.pid() != 0 {
				t.Error("it was started although it is forbidden")
			}
			d.must(d.receiver().Permit())
			d.tend(second, now.Add(time.Hour), "streaming after that", func() bool { return d.streams() != "" })

			// A server that is gone from the configuration is not streamed any more.
			second.Tend(t.Context(), now.Add(time.Hour), nil)
			d.await("the end", func() bool { return d.pid() == 0 })
			if left, err := os.ReadDir(filepath.Join(d.state, "receive-wal")); err != nil || len(left) > 0 {
				t.Errorf("%v, %v", left, err)
			}
		})
	}
}

// TestReset: streaming begins at the server's present, whatever was there.
func TestReset(t *testing.T) {
	t.Parallel()
	d := newDesk(t, pgtest.Versions()[0])
	r := d.receiver()
	layout := catalog.LayoutOf(d.servers()[0])
	identify := func() string {
		s, err := pg.ConnectStreaming(t.Context(), d.DSN())
		d.must(err)
		defer s.Close()
		sys, err := s.Identify(t.Context())
		d.must(err)
		segment, err := r.Reset(t.Context(), sys)
		if err != nil {
			return err.Error()
		}
		return segment
	}
	for _, name := range []string{"000000010000000000000000.partial", "000000010000000F00000001.partial", "000000010000000F00000002"} {
		d.must(os.MkdirAll(layout.StreamingDir, 0o755))
		d.must(os.MkdirAll(layout.ErrorsDir, 0o755))
		d.must(os.WriteFile(filepath.Join(layout.StreamingDir, name), []byte("x"), 0o600))
	}
	segment := identify()
	if want := d.Value(t, "pg_walfile_name(pg_current_wal_lsn())"); segment != want {
		t.Fatalf("begins at %s, the server is at %s", segment, want)
	}
	for dir, want := range map[string]string{
		layout.StreamingDir: "000000010000000000000000.partial " + segment + ".partial",
		layout.ErrorsDir:    "000000010000000F00000001.partial.reset 000000010000000F00000002.reset",
	} {
		entries, err := os.ReadDir(dir)
		d.must(err)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s has %s", dir, got)
		}
	}
	d.must(r.Start(t.Context(), slots))
	d.await("streaming", func() bool { return d.streams() != "" })
	if got := identify(); !strings.Contains(got, fmt.Sprint(d.pid())) {
		t.Errorf("a reset while WAL is received: %s", got)
	}
	d.Exec(t, "create table more(); select pg_switch_wal()")
	d.await("the segment", func() bool {
		st, err := os.Stat(filepath.Join(layout.StreamingDir, segment))
		return err == nil && st.Size() == 16<<20
	})
}

// TestFailuresAreExplained: why it does not run, in words, with a remedy.
func TestFailuresAreExplained(t *testing.T) {
	t.Parallel()
	d := newDesk(t, pgtest.Versions()[1])
	d.Exec(t, "create role nobody login")
	d.Exec(t, "select pg_create_physical_replication_slot('busy', true)")
	// Somebody else's receiver keeps the slot busy.
	other := pgtest.Dir(t)
	d.configure("streaming_archiver = on", "slot_name = busy", "streaming_wals_directory = "+other)
	s := d.servers()[0]
	s.Name = "other"
	busy := walreceive.Of(s, d.state)
	d.must(busy.Start(t.Context(), slots))
	t.Cleanup(func() { _ = busy.Stop(context.Background()) })
	d.await("the slot to be busy", func() bool { return d.streams() != "" })
	for _, c := range []struct {
		option, says string
		kind         fault.Kind
	}{
		{"slot_name = none_such", "--create-slot", fault.Config},
		{"slot_name = busy", "slot_name", fault.Refused},
		{"streaming_conninfo = " + strings.Replace(d.DSN(), "user=postgres", "user=nobody", 1), "REPLICATION", fault.Permission},
		{"streaming_conninfo = host=127.0.0.1 port=1 user=postgres", "running", fault.Connection},
	} {
		d.configure("streaming_archiver = on", c.option)
		r := d.receiver()
		d.must(r.Start(t.Context(), slots))
		within, cancel := context.WithTimeout(t.Context(), patience)
		err := r.Wait(within)
		cancel()
		if !fault.Is(err, c.kind) || !strings.Contains(fault.HintOf(err), c.says) {
			t.Errorf("%s: %s: %v; %s", c.option, fault.KindOf(err), err, fault.HintOf(err))
		}
	}
	d.configure("archiver = on")
	if err := d.receiver().Start(t.Context(), slots); !fault.Is(err, fault.Config) {
		t.Errorf("without streaming_archiver: %v", err)
	}
}
