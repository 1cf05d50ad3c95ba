package disposal_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/killtest"
)

// The test binary deletes a chain instead of testing when it is a victim; this
// says where.
const victimDir = "HOLDFAST_TEST_VICTIM_DIR"

func TestMain(m *testing.M) {
	if killtest.Victim() {
		os.Exit(victim(os.Getenv(victimDir)))
	}
	os.Exit(m.Run())
}

// noTest is a testing.TB for a process that is no test.
type noTest struct{ testing.TB }

func (noTest) Helper()        {}
func (noTest) Fatal(a ...any) { panic(a) }

func victim(dir string) int {
	b := open(noTest{}, dir)
	killtest.Begun()
	if _, err := b.Delete(context.Background(), []backup.ID{day(2)}, nil, now); err != nil {
		return 1
	}
	return 0
}

// chain is a catalogue in which the deletion of the oldest backup takes two
// others and half of the WAL along.
func chain(t *testing.T) (*bench, string) {
	t.Helper()
	// In memory, where fsync costs nothing: there are a hundred of them.
	dir, err := os.MkdirTemp("/dev/shm", "holdfast-disposal-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := open(t, dir)
	b.add(2, nil)
	b.add(3, dependsOn(2))
	b.add(4, dependsOn(3))
	b.add(6, nil)
	b.archive(1, 8)
	return b, dir
}

// run lets a victim delete, and reports whether it finished.
func run(t *testing.T, dir string, step int, after time.Duration) bool {
	t.Helper()
	return killtest.Run(t, step, after, []string{victimDir + "=" + dir})
}

// afterKill looks at what a kill has left, and lets it be finished.
func afterKill(t *testing.T, b *bench) {
	t.Helper()
	b.whole()
	marks, err := b.Catalog.Marks()
	b.must(err)
	backups, _, _ := b.state()
	_, err = b.FinishDeletions(t.Context(), now)
	b.must(err)
	if len(marks) == 0 && backups == "2:DONE 3:DONE 4:DONE 6:DONE" {
		b.want(backups, "1 2 3 4 5 6 7 8")
		return
	}
	b.want("6:DONE", "6 7 8")
	if n := count(t, b.Catalog.BaseDir); n != filesOfABackup {
		t.Errorf("%d files are left, not %d", n, filesOfABackup)
	}
}

// TestKilledDeletion: whenever a deletion is killed, no part of a backup is
// listed as DONE, and it is finished later or has not begun.
func TestKilledDeletion(t *testing.T) {
	t.Run("at each step of each write", func(t *testing.T) {
		t.Parallel()
		for step := 1; ; step++ {
			b, dir := chain(t)
			finished := run(t, dir, step, 0)
			afterKill(t, b)
			if t.Failed() {
				t.Fatalf("killed at step %d", step)
			}
			if finished {
				if step < 20 {
					t.Errorf("it took only %d steps", step)
				}
				return
			}
		}
	})
	t.Run("between the writes", func(t *testing.T) {
		t.Parallel()
		for after := 200 * time.Microsecond; ; after += after / 2 {
			b, dir := chain(t)
			finished := run(t, dir, 0, after)
			afterKill(t, b)
			if t.Failed() {
				t.Fatalf("killed after %s", after)
			}
			if finished {
				return
			}
		}
	})
}
