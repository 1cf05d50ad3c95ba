package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/flock"
	"github.com/holdfast-pg/holdfast/internal/keeper"
)

// temporary looks for files that killed writers have not finished.
func (c *chart) temporary(context.Context) error {
	var all []string
	for _, list := range []func() ([]string, error){
		func() ([]string, error) { return c.Catalog.Temporary(c.now, quiet) },
		func() ([]string, error) { return c.Archive.Temporary(c.now, quiet) },
		func() ([]string, error) {
			return atomicfile.Temporary(c.now, quiet, c.StateDir, keeper.Dir(c.StateDir))
		},
	} {
		paths, err := list()
		if err != nil {
			return err
		}
		all = append(all, paths...)
	}
	for _, path := range all {
		c.found(Temporary, path, verdict{proof: fmt.Sprintf("it is an unfinished write, and nobody has written to it for %s", quiet)}, func(context.Context) error {
			return gone("remove", path, os.Remove(path))
		})
	}
	return nil
}

// gone is nil also when somebody else has removed a file.
func gone(op, path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fault.Wrap(fault.Internal, op, path, err)
}

// unused is how long nobody may have taken a lock that is there for everybody.
const unused = 7 * 24 * time.Hour

// locks looks for lock files that nobody holds and nobody will take again.
// Others stay: whoever comes next takes them.
func (c *chart) locks(context.Context) error {
	if !c.CleanLocks {
		return nil
	}
	all, err := c.Catalog.Locks()
	if err != nil {
		return err
	}
	for _, purpose := range slices.Sorted(maps.Keys(all)) {
		path := all[purpose]
		v, err := c.lock(purpose, path)
		if err != nil {
			return err
		}
		c.found(Lock, path, v, func(context.Context) error {
			l, err := flock.Try(path)
			if err != nil {
				return err
			}
			return l.Discard()
		})
	}
	return nil
}

func (c *chart) lock(purpose, path string) (verdict, error) {
	st, err := os.Stat(path)
	if err != nil {
		return verdict{owned: true}, gone("read", path, err)
	}
	why := "nobody holds it, and nobody has taken it since " + st.ModTime().Format(time.DateOnly)
	id, err := backup.ParseID(strings.TrimSuffix(purpose, "-sync-backup"))
	if err == nil && c.backups[id] == nil {
		why = fmt.Sprintf("nobody holds it, and there is no backup %s", id)
	} else if c.now.Sub(st.ModTime()) < unused {
		return verdict{owned: true}, nil
	}
	by, err := flock.Held(path)
	return verdict{owned: by != "", proof: why}, err
}
