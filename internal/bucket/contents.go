package bucket

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/cloudcopy"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/lazyregexp"
	"github.com/holdfast-pg/holdfast/internal/objstore"
)

// suffixes are those of Barman's cloud tools.
var suffixes = map[string]codec.Algorithm{"": codec.None, ".gz": codec.Gzip, ".bz2": codec.Bzip2, ".snappy": codec.Snappy, ".lz4": codec.LZ4, ".zst": codec.Zstd}

// archiveName is data or an OID, the number of a further archive, and how it is compressed.
var archiveName = lazyregexp.New(`^(data|[1-9][0-9]{0,9})(?:_([0-9]{1,9}))?\.tar(|\.gz|\.bz2|\.snappy|\.lz4|\.zst)$`)

// Contents are the objects of one backup.
type Contents struct {
	// Archives are complete tar archives by OID, that of the data directory being 0, in
	// the order of their numbers.
	Archives map[uint32][]basetar.Archive
	Keys     []string // of everything below the backup, its record included
	Unknown  []string // keys of what is neither an archive nor the record, an annotation or our own
	Newest   objstore.Object

	numbers map[uint32][]int
	ours    bool // files of Holdfast are among them
	// recorded is what the records of a local-to-cloud backup of ours say of its archives, by
	// the last part of their keys; nil when it has none, or before they are read.
	recorded map[string]cloudcopy.Stored
	// requests are how many at the same time read one large archive, if it has a record.
	requests int
	mu       sync.Mutex
	summed   map[string]bool // keys of archives that somebody has a checksum of, once they are read
}

// Contents lists the objects of a backup.
func (b *Bucket) Contents(ctx context.Context, id backup.ID) (*Contents, error) {
	objects, err := b.list(ctx, b.dir(id))
	if err != nil {
		return nil, err
	}
	c := &Contents{Archives: map[uint32][]basetar.Archive{}, numbers: map[uint32][]int{}, summed: map[string]bool{}}
	type numbered struct {
		n int
		a basetar.Archive
	}
	found := map[uint32][]numbered{}
	for _, o := range objects {
		c.Keys = append(c.Keys, o.Key)
		if o.Modified.After(c.Newest.Modified) {
			c.Newest = o
		}
		name := strings.TrimPrefix(o.Key, b.dir(id))
		m := archiveName.FindStringSubmatch(name)
		oid, n, err := uint64(0), 0, error(nil)
		if m != nil && m[1] != "data" {
			oid, err = strconv.ParseUint(m[1], 10, 32)
		}
		switch {
		case m == nil || err != nil:
			c.ours = c.ours || strings.HasPrefix(name, "holdfast/")
			if name != "backup.info" && name != labelObject && !strings.HasPrefix(name, "annotations/") && !strings.HasPrefix(name, "holdfast/") {
				c.Unknown = append(c.Unknown, o.Key)
			}
			continue
		case m[2] != "":
			n, _ = strconv.Atoi(m[2]) // nine digits at most
		}
		found[uint32(oid)] = append(found[uint32(oid)], numbered{n, basetar.Stored(o.Key, uint32(oid), o.Size, suffixes[m[3]], b.opener(o.Key, c))})
	}
	for oid, list := range found {
		slices.SortStableFunc(list, func(a, b numbered) int { return cmp.Compare(a.n, b.n) })
		for _, one := range list {
			c.Archives[oid] = append(c.Archives[oid], one.a)
			c.numbers[oid] = append(c.numbers[oid], one.n)
		}
	}
	return c, nil
}

// large is an archive that several requests read faster than one.
const large = 32 << 20

// share says how many requests read one large archive when there are fewer of them than jobs.
func (c *Contents) share(jobs int) {
	n := 0
	for _, list := range c.Archives {
		for _, a := range list {
			if a.Size >= large {
				n++
			}
		}
	}
	c.requests = jobs / max(1, n)
}

