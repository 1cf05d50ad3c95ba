package walarchive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Bucket is the place of an archive in an object store.
type Bucket struct {
	At objstore.Location
	// Open is called when the store is needed for the first time.
	Open func(context.Context) (objstore.Store, error)
}

// suffixes are those of Barman's objects, by compression. Where one name is
// there in several forms, the first of them is read.
var suffixes = []struct {
	algorithm codec.Algorithm
	suffix    string
}{
	{codec.None, ""}, {codec.Gzip, ".gz"}, {codec.Bzip2, ".bz2"}, {codec.XZ, ".xz"},
	{codec.Snappy, ".snappy"}, {codec.Zstd, ".zst"}, {codec.LZ4, ".lz4"},
}

func suffixOf(a codec.Algorithm) (string, bool) {
	for _, s := range suffixes {
		if s.algorithm == a {
			return s.suffix, true
		}
	}
	return "", false
}

// bucket is the shelf of an archive in an object store: SERVER/wals/HASHDIR/NAME.SUFFIX
// below the URL, as Barman's.
type bucket struct {
	Bucket
	server  string
	written codec.Algorithm // what is written now

	mu    sync.Mutex
	store objstore.Store
}

func (b *bucket) reach(ctx context.Context) (objstore.Store, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.store != nil {
		return b.store, nil
	}
	s, err := b.Open(ctx)
	if err == nil {
		b.store = s
	}
	return s, err
}

func (b *bucket) top() string { return b.server + "/wals/" }

// stem is the key of a name without a suffix.
func (b *bucket) stem(name string) string {
	if dir := wal.HashDir(name); dir != "" {
		return b.top() + dir + "/" + name
	}
	return b.top() + name
}

func (b *bucket) key(e Entry) string {
	suffix, _ := suffixOf(e.Compression)
	return b.stem(e.Name) + suffix
}

func (b *bucket) where(e Entry) string { return b.At.String() + "/" + b.key(e) }

// read tells what an object is; false for one that is none of the archive's.
func (b *bucket) read(o objstore.Object) (Entry, bool) {
	base := o.Key[strings.LastIndexByte(o.Key, '/')+1:]
	for _, s := range suffixes {
		name, cut := strings.CutSuffix(base, s.suffix)
		if cut && wal.Classify(name) != wal.Unknown && b.stem(name)+s.suffix == o.Key {
			return Entry{Name: name, Size: o.Size, Time: seconds(o.Modified), Compression: s.algorithm}, true
		}
	}
	return Entry{}, false
}

// forms are the objects below a prefix, by name, the one to be read first.
func (b *bucket) forms(ctx context.Context, prefix string) (map[string][]Entry, error) {
	s, err := b.reach(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string][]Entry{}
	for o, err := range s.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		if e, is := b.read(o); is {
			out[e.Name] = append(out[e.Name], e)
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(x, y Entry) int { return b.rank(x) - b.rank(y) })
	}
	return out, nil
}

func (b *bucket) rank(e Entry) int {
	for i, s := range suffixes {
		if s.algorithm == e.Compression {
			return i
		}
	}
	return len(suffixes)
}

// put asks whether the name is taken while the file is compressed, and sends the
// end of it only when it is not.
func (b *bucket) put(ctx context.Context, e Entry, from delivery) (Entry, error) {
	s, err := b.reach(ctx)
	if err != nil {
		return e, err
	}
	asked := make(chan error, 1)
	go func() {
		forms, err := b.forms(ctx, b.stem(e.Name))
		if err == nil && len(forms[e.Name]) > 0 {
			err = fs.ErrExist
		}
		asked <- err
	}()
	options := objstore.PutOptions{IfAbsent: true, Size: from.source.Size()}
	r, done := from.plain, func() {}
	if r == nil {
		options.Size /= 2 // about what compression leaves
		r, done = written(from.write)
	}
	o, err := s.Put(ctx, b.key(e), &gated{Reader: r, verdict: asked}, options)
	done()
	switch {
	case errors.Is(err, fs.ErrExist), fault.Is(err, fault.Conflict):
		return e, fs.ErrExist
	case err != nil:
		return e, fault.Wrap(fault.Internal, "archive", b.where(e), err)
	}
	e.Size = o.Size
	return e, nil
}

// written reads what a function writes, until done.
func written(write func(io.Writer) error) (r io.Reader, done func()) {
	out, in := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		in.CloseWithError(write(in))
	}()
	return out, func() {
		out.CloseWithError(errUnread)
		<-ended
	}
}

var errUnread = errors.New("the store reads no further")

// gated ends only when the verdict is good.
type gated struct {
	io.Reader
	verdict <-chan error
	passed  bool
}

