//go:build integration

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/killtest"
)

// TestKilledChangeOfTheConfiguration: whenever a change is killed, the
// configuration is the one before or the one after, the next change is made, and
// nothing is left of the killed one.
func TestKilledChangeOfTheConfiguration(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		jobs string // in force afterwards
	}{
		{"update", []string{"config-update", `[{"scope": "server", "server_name": "main", "parallel_jobs": 4}]`}, "4"},
		{"switch", []string{"config-switch", "main", "standby"}, "3"},
		{"reset", []string{"config-switch", "main", "--reset"}, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var before string
			begin := func() *shelf {
				s := newShelf(t, "cluster = c\n[standby]\nmodel = true\ncluster = c\nparallel_jobs = 3")
				if c.name == "reset" {
					s.want(0, "", "config-switch", "main", "standby")
				}
				before = inForce(t, s.conf)
				return s
			}
			check := func(s *shelf, finished bool) {
				t.Helper()
				now := inForce(t, s.conf)
				if now != c.jobs && (finished || now != before) {
					t.Fatalf("parallel_jobs is %s, after %s", now, before)
				}
				s.want(0, "", c.args...)
				if now = inForce(t, s.conf); now != c.jobs {
					t.Fatalf("parallel_jobs is %s", now)
				}
				for _, dir := range []string{filepath.Dir(s.conf), filepath.Dir(s.MetaDir)} {
					entries, err := os.ReadDir(dir)
					s.must(err)
					if slices.ContainsFunc(entries, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), atomicfile.TempPrefix) }) {
						t.Fatalf("left in %s: %v", dir, entries)
					}
				}
			}
			steps := 0
			for finished := false; !finished; steps++ {
				s := begin()
				finished = killtest.Run(t, steps+1, 0, nil, append([]string{"-c", s.conf}, c.args...)...)
				check(s, finished)
			}
			if c.name != "reset" && steps < 4 {
				t.Errorf("it took only %d steps", steps)
			}
			after := 2 * time.Millisecond
			for finished := false; !finished; after += after / 2 {
				s := begin()
				finished = killtest.Run(t, 0, after, nil, append([]string{"-c", s.conf}, c.args...)...)
				check(s, finished)
			}
		})
	}
}

// inForce is the number of jobs that a configuration gives to the server main.
func inForce(t *testing.T, conf string) string {
	t.Helper()
	cfg, err := config.Load(conf)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cfg.Server("main")
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(s.ParallelJobs)
}
