package bucket

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/replicas"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// All are the buckets that a server's base backups go to, the main one first; none when a
// directory has them. Each is used by a policy of its own. One of several that cannot be
// opened, such as a directory that is not mounted, fails when it is used.
func All(ctx context.Context, s *config.Server, stores objstore.Stores, policy func() *objstore.Policy) ([]*Bucket, error) {
	if s.BasebackupsCloud == nil || len(s.HoldfastReplicas) == 0 {
		b, err := Of(ctx, s, stores, policy())
		if err != nil || b == nil {
			return nil, err
		}
		return []*Bucket{b}, nil
	}
	places, err := locations(s)
	if err != nil {
		return nil, err
	}
	var out []*Bucket
	for _, at := range places {
		store, err := stores(ctx, at, s.StoreOptions(at.String()), policy())
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		if err != nil {
			store = replicas.Broken(err)
		}
		b, err := Open(store, at.String(), s.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// locations are those of a server with replicas, the main one first.
func locations(s *config.Server) (out []objstore.Location, err error) {
	for i, url := range append([]string{s.BasebackupsDirectory}, s.HoldfastReplicas...) {
		at, err := objstore.ParseURL(url)
		switch {
		case err != nil && i == 0:
			return nil, err
		case err != nil:
			return nil, &fault.Error{Op: "read", Subject: "holdfast_replicas, " + url, Kind: fault.Config, Err: err, Hint: fault.HintOf(err)}
		case slices.Contains(out, at):
			return nil, fault.New(fault.Config, "read", "holdfast_replicas", "%s is there twice", at).
				WithHint("name each destination once, and not the one of basebackups_directory")
		}
		out = append(out, at)
	}
	return out, nil
}

// Holding are those of a server's buckets that lack nothing of a backup.
func Holding(all []*Bucket, d catalog.Destinations) []*Bucket {
	if d == nil {
		return all[:min(1, len(all))] // it is of a time when there was one
	}
	var out []*Bucket
	for _, b := range all {
		if !d.Behind(b.URL) {
			out = append(out, b)
		}
	}
	return out
}

// Destinations is what is recorded of a new backup that goes to some buckets; nil for a single one.
func Destinations(s *config.Server) (catalog.Destinations, error) {
	if len(s.HoldfastReplicas) == 0 {
		return nil, nil
	}
	places, err := locations(s)
	if err != nil {
		return nil, err
	}
	var out catalog.Destinations
	for _, at := range places {
		out = append(out, catalog.Destination{URL: at.String()})
	}
	return out, nil
}

// mirrors implements catalog.Mirror for several buckets.
type mirrors struct {
	catalog *catalog.Catalog // without a mirror
	all     []mirror
	quorum  int
	wals    string // wals_directory
}

// of are the buckets that a backup goes to, and what is known of them; none of the latter for
// a backup of a time when there was one.
func (m mirrors) of(id backup.ID) ([]mirror, catalog.Destinations, error) {
	d, err := m.catalog.Destinations(id)
	if err != nil || d == nil {
		return m.all[:1], nil, err
	}
	var out []mirror
	for _, one := range d {
		if i := slices.IndexFunc(m.all, func(b mirror) bool { return b.URL == one.URL }); i >= 0 {
			out = append(out, m.all[i])
		}
	}
	return out, d, nil
}

// each calls do for the buckets of a backup, whatever becomes of others; the error names those that failed.
func (m mirrors) each(id backup.ID, do func(mirror) error) error {
	list, _, err := m.of(id)
	if err != nil {
		return err
	}
	var failed []error
	for _, b := range list {
		if err := do(b); err != nil {
			failed = append(failed, b.named(err))
		}
	}
	return together(failed)
}

// named says in an error which bucket it is of.
func (b *Bucket) named(err error) error {
	if err == nil {
		return nil
	}
	return &fault.Error{Op: "use", Subject: b.URL, Kind: fault.KindOf(err), Err: err, Hint: fault.HintOf(err)}
}

// together is one error of several, in one line; its kind and hint are those of the first.
func together(errs []error) error {
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return &fault.Error{Kind: fault.KindOf(errs[0]), Err: errors.New(strings.Join(texts, "; ")), Hint: fault.HintOf(errs[0])}
}

// PutRecord implements catalog.Mirror. While a backup is made, a bucket that fails is left
// behind, as long as there are enough others; that a backup has failed is told to all.
func (m mirrors) PutRecord(id backup.ID, record []byte) error {
	list, d, err := m.of(id)
	if err != nil {
		return err
	}
	info, _, err := backupinfo.Parse(id, string(record))
	if err != nil {
		return err
	}
	over := info.Status == backup.Failed
	failed := map[string]error{}
	var errs []error
	good := 0
	for _, b := range list {
		if !over && d != nil && d.Behind(b.URL) {
			continue
		}
		if err := b.PutRecord(id, record); err != nil {
			failed[b.URL] = err
			errs = append(errs, b.named(err))
			continue
		}
		good++
	}
	if len(failed) == 0 || over || d == nil || good < m.quorum || m.all[0].ctx.Err() != nil {
		return together(errs)
	}
	for url, err := range failed {
		if err := m.catalog.SetBehind(id, url, err.Error(), time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// PutKeep implements catalog.Mirror. A bucket that is behind and fails gets it when it is caught up.
func (m mirrors) PutKeep(id backup.ID, target catalog.KeepTarget) error {
	_, d, err := m.of(id)
	if err != nil {
		return err
	}
	return m.each(id, func(b mirror) error {
		err := b.PutKeep(id, target)
		if d != nil && d.Behind(b.URL) {
			return nil
		}
		return err
	})
}

// Locked implements catalog.Mirror. A bucket that cannot be reached locks the backup, whose
// objects there would be forgotten.
func (m mirrors) Locked(id backup.ID) (string, error) {
	list, _, err := m.of(id)
	if err != nil {
		return "", err
	}
	for _, b := range list {
		why, err := b.Locked(id)
		if err == nil {
			err = b.Reach(b.ctx)
		}
		switch {
		case err != nil && b.ctx.Err() != nil:
			return "", err
		case err != nil:
			return fmt.Sprintf("its destination %s does not let it be deleted: %v", b.URL, err), nil
		case why != "":
			return b.URL + ": " + why, nil
		}
	}
	return "", nil
}

// RemoveFiles implements catalog.Mirror.
func (m mirrors) RemoveFiles(id backup.ID) error {
	return m.each(id, func(b mirror) error {
		err := b.RemoveFiles(id)
		if err == nil && m.hasWAL(b.Bucket) {
			err = m.removeWAL(b, id)
		}
		return err
	})
}

// Forget implements catalog.Mirror.
func (m mirrors) Forget(id backup.ID) error {
	return m.each(id, func(b mirror) error { return b.Forget(id) })
}

// hasWAL reports whether a bucket has WAL that was copied for its backups.
func (m mirrors) hasWAL(b *Bucket) bool { return b.URL != m.all[0].URL && !isAt(b, m.wals) }

// isAt reports whether a bucket is where a URL leads.
func isAt(b *Bucket, url string) bool {
	at, err := objstore.ParseURL(url)
	return err == nil && at.String() == b.URL
}

// removeWAL removes from a replica what was copied there for a backup, unless another one needs it.
func (m mirrors) removeWAL(b mirror, id backup.ID) error {
	info, err := m.catalog.Get(id)
	if fault.Is(err, fault.NotFound) || err == nil && (info.BeginWAL == nil || info.EndWAL == nil || info.SegmentSize == nil) {
		return nil
	}
	if err != nil {
		return err
	}
	all, unreadable, err := m.catalog.List()
	if err == nil && len(unreadable) > 0 {
		err = fault.New(fault.Corrupt, "look for backups that need WAL of", string(id), "%s", unreadable[0])
	}
	if err != nil {
		return err
	}
	var spans [][2]string // of the others there
	for _, other := range all {
		d, err := m.catalog.Destinations(other.ID)
		if err != nil {
			return err
		}
		if other.ID == id || other.Status == backup.Failed || other.BeginWAL == nil || !slices.ContainsFunc(d, func(one catalog.Destination) bool { return one.URL == b.URL }) {
			continue
		}
		end := (*other.BeginWAL)[:8] + "FFFFFFFFFFFFFFFF"
		if other.EndWAL != nil {
			end = *other.EndWAL
		}
		spans = append(spans, [2]string{*other.BeginWAL, end})
	}
	var names []string
	if err := wal.EachSegment(*info.BeginWAL, *info.EndWAL, *info.SegmentSize, func(name string) error {
		if !slices.ContainsFunc(spans, func(s [2]string) bool { return s[0] <= name && name <= s[1] }) {
			names = append(names, name)
		}
		return nil
	}); err != nil {
		return err
	}
	if history := historyOf(info); history != "" && len(spans) == 0 {
		names = append(names, history)
	}
	w, err := b.WAL(b.ctx, *info.BeginWAL)
	if err != nil {
		return err
	}
	return w.delete(b.ctx, names)
}

// historyOf is the name of the history of a backup's timeline; "" of the first one.
func historyOf(info *backupinfo.Info) string {
	if info.Timeline == nil || *info.Timeline < 2 {
		return ""
	}
	return wal.HistoryName(*info.Timeline)
}
