package bucket

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/chain"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Survey is the backups that there were when it was made.
type Survey struct {
	Backups    []*backupinfo.Info // oldest first
	Warnings   []string
	Unreadable []error     // records; they hide no others
	Leftovers  []backup.ID // what has objects, and no record
}

// Survey reads the record of every backup. What is below them is not listed.
func (b *Bucket) Survey(ctx context.Context) (*Survey, error) {
	ids, err := b.ids(ctx)
	if err != nil {
		return nil, err
	}
	type result struct {
		info     *backupinfo.Info
		warnings []string
		err      error
	}
	all := make([]result, len(ids))
	if err := each(ctx, len(ids), func(ctx context.Context, i int) error {
		r := &all[i]
		r.info, r.warnings, r.err = b.read(ctx, ids[i])
		if fault.Is(r.err, fault.NotFound) || fault.Is(r.err, fault.Corrupt) {
			return nil
		}
		return r.err
	}); err != nil {
		return nil, err
	}
	s := &Survey{}
	for i, r := range all {
		s.Warnings = append(s.Warnings, r.warnings...)
		switch {
		case fault.Is(r.err, fault.NotFound):
			s.Leftovers = append(s.Leftovers, ids[i])
		case r.err != nil:
			s.Unreadable = append(s.Unreadable, r.err)
		default:
			s.Backups = append(s.Backups, r.info)
		}
	}
	return s, nil
}

// ids are those that have objects.
func (b *Bucket) ids(ctx context.Context) ([]backup.ID, error) {
	var out []backup.ID
	for o, err := range b.level(ctx, b.base()) {
		if err != nil {
			return nil, err
		}
		name, folder := strings.CutSuffix(strings.TrimPrefix(o.Key, b.base()), "/")
		if id, err := backup.ParseID(name); folder && err == nil {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Servers are the names below a store that have something where backups lie.
func Servers(ctx context.Context, store objstore.Store) ([]string, error) {
	top := &Bucket{store: store}
	var out []string
	for o, err := range top.level(ctx, "") {
		if err != nil {
			return nil, err
		}
		name, folder := strings.CutSuffix(o.Key, "/")
		if !folder {
			continue
		}
		b := &Bucket{Server: name, store: store}
		ids, err := b.ids(ctx)
		if err != nil {
			return nil, err
		}
		if len(ids) > 0 {
			out = append(out, name)
		}
	}
	return out, nil
}

// read reads a record. Its server is ours, whatever it says: barman-cloud-backup calls
// every server "cloud".
func (b *Bucket) read(ctx context.Context, id backup.ID) (*backupinfo.Info, []string, error) {
	info, warnings, err := b.record(ctx, id)
	if err == nil {
		info.ServerName = b.Server
	}
	return info, warnings, err
}

// record reads a record as it is.
func (b *Bucket) record(ctx context.Context, id backup.ID) (*backupinfo.Info, []string, error) {
	text, err := b.text(ctx, b.recordKey(id))
	if err != nil {
		return nil, nil, err
	}
	info, warnings, err := backupinfo.Parse(id, text)
	return info, warnings, fault.Wrap(fault.Corrupt, "read", b.recordKey(id), err)
}

// Get returns one backup.
func (b *Bucket) Get(ctx context.Context, id backup.ID) (*backupinfo.Info, error) {
	info, _, err := b.read(ctx, id)
	return info, err
}

// Resolve finds the backup that a user means, as a local catalogue does.
func (b *Bucket) Resolve(ctx context.Context, ref string) (*backupinfo.Info, error) {
	if id, err := backup.ParseID(ref); err == nil {
		info, err := b.Get(ctx, id)
		if err == nil || !fault.Is(err, fault.NotFound) {
			return info, err
		}
	}
	s, err := b.Survey(ctx)
	if err != nil {
		return nil, err
	}
	return b.Choose(s, ref)
}

// Choose is Resolve for a survey.
func (b *Bucket) Choose(s *Survey, ref string) (*backupinfo.Info, error) {
	info, err := catalog.Choose(b.Server, ref, s.Backups)
	var missing *fault.Error
	switch {
	case !fault.Is(err, fault.NotFound) || !errors.As(err, &missing):
		return info, err
	case slices.Contains(s.Leftovers, backup.ID(ref)):
		return nil, missing.WithHint("objects below %s are left of it, but no backup.info: it failed, is still being made, or was deleted by half", b.dir(backup.ID(ref)))
	case len(s.Unreadable) > 0:
		return nil, missing.WithHint("%s, and %d records could not be read, the first: %v", cmp.Or(missing.Hint, "there are others"), len(s.Unreadable), s.Unreadable[0])
	case len(s.Backups) == 0:
		return nil, missing.WithHint("nothing is below %s/%s: see that the URL is the one that Barman's cloud tools take before the name of the server, and that the name is right", b.URL, b.base())
	}
	return nil, err
}

// Chain is a backup and all that it builds on, the full one first.
func (b *Bucket) Chain(ctx context.Context, info *backupinfo.Info) ([]*backupinfo.Info, error) {
	return chain.Of(info, func(id backup.ID) (*backupinfo.Info, error) { return b.Get(ctx, id) })
}

// Measure gives backups whose records know no size that of their objects: those of
// barman-cloud-backup.
func (b *Bucket) Measure(ctx context.Context, backups []*backupinfo.Info) error {
	var todo []*backupinfo.Info
	for _, info := range backups {
		if info.Size == nil && info.DeduplicatedSize == nil && info.Status.CopyDone() && info.Snapshots == nil {
			todo = append(todo, info)
		}
	}
	return each(ctx, len(todo), func(ctx context.Context, i int) error {
		size := int64(0)
		for o, err := range b.level(ctx, b.dir(todo[i].ID)) {
			if err != nil {
				return err
			}
			if o.Key != b.recordKey(todo[i].ID) {
				size += o.Size
			}
		}
		todo[i].Size = &size
		return nil
	})
}
