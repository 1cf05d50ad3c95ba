package bucket

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// Of is the bucket that has a server's base backups; nil when a directory has them.
func Of(ctx context.Context, s *config.Server, stores objstore.Stores, p *objstore.Policy) (*Bucket, error) {
	if s.BasebackupsCloud == nil {
		return nil, nil //nolint:nilnil // as said
	}
	return at(ctx, s, s.BasebackupsDirectory, stores, p)
}

func at(ctx context.Context, s *config.Server, url string, stores objstore.Stores, p *objstore.Policy) (*Bucket, error) {
	at, err := objstore.ParseURL(url)
	if err != nil {
		return nil, err
	}
	store, err := stores(ctx, at, s.StoreOptions(url), p)
	if err != nil {
		return nil, err
	}
	return Open(store, at.String(), s.Name)
}

// Catalog is a server's catalogue; one whose backups are in buckets is kept in step
// with those, until ctx ends.
func Catalog(ctx context.Context, s *config.Server, stores objstore.Stores, p *objstore.Policy) (*catalog.Catalog, error) {
	l := catalog.LayoutOf(s)
	if s.BasebackupsCloud == nil {
		return catalog.Open(l), nil
	}
	all, err := All(ctx, s, stores, func() *objstore.Policy {
		return &objstore.Policy{Patience: p.Patience, Limit: p.Limit, PartSize: p.PartSize}
	})
	if err != nil {
		return nil, err
	}
	if len(all) == 1 {
		return catalog.OpenMirrored(l, mirror{ctx, all[0], s.AWSCheckObjectLock}), nil
	}
	m := mirrors{catalog: catalog.Open(l), quorum: s.HoldfastReplicaQuorum, wals: s.WALsDirectory}
	for _, b := range all {
		m.all = append(m.all, mirror{ctx, b, s.AWSCheckObjectLock})
	}
	return catalog.OpenMirrored(l, m), nil
}

// Store is where the bucket's objects are.
func (b *Bucket) Store() objstore.Store { return b.store }

// Dir is what the keys of a backup begin with.
func (b *Bucket) Dir(id backup.ID) string { return b.dir(id) }

// labelObject is the object with the backup label, which only backups that consist of
// snapshots have: in others it is among the files.
const labelObject = "backup_label"

// PutLabel stores the label of a backup.
func (b *Bucket) PutLabel(ctx context.Context, id backup.ID, label string) error {
	_, err := b.store.Put(ctx, b.dir(id)+labelObject, strings.NewReader(label), objstore.PutOptions{})
	return err
}

// Label is the label of a backup that consists of snapshots; nil when none is stored.
func (b *Bucket) Label(ctx context.Context, id backup.ID) ([]byte, error) {
	r, _, err := b.store.Get(ctx, b.dir(id)+labelObject, objstore.Whole())
	if fault.Is(err, fault.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	label, err := io.ReadAll(io.LimitReader(r, mostLabel))
	return label, fault.Wrap(fault.Unavailable, "read", b.dir(id)+labelObject, err)
}

// mostLabel bounds what is read of a label; PostgreSQL's have less than a kilobyte.
const mostLabel = 1 << 20

// IsOfCatalog reports whether a name below a backup's keys is no part of its copy: its
// record and its annotations.
func IsOfCatalog(name string) bool {
	return name == "backup.info" || strings.HasPrefix(name, "annotations/")
}

// mirror implements catalog.Mirror.
type mirror struct {
	ctx context.Context
	*Bucket
	locks bool // are looked at before something is deleted
}

// PutRecord implements catalog.Mirror.
func (m mirror) PutRecord(id backup.ID, record []byte) error {
	_, err := m.store.Put(m.ctx, m.recordKey(id), strings.NewReader(string(record)), objstore.PutOptions{})
	return err
}

// PutKeep implements catalog.Mirror.
func (m mirror) PutKeep(id backup.ID, target catalog.KeepTarget) error {
	if target == "" {
		return m.Release(m.ctx, id)
	}
	return m.SetKeep(m.ctx, id, target)
}

// Locked implements catalog.Mirror.
func (m mirror) Locked(id backup.ID) (string, error) {
	if !m.locks {
		return "", nil
	}
	objects, err := m.list(m.ctx, m.dir(id))
	if err != nil {
		return "", err
	}
	keys := make([]string, len(objects))
	for i, o := range objects {
		keys[i] = o.Key
	}
	return m.locked(m.ctx, keys, time.Now())
}

// RemoveFiles implements catalog.Mirror.
func (m mirror) RemoveFiles(id backup.ID) error {
	if err := m.abortUploads(m.ctx, id); err != nil {
		return err
	}
	objects, err := m.list(m.ctx, m.dir(id))
	if err != nil {
		return err
	}
	var keys []string
	for _, o := range objects {
		if o.Key != m.recordKey(id) {
			keys = append(keys, o.Key)
		}
	}
	slices.Sort(keys)
	return m.store.Delete(m.ctx, keys...)
}

// Forget implements catalog.Mirror.
func (m mirror) Forget(id backup.ID) error {
	return m.store.Delete(m.ctx, m.recordKey(id))
}

// Reach makes sure that the store answers and lets itself be listed; it changes nothing.
func (b *Bucket) Reach(ctx context.Context) error {
	for _, err := range b.level(ctx, b.Server+"/") {
		return probed(b.URL, err)
	}
	return nil
}

// Probe makes sure that the store takes and lists objects, before a backup begins.
func (b *Bucket) Probe(ctx context.Context) error {
	key := b.Server + "/holdfast-probe"
	if _, err := b.store.Put(ctx, key, strings.NewReader(""), objstore.PutOptions{}); err != nil {
		return probed(b.URL, err)
	}
	for _, err := range b.store.List(ctx, key) {
		if err != nil {
			return probed(b.URL, err)
		}
	}
	err := b.store.Delete(ctx, key)
	if fault.Is(err, fault.Refused) {
		err = nil // it is locked, as every new object there, and the next probe replaces it
	}
	return probed(b.URL, err)
}

// probed adds to an error how the store can be looked at closely.
func probed(url string, err error) error {
	if err == nil {
		return nil
	}
	hint := "holdfast check --store " + url + " tells what works"
	if cure := fault.HintOf(err); cure != "" {
		hint = cure + "; " + hint
	}
	return &fault.Error{Op: "use", Subject: url, Kind: fault.KindOf(err), Err: err, Hint: hint}
}
