package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/fault"
)

// What breaks in the files while a worker runs leaves the last good settings in
// force; what is mended or removed takes effect.
func TestTheLastGoodConfigurationStaysInForce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "barman.conf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	head := "[barman]\nbarman_home = " + filepath.Dir(path) + "\n"
	main := "[main]\nconninfo = host=pg\nbackup_method = postgres\n"
	write(head + main + "parallel_jobs = 2\n")
	s := (&process{path: path}).servers()
	jobs := func(want int) {
		t.Helper()
		got, err := s.Server("main")
		if err != nil || got.ParallelJobs != want {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	jobs(2)
	write("half a fi")
	jobs(2)
	write(head + main + "parallel_jobs = 3\n")
	jobs(3)
	write(head + main + "parallel_jobs = 4\nbackup_method = nothing\n")
	jobs(3)
	write(head + main + "parallel_jobs = 5\n")
	jobs(5)
	write(head + "[other]\nconninfo = host=pg\nbackup_method = postgres\n")
	if _, err := s.Server("main"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a server that was removed: %v", err)
	}
}
