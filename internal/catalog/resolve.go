package catalog

import (
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// reference is a word that stands for a backup.
type reference struct {
	newest bool
	want   func(*backupinfo.Info) bool
	lacks  string
}

func complete(i *backupinfo.Info) bool { return i.Status.CopyDone() }
func failed(i *backupinfo.Info) bool   { return i.Status == backup.Failed }

// full is what an incremental backup can build on: no increment, and no snapshot.
func full(i *backupinfo.Info) bool {
	return i.Status.CopyDone() && i.Parent == nil && (i.Mode == nil || backup.TypeOf(*i.Mode, "") != backup.Snapshot)
}

var references = map[string]reference{
	"latest":      {true, complete, "there is no complete backup"},
	"last":        {true, complete, "there is no complete backup"},
	"oldest":      {false, complete, "there is no complete backup"},
	"first":       {false, complete, "there is no complete backup"},
	"last-failed": {true, failed, "no backup has failed"},
	"latest-full": {true, full, "there is no complete full backup"},
	"last-full":   {true, full, "there is no complete full backup"},
}

// reservedNames may not be given to a backup; "auto" lets a restore choose.
func reservedName(name string) bool {
	_, word := references[name]
	return word || name == "auto" || name == "all" || name == "None"
}

// Resolve finds the backup that a user means: by ID, by one of the words
// latest, last, oldest, first, last-failed, latest-full and last-full, or by
// its name.
func (c *Catalog) Resolve(ref string) (*backupinfo.Info, error) {
	if id, err := backup.ParseID(ref); err == nil {
		return c.Get(id)
	}
	all, _, err := c.List()
	if err != nil {
		return nil, err
	}
	return Choose(c.Server, ref, all)
}

// Choose is Resolve among all backups of a server, which come oldest first.
func Choose(server, ref string, all []*backupinfo.Info) (*backupinfo.Info, error) {
	if id, err := backup.ParseID(ref); err == nil {
		i := slices.IndexFunc(all, func(info *backupinfo.Info) bool { return info.ID == id })
		if i < 0 {
			return nil, missing(server, ref, "there is no such backup", all)
		}
		return all[i], nil
	}
	if word, ok := references[ref]; ok {
		if info := pick(all, word.want, word.newest); info != nil {
			return info, nil
		}
		return nil, missing(server, ref, word.lacks, all)
	}
	named := named(ref, all)
	switch len(named) {
	case 0:
		return nil, missing(server, ref, "no backup has this ID or name", all)
	case 1:
		return named[0], nil
	}
	var ids []string
	for _, info := range named {
		ids = append(ids, string(info.ID))
	}
	return nil, fault.New(fault.Usage, "find backup", ref, "%d backups have this name", len(named)).
		WithHint("use one of their IDs: %s", strings.Join(ids, ", "))
}

// references is everything that may stand for one of the backups.
func referencesTo(backups []*backupinfo.Info) []string {
	out := slices.Sorted(maps.Keys(references))
	for _, info := range backups {
		out = append(out, string(info.ID))
		if info.BackupName != nil {
			out = append(out, *info.BackupName)
		}
	}
	return out
}

func named(name string, all []*backupinfo.Info) []*backupinfo.Info {
	var out []*backupinfo.Info
	for _, info := range all {
		if info.BackupName != nil && *info.BackupName == name {
			out = append(out, info)
		}
	}
	return out
}

// CheckName refuses a backup name that could not be told from another
// reference, or that another backup bears.
func (c *Catalog) CheckName(name string) error {
	bad := func(format string, args ...any) *fault.Error {
		return fault.New(fault.Usage, "name backup", name, format, args...)
	}
	switch _, err := backup.ParseID(name); {
	case name == "" || name != strings.TrimSpace(name) || strings.ContainsFunc(name, unicode.IsControl):
		return bad("a name may neither be empty, begin or end with a blank, nor hold control characters")
	case err == nil:
		return bad("it has the form of a backup ID")
	case reservedName(name):
		return bad("the word is reserved")
	}
	all, _, err := c.List()
	if err != nil {
		return err
	}
	if named := named(name, all); len(named) > 0 {
		return bad("backup %s has this name", named[0].ID).WithHint("choose another name")
	}
	return nil
}