// Read implements io.Reader.
func (g *gated) Read(p []byte) (int, error) {
	n, err := g.Reader.Read(p)
	if errors.Is(err, io.EOF) && !g.passed {
		if v := <-g.verdict; v != nil {
			return 0, v
		}
		g.passed = true
	}
	return n, err
}

// get tries the form that is written now first, which takes one request.
func (b *bucket) get(ctx context.Context, name string) (io.ReadCloser, Entry, error) {
	s, err := b.reach(ctx)
	if err != nil {
		return nil, Entry{}, err
	}
	e := Entry{Name: name, Compression: b.written}
	r, o, err := s.Get(ctx, b.key(e), objstore.Whole())
	if fault.Is(err, fault.NotFound) {
		var forms map[string][]Entry
		if forms, err = b.forms(ctx, b.stem(name)); err != nil {
			return nil, e, err
		}
		if len(forms[name]) == 0 {
			return nil, e, b.absent(name)
		}
		e = forms[name][0]
		r, o, err = s.Get(ctx, b.key(e), objstore.Whole())
	}
	switch {
	case fault.Is(err, fault.NotFound): // it was deleted meanwhile
		return nil, e, b.absent(name)
	case err != nil:
		return nil, e, fault.Wrap(fault.Internal, "read", b.where(e), err)
	}
	e.Size, e.Time = o.Size, seconds(o.Modified)
	return r, e, nil
}

func (b *bucket) absent(name string) error {
	return fault.Wrap(fault.NotFound, "read", b.where(Entry{Name: name}), fs.ErrNotExist)
}

func (b *bucket) list(ctx context.Context, hashDir string) iter.Seq2[file, error] {
	if hashDir != "" {
		return func(yield func(file, error) bool) {
			forms, err := b.forms(ctx, b.top()+hashDir+"/")
			if err != nil {
				yield(file{}, err)
				return
			}
			yieldAll(forms, yield)
		}
	}
	return func(yield func(file, error) bool) {
		s, err := b.reach(ctx)
		if err != nil {
			yield(file{}, err)
			return
		}
		dir, forms := "", map[string][]Entry{}
		for o, err := range s.List(ctx, b.top()) {
			if err != nil {
				yield(file{}, err)
				return
			}
			e, is := b.read(o)
			if !is {
				continue
			}
			if d := wal.HashDir(e.Name); d != dir || d == "" { // one directory's names at a time
				if !yieldAll(forms, yield) {
					return
				}
				dir, forms = d, map[string][]Entry{}
			}
			forms[e.Name] = append(forms[e.Name], e)
		}
		yieldAll(forms, yield)
	}
}

func yieldAll(forms map[string][]Entry, yield func(file, error) bool) bool {
	for _, name := range slices.Sorted(maps.Keys(forms)) {
		e := forms[name][0]
		if !yield(file{name, func() (Entry, error) { return e, nil }}, nil) {
			return false
		}
	}
	return true
}

// histories asks for the timelines that are known, and for those behind each that is
// there: PostgreSQL numbers them without gaps. To list all of the bucket instead
// would take a request for every thousand segments.
func (b *bucket) histories(ctx context.Context, known map[uint32]bool) ([]string, error) {
	var out []string
	seen := map[uint32]bool{1: true}
	for todo := append(slices.Sorted(maps.Keys(known)), 2); len(todo) > 0; {
		tli := todo[0]
		todo = todo[1:]
		if seen[tli] {
			continue
		}
		seen[tli] = true
		name := wal.HistoryName(tli)
		forms, err := b.forms(ctx, b.stem(name))
		if err != nil {
			return nil, err
		}
		if len(forms[name]) > 0 {
			out, todo = append(out, name), append(todo, tli+1)
		}
	}
	slices.Sort(out)
	return out, nil
}

func (b *bucket) remove(ctx context.Context, names []string) (int, error) {
	s, err := b.reach(ctx)
	if err != nil {
		return 0, err
	}
	removed := 0
	byPlace := map[string][]string{}
	for _, name := range names {
		place := b.stem(name)
		if dir := wal.HashDir(name); dir != "" {
			place = b.top() + dir + "/"
		}
		byPlace[place] = append(byPlace[place], name)
	}
	for _, place := range slices.Sorted(maps.Keys(byPlace)) {
		forms, err := b.forms(ctx, place)
		if err != nil {
			return removed, err
		}
		var keys []string
		there := 0
		for _, name := range byPlace[place] {
			for _, e := range forms[name] {
				keys = append(keys, b.key(e))
			}
			if len(forms[name]) > 0 {
				there++
				delete(forms, name)
			}
		}
		if err := s.Delete(ctx, keys...); err != nil {
			return removed, err
		}
		removed += there
	}
	return removed, nil
}