func (b *Bucket) opener(key string, c *Contents) basetar.Opener {
	return func(ctx context.Context) (io.ReadCloser, error) {
		want, known := c.recorded[path.Base(key)]
		if known && want.Size >= large && c.requests > 1 {
			return objstore.Checked(objstore.GetRanges(ctx, b.store, key, want.Size, c.requests), key, want.CRC32C), nil
		}
		r, o, err := b.store.Get(ctx, key, objstore.Whole())
		if err != nil {
			return nil, err
		}
		switch {
		case !known:
		case o.Size != want.Size:
			r.Close()
			return nil, objstore.Changed(key, fmt.Sprintf("it has %d bytes, not %d", o.Size, want.Size))
		case o.CRC32C == nil:
			r = objstore.Checked(r, key, want.CRC32C)
		case *o.CRC32C != want.CRC32C:
			r.Close()
			return nil, objstore.Changed(key, "its content has another checksum")
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.summed[key] = known || o.CRC32C != nil || o.Other != nil
		return r, nil
	}
}

// records reads what there is of a local-to-cloud backup of ours beside its archives, and takes
// out the archives that it does not have: they were left by a writer that was superseded. What is
// wrong with records is Corrupt: no archive needs them to be restored.
func (b *Bucket) records(ctx context.Context, id backup.ID, c *Contents) (foreign []string, err error) {
	if c.ours {
		c.recorded, err = cloudcopy.Archives(ctx, b.store, b.dir(id))
	}
	if c.recorded == nil {
		return nil, err
	}
	for oid, list := range c.Archives {
		c.Archives[oid] = slices.DeleteFunc(list, func(a basetar.Archive) bool {
			_, is := c.recorded[path.Base(a.Path)]
			if !is {
				foreign = append(foreign, a.Path)
			}
			return !is
		})
	}
	slices.Sort(foreign)
	return foreign, nil
}

// gone says that nothing of a backup is there, of which a catalogue elsewhere has the record.
func (b *Bucket) gone(info *backupinfo.Info, c *Contents) error {
	if len(c.Keys) > 0 {
		return nil
	}
	return fault.New(fault.Corrupt, "find backup", string(info.ID), "nothing of it is in %s", b.URL).
		WithHint("if it lies elsewhere, name the place with --from URL; if it was deleted, remove its record, too: holdfast delete %s %s", b.Server, info.ID)
}

// missing names what a backup needs and the store does not list, and archives that exclude each other.
func (b *Bucket) missing(info *backupinfo.Info, c *Contents) []string {
	var out []string
	if c.recorded != nil {
		there := map[string]bool{}
		for _, list := range c.Archives {
			for _, a := range list {
				there[path.Base(a.Path)] = true
			}
		}
		for _, name := range slices.Sorted(maps.Keys(c.recorded)) {
			if !there[name] {
				out = append(out, b.dir(info.ID)+name+" is missing")
			}
		}
		return out
	}
	need := []uint32{0}
	for _, t := range info.Tablespaces {
		need = append(need, t.OID)
	}
	for _, oid := range need {
		stem := b.dir(info.ID) + "data"
		if oid != 0 {
			stem = b.dir(info.ID) + strconv.FormatUint(uint64(oid), 10)
		}
		if len(c.Archives[oid]) == 0 {
			out = append(out, stem+".tar (with any suffix) is missing")
			continue
		}
		out = append(out, c.gaps(oid, stem)...)
	}
	return out
}

// gaps finds what is missing between the archives of one directory. Ours need not be numbered
// without gaps: an attempt does not use the names of another one.
func (c *Contents) gaps(oid uint32, stem string) (out []string) {
	next := 0
	for i, n := range c.numbers[oid] {
		if i > 0 && n == c.numbers[oid][i-1] {
			out = append(out, c.Archives[oid][i-1].Path+" and "+c.Archives[oid][i].Path+" exclude each other")
			continue
		}
		for ; next < n && !c.ours; next++ {
			if len(out) == 10 {
				return append(out, "and more")
			}
			out = append(out, archiveStem(stem, next)+" (with any suffix) is missing")
		}
		next = n + 1
	}
	return out
}

func archiveStem(stem string, n int) string {
	if n == 0 {
		return stem + ".tar"
	}
	digits := strconv.Itoa(n)
	return stem + "_" + strings.Repeat("0", max(0, 4-len(digits))) + digits + ".tar"
}

// Restorable are the archives of a backup, all of which are there, for as many requests at the
// same time as there are jobs. The doubts are what is wrong with objects that no archive needs to be restored.
func (b *Bucket) Restorable(ctx context.Context, info *backupinfo.Info, jobs int) (archives map[uint32][]basetar.Archive, doubts []error, err error) {
	c, err := b.Contents(ctx, info.ID)
	if err != nil {
		return nil, nil, err
	}
	if err := b.gone(info, c); err != nil {
		return nil, nil, err
	}
	if _, err := b.records(ctx, info.ID, c); fault.Is(err, fault.Corrupt) {
		doubts = append(doubts, fmt.Errorf("what is restored is not compared with what was sent: %w", err))
	} else if err != nil {
		return nil, nil, err
	}
	if lacks := b.missing(info, c); len(lacks) > 0 {
		return nil, nil, fault.New(fault.Corrupt, "restore", string(info.ID), "%s", strings.Join(lacks, "; ")).
			WithHint("restore another backup, or bring the object back: %s/%s", b.URL, b.dir(info.ID))
	}
	wrong, err := b.beside(ctx, info, c)
	switch {
	case ctx.Err() != nil:
		return nil, nil, err
	case err != nil:
		wrong = append(wrong, err)
	}
	for _, err := range wrong {
		doubts = append(doubts, fmt.Errorf("this restore does not need it, but others may: %w", err))
	}
	c.share(jobs)
	return c.Archives, doubts, nil
}
