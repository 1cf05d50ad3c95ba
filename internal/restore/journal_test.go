package restore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dieBetween does what a restore does that is killed when its tablespace has
// its final name and its data directory has not.
func dieBetween(t *testing.T, dest, tablespace string) {
	t.Helper()
	data, err := openPlace("the data directory", dest, "")
	check(t, err)
	ts, err := openPlace("tablespace ts1", tablespace, "")
	check(t, err)
	check(t, os.WriteFile(filepath.Join(ts.build, "rows"), nil, 0o600))
	check(t, journalOf(data).begin([]*place{ts}))
	check(t, ts.finish())
	check(t, data.lock.Close())
}

// again is the beginning of the next restore to the same places.
func again(t *testing.T, dest, tablespace string) error {
	t.Helper()
	data, err := openPlace("the data directory", dest, "")
	if err != nil {
		return err
	}
	defer data.lock.Close()
	check(t, journalOf(data).undo())
	ts, err := openPlace("tablespace ts1", tablespace, "")
	if err != nil {
		return err
	}
	return ts.lock.Close()
}

func TestNextRestoreUndoesWhatADeadOnePlaced(t *testing.T) {
	for name, inPlace := range map[string]bool{"sibling": false, "in place": true} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			dest, tablespace := filepath.Join(root, "dest"), filepath.Join(root, "ts")
			if inPlace {
				check(t, os.Mkdir(dest, 0o700))
				check(t, writeMarker(filepath.Join(dest, Marker)))
				dieInPlace(t, dest, tablespace)
			} else {
				dieBetween(t, dest, tablespace)
			}
			check(t, again(t, dest, tablespace))
			if _, err := os.Stat(filepath.Join(tablespace, "rows")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("what the dead restore placed is still there: %v", err)
			}
		})
	}
}

// TestNextRestoreRemovesHalfAJournal: one that was killed while it wrote its journal.
func TestNextRestoreRemovesHalfAJournal(t *testing.T) {
	root := t.TempDir()
	dest := filepath.Join(root, "dest")
	data, err := openPlace("the data directory", dest, "")
	check(t, err)
	_, err = atomicfile.Create(journalOf(data).path, 0o600)
	check(t, err)
	check(t, data.lock.Close())
	check(t, again(t, dest, filepath.Join(root, "ts")))
	left, err := filepath.Glob(filepath.Join(root, atomicfile.TempPrefix+"*"))
	check(t, err)
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func dieInPlace(t *testing.T, dest, tablespace string) {
	t.Helper()
	ts, err := openPlace("tablespace ts1", tablespace, "")
	check(t, err)
	check(t, os.WriteFile(filepath.Join(ts.build, "rows"), nil, 0o600))
	check(t, (&journal{filepath.Join(dest, Marker), true}).begin([]*place{ts}))
	check(t, ts.finish())
}

// A directory that somebody else has put in the tablespace's place since then
// is not taken for the dead restore's.
func TestAnotherDirectoryIsNotUndone(t *testing.T) {
	root := t.TempDir()
	dest, tablespace := filepath.Join(root, "dest"), filepath.Join(root, "ts")
	dieBetween(t, dest, tablespace)
	check(t, os.Rename(tablespace, tablespace+"-moved"))
	check(t, os.Mkdir(tablespace, 0o700))
	check(t, os.WriteFile(filepath.Join(tablespace, "theirs"), nil, 0o600))
	if err := again(t, dest, tablespace); !fault.Is(err, fault.Refused) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(tablespace, "theirs")); err != nil {
		t.Error(err)
	}
}

// Once the data directory has its name, the tablespaces belong to a server.
func TestNothingIsUndoneOnceTheDestinationIsComplete(t *testing.T) {
	root := t.TempDir()
	dest, tablespace := filepath.Join(root, "dest"), filepath.Join(root, "ts")
	dieBetween(t, dest, tablespace)
	check(t, os.Rename(sibling(dest), dest))
	check(t, os.WriteFile(filepath.Join(dest, "PG_VERSION"), nil, 0o600))
	if err := again(t, dest, tablespace); !fault.Is(err, fault.Refused) {
		t.Errorf("%v", err)
	}
	check(t, os.Rename(dest, dest+"-moved"))
	if err := again(t, dest, tablespace); !fault.Is(err, fault.Refused) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(tablespace, "rows")); err != nil {
		t.Error(err)
	}
}
