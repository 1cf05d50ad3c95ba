package bucket

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// walSuffixes are those of barman-cloud-wal-archive; none means as PostgreSQL wrote it.
var walSuffixes = []string{".gz", ".bz2", ".xz", ".snappy", ".zst", ".lz4"}

// WAL is the WAL of a server when it was listed.
type WAL struct {
	Histories map[uint32]wal.History
	b         *Bucket
	objects   map[string][]objstore.Object // by the name without suffix
}

// WAL lists the archived WAL, from the position of a segment on if one is given, on every timeline.
func (b *Bucket) WAL(ctx context.Context, since string) (*WAL, error) {
	w := &WAL{b: b, objects: map[string][]objstore.Object{}, Histories: map[uint32]wal.History{1: {TLI: 1}}}
	var dirs, histories []string
	for o, err := range b.level(ctx, b.wals()) {
		if err != nil {
			return nil, err
		}
		name := strings.TrimPrefix(o.Key, b.wals())
		dir, folder := strings.CutSuffix(name, "/")
		switch {
		case folder:
			if wal.Classify(dir+"00000000") == wal.SegmentFile && (since == "" || strings.ToUpper(dir[8:]) >= since[8:16]) {
				dirs = append(dirs, o.Key)
			}
		case wal.Classify(plainName(name)) == wal.HistoryFile:
			w.add(o)
			histories = append(histories, plainName(name))
		}
	}
	var mu sync.Mutex
	if err := each(ctx, len(dirs), func(ctx context.Context, i int) error {
		list, err := b.list(ctx, dirs[i])
		mu.Lock()
		defer mu.Unlock()
		for _, o := range list {
			w.add(o)
		}
		return err
	}); err != nil {
		return nil, err
	}
	return w, each(ctx, len(histories), func(ctx context.Context, i int) error {
		h, err := w.history(ctx, histories[i])
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			w.Histories[h.TLI] = h
		}
		return err
	})
}

// plainName is a name without the suffix of a compression.
func plainName(name string) string {
	for _, s := range walSuffixes {
		if plain, is := strings.CutSuffix(name, s); is {
			return plain
		}
	}
	return name
}

func (w *WAL) add(o objstore.Object) {
	name := plainName(o.Key[strings.LastIndexByte(o.Key, '/')+1:])
	if wal.Classify(name) != wal.Unknown {
		w.objects[name] = append(w.objects[name], o)
	}
}

func (w *WAL) history(ctx context.Context, name string) (wal.History, error) {
	tli, err := wal.TimelineOf(name)
	if err != nil {
		return wal.History{}, err
	}
	plain, key, err := w.open(ctx, name)
	if err != nil {
		return wal.History{}, err
	}
	defer plain.Close()
	h, err := wal.ParseHistory(tli, io.LimitReader(plain, mostText))
	return h, fault.Wrap(fault.Corrupt, "read timeline history", key, err)
}

// open begins to read a listed file, expanded. key is its object's.
func (w *WAL) open(ctx context.Context, name string) (plain io.ReadCloser, key string, err error) {
	key = w.objects[name][0].Key
	r, _, err := w.b.store.Get(ctx, key, objstore.Whole())
	if err != nil {
		return nil, key, err
	}
	expanded, _, err := codec.NewReader(r)
	if err != nil {
		r.Close()
		return nil, key, fault.Wrap(fault.Corrupt, "read", key, err)
	}
	return &expanding{expanded, r}, key, nil
}

// expanding closes what it reads from, too.
type expanding struct {
	io.ReadCloser
	stored io.Closer
}

// Close implements io.Closer.
func (e *expanding) Close() error { return errors.Join(e.ReadCloser.Close(), e.stored.Close()) }

// Names are those of the listed files, without suffixes, sorted.
func (w *WAL) Names() []string { return slices.Sorted(maps.Keys(w.objects)) }

// Each calls fn with the name of every listed file, and its object.
func (w *WAL) Each(fn func(name string, o objstore.Object)) {
	for name, list := range w.objects {
		fn(name, list[0])
	}
}

// ForRestore is the archive as a restore's plan wants it. A segment's time is that of its upload,
// at the latest.
func (w *WAL) ForRestore() restoreplan.Archive {
	out := restoreplan.Archive{Histories: w.Histories}
	for _, name := range w.Names() {
		out.Files = append(out.Files, restoreplan.WALFile{Name: name, At: latest(w.objects[name][0].Modified)})
	}
	return out
}

// latest is the last moment that a store dates so: it may leave out what is less than a second.
func latest(t time.Time) time.Time {
	if t.Nanosecond() == 0 {
		return t.Add(time.Second - time.Nanosecond)
	}
	return t
}

// Fetch delivers one file, expanded and complete, to dest.
func (w *WAL) Fetch(ctx context.Context, name, dest string) error {
	if len(w.objects[name]) == 0 {
		return fault.New(fault.NotFound, "fetch", name, "it is not below %s/%s", w.b.URL, w.b.wals())
	}
	plain, key, err := w.open(ctx, name)
	if err != nil {
		return err
	}
	defer plain.Close()
	out, err := atomicfile.Create(dest, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Usage, "fetch", name, "there is no directory %s", filepath.Dir(dest))
	}
	if err != nil {
		return err
	}
	defer out.Abort()
	from := &source{r: plain}
	n, err := io.Copy(out, from)
	switch {
	case from.err != nil:
		return fault.Wrap(fault.Corrupt, "read", key, from.err)
	case err != nil:
		return fault.Wrap(fault.Internal, "write", dest, err)
	case wal.Classify(name) == wal.SegmentFile && !wal.ValidSegmentSize(uint64(n)):
		return fault.New(fault.Corrupt, "read", key, "it has %d bytes after expansion, which is no whole segment", n).
			WithHint("look for an intact copy of this segment")
	}
	return out.Commit()
}

// source keeps an error of reading, to tell it from one of writing.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// delete removes files, in every form that is stored of them.
func (w *WAL) delete(ctx context.Context, names []string) error {
	var keys []string
	for _, name := range names {
		for _, o := range w.objects[name] {
			keys = append(keys, o.Key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return w.b.store.Delete(ctx, keys...)
}
