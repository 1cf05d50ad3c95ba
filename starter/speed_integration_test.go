//go:build integration

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/temporaltest"
)

// allowed is how long a command may take: a limit, or a multiple of a floor where that is more. The floor is what no
// program can do without. Machines differ tenfold in what the kernel and PostgreSQL take for it.
type allowed struct {
	limit time.Duration
	times float64
	floor func()
}

// within runs a command several times, and holds the median against what is allowed, measured each time.
// What else the machine does at the time is reckoned out.
func within(t *testing.T, a allowed, args ...string) string {
	t.Helper()
	return withinOn(t, noEngine, a, args...)
}

// noEngine is where no engine answers.
const noEngine = "127.0.0.1:1"

// withinOn is within for a command that asks an engine.
func withinOn(t *testing.T, engine string, a allowed, args ...string) string {
	t.Helper()
	const tries = 7
	var took, floors []time.Duration
	var shares []float64
	var out bytes.Buffer
	program := holdfast(t)
	for range tries {
		floor := timed(t, a.floor)
		this := timed(t, func() {
			out.Reset()
			cmd := exec.CommandContext(t.Context(), program, args...)
			cmd.Env, cmd.Stdout, cmd.Stderr = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "TZ=UTC", "TEMPORAL_ADDRESS=" + engine, "TEMPORAL_NAMESPACE=holdfast"}, &out, &out
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out.String())
			}
		})
		took, floors = append(took, this), append(floors, floor)
		shares = append(shares, float64(this)/max(float64(a.limit), a.times*float64(floor)))
	}
	slices.Sort(shares)
	t.Logf("holdfast %v takes %v; allowed are %v, or %.1f times %v", args, took, a.limit, a.times, floors)
	if median := shares[tries/2]; median > 1 {
		t.Errorf("that is %.2f times what is allowed", median)
	}
	return out.String()
}

// timed is how long something would take on a machine that does nothing else.
func timed(t *testing.T, do func()) time.Duration {
	t.Helper()
	busy := busyness(t)
	began := time.Now()
	do()
	return time.Duration(float64(time.Since(began)) / busy)
}

// busyness is how many times longer work takes than on a machine that does
// nothing else.
func busyness(t *testing.T) float64 {
	t.Helper()
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	began, before := time.Now(), used()
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for time.Since(began) < 100*time.Millisecond {
			}
		})
	}
	wg.Wait()
	return max(1, float64(time.Since(began))*float64(runtime.NumCPU())/float64(used()-before))
}

func TestListsOfThousandsAreQuick(t *testing.T) {
	const most = 10000
	records := func(conf string) func() {
		return func() { readAll(t, filepath.Join(filepath.Dir(conf), "main", "meta")) }
	}
	conf := thousands(t, most)
	if out := within(t, allowed{300 * time.Millisecond, 3.5, records(conf)}, "-c", conf, "list-backups", "main"); strings.Count(out, "\n") != most {
		t.Errorf("%d lines", strings.Count(out, "\n"))
	}
	conf = thousands(t, most/10)
	if out := within(t, allowed{150 * time.Millisecond, 3.5, records(conf)}, "__complete", "-c", conf, "show-backup", "main", ""); !strings.Contains(out, "20260101T000000") {
		t.Error(out)
	}
}

// readAll reads the files of a directory, several at once.
func readAll(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err == nil {
		err = atOnce(len(files), func(i int) error {
			_, err := os.ReadFile(filepath.Join(dir, files[i].Name()))
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestStatusOfManyServersIsQuick(t *testing.T) {
	home := pgtest.Dir(t)
	c := pgtest.Start(t, pgtest.Options{Version: pgtest.Versions()[0]})
	const servers = 200
	var text strings.Builder
	fmt.Fprintf(&text, "[barman]\nbarman_home = %[1]s\nbarman_user = root\nlog_file = %[1]s/log\n", home)
	for i := range servers {
		fmt.Fprintf(&text, "[s%d]\nbackup_method = postgres\narchiver = on\nconninfo = %[2]s\nstreaming_conninfo = %[2]s\n", i, c.DSN())
	}
	conf := filepath.Join(home, "holdfast.conf")
	if err := os.WriteFile(conf, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	greetings := func() {
		if err := atOnce(servers, func(int) error { return c.Greet(t.Context()) }); err != nil {
			t.Fatal(err)
		}
	}
	for _, engine := range []string{noEngine, temporaltest.Start(t).Address} {
		out := withinOn(t, engine, allowed{2 * time.Second, 1.5, greetings}, "-c", conf, "status", "all")
		unknown := 0
		if engine == noEngine {
			unknown = servers
		}
		if strings.Count(out, "Cluster state: in production") != servers || strings.Count(out, "the engine does not answer") != unknown || strings.Contains(out, "WARNING") {
			t.Error(out)
		}
	}
}

// TestNoPasswordIsDiagnosed: what is given to somebody who helps holds no secret.
func TestNoPasswordIsDiagnosed(t *testing.T) {
	s := newShelf(t, "streaming_conninfo = postgresql://u:s3cret@127.0.0.1:1/postgres?sslpassword=s3cret\nwal_conninfo = host=127.0.0.1 port=1 password = 's3cret'\nprimary_conninfo = host=127.0.0.1 port=1 password=s3cret")
	s.must(os.WriteFile(s.conf, []byte(strings.Replace(string(readFile(t, s.conf)), "conninfo = host=/nowhere", "conninfo = host=127.0.0.1 port=1 password=s3cret", 1)), 0o644))
	s.must(os.WriteFile(s.conf, append(readFile(t, s.conf), "[away]\nmodel = true\ncluster = main\nconninfo = host=127.0.0.1 port=1 password=s3cret\n"...), 0o644))
	s.add(3, nil)
	s.want(0, `"cluster": "main"`, "diagnose")
	for _, args := range [][]string{{"diagnose"}, {"show-servers", "main"}, {"-f", "json", "show-servers", "main"}, {"-d", "status", "main"}, {"check", "main"}} {
		a := s.run(args...)
		if said := a.stdout + a.stderr; strings.Contains(said, "s3cret") || !strings.Contains(said, "main") {
			t.Errorf("%v: exit %d\n%s", args, a.code, said)
		}
	}
}
