package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/spelling"
)

const infoSuffix = "-backup.info"

// Catalog is the backups of one server.
type Catalog struct {
	Layout
	mirror Mirror
}

// Open names a catalogue; it reads and writes nothing.
func Open(l Layout) *Catalog { return &Catalog{l, nowhere{}} }

// InfoPath is the record of a backup.
func (c *Catalog) InfoPath(id backup.ID) string {
	return filepath.Join(c.MetaDir, string(id)+infoSuffix)
}

// legacyPath is where Barman before 3.13.2 kept a backup.info.
func (c *Catalog) legacyPath(id backup.ID) string {
	return filepath.Join(c.BackupDirOf(id), "backup.info")
}

// Get returns one backup.
func (c *Catalog) Get(id backup.ID) (*backupinfo.Info, error) {
	if _, err := backup.ParseID(string(id)); err != nil {
		return nil, err
	}
	info, _, err := c.read(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, c.notFound(string(id), "there is no such backup")
	}
	return info, err
}

// notFound says what there is instead.
func (c *Catalog) notFound(ref, why string) error {
	all, _, err := c.List()
	if err != nil {
		return fault.New(fault.NotFound, "find backup", ref, "%s", why)
	}
	return missing(c.Server, ref, why, all)
}

// missing is notFound among all backups of a server.
func missing(server, ref, why string, all []*backupinfo.Info) error {
	e := fault.New(fault.NotFound, "find backup", ref, "%s", why)
	if len(all) == 0 {
		return e.WithHint("server %s has no backups yet; take one: holdfast backup %s", server, server)
	}
	const most = 10
	var have []string
	for _, info := range slices.Backward(all) {
		if len(have) == most {
			have = append(have, fmt.Sprintf("and %d older ones", len(all)-most))
			break
		}
		text := string(info.ID) + " (" + string(info.Status)
		if info.BackupName != nil {
			text += ", named " + *info.BackupName
		}
		have = append(have, text+")")
	}
	hint := fmt.Sprintf("server %s has %s", server, strings.Join(have, ", "))
	if near := spelling.DidYouMean(ref, referencesTo(all)); near != "" {
		hint = near + " " + hint
	}
	return e.WithHint("%s", hint)
}

// Create files a new backup; it fails with fault.Conflict, which is
// fs.ErrExist, when the ID is taken.
func (c *Catalog) Create(info *backupinfo.Info) error {
	if _, err := backup.ParseID(string(info.ID)); err != nil {
		return err
	}
	taken := func() error {
		return fault.New(fault.Conflict, "create backup", string(info.ID), "the ID is taken: %w", fs.ErrExist).
			WithHint("IDs are made of the time in seconds; try again a second later")
	}
	for _, path := range []string{c.InfoPath(info.ID), c.BackupDirOf(info.ID)} {
		if _, err := os.Lstat(path); err == nil {
			return taken()
		}
	}
	f, err := atomicfile.Create(c.InfoPath(info.ID), 0o644)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(info.Encode()); err != nil {
		return fault.Wrap(fault.Internal, "write", c.InfoPath(info.ID), err)
	}
	err = f.CommitNew()
	if errors.Is(err, fs.ErrExist) {
		return taken()
	}
	if err != nil {
		return fault.Wrap(fault.Internal, "create", c.InfoPath(info.ID), err)
	}
	return c.mirror.PutRecord(info.ID, info.Encode())
}

// Save replaces a backup's record. A record of the legacy place moves to the
// new one; the old file stays, as Barman leaves it.
func (c *Catalog) Save(info *backupinfo.Info) error {
	if _, err := backup.ParseID(string(info.ID)); err != nil {
		return err
	}
	if err := atomicfile.Write(c.InfoPath(info.ID), info.Encode(), 0o644); err != nil {
		return err
	}
	return c.mirror.PutRecord(info.ID, info.Encode())
}

// Previous is the newest complete backup that is older than id, nil if there is none.
func (c *Catalog) Previous(id backup.ID) (*backupinfo.Info, error) {
	all, _, err := c.List()
	return Before(id, all), err
}

// Next is the oldest complete backup that is newer than id, nil if there is none.
func (c *Catalog) Next(id backup.ID) (*backupinfo.Info, error) {
	all, _, err := c.List()
	return After(id, all), err
}

// Before is Previous among all backups of a server, which come oldest first.
func Before(id backup.ID, all []*backupinfo.Info) *backupinfo.Info {
	return pick(all, func(i *backupinfo.Info) bool { return i.ID < id && i.Status.CopyDone() }, true)
}

// After is Next among all backups of a server, which come oldest first.
func After(id backup.ID, all []*backupinfo.Info) *backupinfo.Info {
	return pick(all, func(i *backupinfo.Info) bool { return i.ID > id && i.Status.CopyDone() }, false)
}

func pick(all []*backupinfo.Info, want func(*backupinfo.Info) bool, newest bool) *backupinfo.Info {
	var found *backupinfo.Info
	for _, info := range all {
		if want(info) {
			found = info
			if !newest {
				break
			}
		}
	}
	return found
}
