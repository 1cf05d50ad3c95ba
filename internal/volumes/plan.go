package volumes

import (
	"cmp"
	"fmt"
	"slices"
	"unsafe"
)

const (
	// SmallestLimit is the size of volumes of all but huge clusters.
	SmallestLimit = 256 << 20
	// mostVolumes is how many volumes a huge cluster has, about.
	mostVolumes = 5000
	// smallestStride is the size of a large file's segments in all but huge clusters: one
	// changed page has a segment compressed and sent, but zstd is slower until its table
	// is full, which takes 400 KB of each.
	smallestStride = 512 << 10
	// mostSegments is how many segments make a stride double, up to SegmentSize.
	mostSegments = 4 << 20
	// sparse is the part of the limit below which volumes are joined.
	sparse = 4
)

// Plan says which volume each file goes into. It has the files' order in the
// volumes, too. The first, plain archive of each tree, which has its directories,
// is no part of it.
type Plan struct {
	Limit   int64
	Stride  int // size of a large file's segments, in bytes
	Volumes []Volume
}

// Volume is one archive. A plan never changes the sizes that it was made with.
type Volume struct {
	Tree   string
	Number int // from 1 on in each tree
	Files  []File
}

// Name is the object's name without what follows ".tar".
func (v Volume) Name() string { return ArchiveName(v.Tree, v.Number) }

// ArchiveName is the name of one of a tree's archives; number 0 is the plain one.
func ArchiveName(tree string, number int) string {
	if number == 0 {
		return tree + ".tar"
	}
	return fmt.Sprintf("%s_%04d.tar", tree, number)
}

// Memory is what the plan takes, in bytes.
func (p *Plan) Memory() int64 {
	n := int64(0)
	for _, v := range p.Volumes {
		n += int64(len(v.Files)) * int64(unsafe.Sizeof(File{}))
		for _, f := range v.Files {
			n += int64(len(f.Path))
		}
	}
	return n
}

// Size is what the archive takes, but for long names.
func (v Volume) Size() int64 {
	var sum int64
	for _, f := range v.Files {
		sum += f.takes()
	}
	return sum
}

// takes is the size of a file in an archive.
func (f File) takes() int64 { return block + padded(f.Size) }

// padded is the size of a content with what fills up its last block.
func padded(size int64) int64 { return (size + block - 1) / block * block }

// Limit is how large volumes may become. Asked is the configured size, 0 for none;
// most is what an archive may never exceed. Without a configured size the previous
// plan's is kept while it is not far off, so that a cluster that grows slowly keeps its
// packing.
func Limit(asked, most, total int64, prev *Plan) int64 {
	limit := asked
	if limit == 0 {
		limit = max(SmallestLimit, total/mostVolumes)
		if prev != nil && prev.Limit >= limit/2 && prev.Limit <= 2*limit {
			limit = prev.Limit
		}
	}
	return min(limit, most)
}

// strideOf is the previous plan's: with another one no segment would be found again.
func strideOf(trees []Tree, prev *Plan) int {
	if prev != nil {
		return prev.Stride
	}
	var total int64
	for i := range trees {
		total += trees[i].Size()
	}
	stride := smallestStride
	for stride < SegmentSize && total/int64(stride) > mostSegments {
		stride *= 2
	}
	return stride
}

// Cut packs the trees' files into volumes of at most limit. A file that is larger
// stands alone. Small files and large ones have volumes of their own where they are not few: some
// small file changes before every backup, and an unchanged volume is copied by one request.
// With a previous plan of the same limit each file stays where it was
// while there is room, and what is new goes into volumes that change anyway, then
// into sparse or new ones. So no more volumes get another list of files than twice
// as many as files came, went or changed their size, and two; the same files make the
// same plan.
func Cut(trees []Tree, limit int64, prev *Plan) *Plan {
	p := &Plan{Limit: limit, Stride: strideOf(trees, prev)}
	if prev != nil && prev.Limit != limit {
		prev = nil
	}
	for _, t := range trees {
		k := packer{limit: limit, tree: t.Name}
		if prev != nil {
			k.keep(prev, t.Files)
		}
		k.place(t.Files)
		k.join()
		p.Volumes = append(p.Volumes, k.volumes()...)
	}
	return p
}

// packer packs one tree.
type packer struct {
	limit int64
	tree  string
	bins  []*bin
	where map[string]*bin  // of files that stay
	open  [kinds]vacancies // bins that take files
}

// bin is a volume in the making.
type bin struct {
	files   []File
	size    int64
	changed bool // its list is not the previous plan's
}

// kinds of files have bins of their own: small ones, and large ones.
const kinds = 2

func (f File) kind() int {
	if f.large() {
		return 1
	}
	return 0
}

// kind is that of the largest file.
func (b *bin) kind() int {
	if slices.ContainsFunc(b.files, File.large) {
		return 1
	}
	return 0
}

func (b *bin) add(f File) {
	b.files = append(b.files, f)
	b.size += f.takes()
	b.changed = true
}

// keep takes over the previous plan as far as its files are still there and fit.
func (k *packer) keep(prev *Plan, files []File) {
	now := make(map[string]int64, len(files))
	for _, f := range files {
		now[f.Path] = f.Size
	}
	k.where = make(map[string]*bin, len(files))
	for _, v := range prev.Volumes {
		if v.Tree != k.tree {
			continue
		}
		b := &bin{}
		var grown []grownFile
		for _, f := range v.Files {
			size, there := now[f.Path]
			if !there {
				b.changed = true
				continue
			}
			stays := File{f.Path, size}
			b.files = append(b.files, stays)
			b.size += stays.takes()
			if size > f.Size {
				grown = append(grown, grownFile{stays, size - f.Size})
			}
		}
		k.shrink(b, grown)
		for _, f := range b.files {
			k.where[f.Path] = b
		}
		if len(b.files) > 0 {
			k.bins = append(k.bins, b)
		}
	}
}

type grownFile struct {
	File
	by int64
}

// shrink takes out of a bin that is too full what has grown, the most first.
func (k *packer) shrink(b *bin, grown []grownFile) {
	slices.SortFunc(grown, func(x, y grownFile) int {
		return cmp.Or(cmp.Compare(y.by, x.by), cmp.Compare(x.Path, y.Path))
	})
	for _, g := range grown {
		if b.size <= k.limit || len(b.files) == 1 {
			return
		}
		b.files = slices.DeleteFunc(b.files, func(f File) bool { return f.Path == g.Path })
		b.size -= g.takes()
		b.changed = true
	}
}

// place finds a place for the files that have none.
func (k *packer) place(files []File) {
	for _, b := range k.bins {
		if b.changed || b.size < k.limit/sparse {
			k.open[b.kind()].add(b, k.limit-b.size)
		}
	}
	for _, f := range files {
		if k.where[f.Path] != nil {
			continue
		}
		open := &k.open[f.kind()]
		b := open.take(f.takes())
		if b == nil {
			b = &bin{}
			k.bins = append(k.bins, b)
			open.add(b, k.limit-f.takes())
		}
		b.add(f)
	}
}

// join leaves no two sparse bins of a kind, and none of the other one that are sparse together.
func (k *packer) join() {
	k.merge(k.limit, (*bin).kind)
	k.merge(k.limit/sparse-1, func(*bin) int { return 0 })
}

// merge joins sparse bins of one sort while they take no more than most.
func (k *packer) merge(most int64, sort func(*bin) int) {
	var into [kinds]*bin
	k.bins = slices.DeleteFunc(k.bins, func(b *bin) bool {
		if b.size >= k.limit/sparse {
			return false
		}
		first := &into[sort(b)]
		if *first == nil || (*first).size+b.size > most {
			*first = b
			return false
		}
		for _, f := range b.files {
			(*first).add(f)
		}
		return true
	})
}

// volumes puts the small files of each bin first, and numbers them.
func (k *packer) volumes() []Volume {
	var out []Volume
	for i, b := range k.bins {
		slices.SortFunc(b.files, func(x, y File) int {
			if x.large() != y.large() {
				if x.large() {
					return 1
				}
				return -1
			}
			return cmp.Compare(x.Path, y.Path)
		})
		out = append(out, Volume{Tree: k.tree, Number: i + 1, Files: b.files})
	}
	return out
}

// vacancies find the first bin that has enough room, in a time that grows with the
// logarithm of the number of bins.
type vacancies struct {
	bins []*bin
	most []int64 // a heap-shaped tree: of node i the most room below it
	half int     // leaves
}

func (r *vacancies) add(b *bin, free int64) {
	r.bins = append(r.bins, b)
	if len(r.bins) > r.half {
		old := r.most
		from := r.half
		r.half = max(1, 2*r.half)
		r.most = make([]int64, 2*r.half)
		for i := range r.most {
			r.most[i] = -1
		}
		for i := range from {
			r.set(i, old[from+i])
		}
	}
	r.set(len(r.bins)-1, free)
}

func (r *vacancies) set(leaf int, free int64) {
	i := r.half + leaf
	r.most[i] = free
	for i /= 2; i > 0; i /= 2 {
		r.most[i] = max(r.most[2*i], r.most[2*i+1])
	}
}

// take uses up room in the first bin that has it; nil when none has.
func (r *vacancies) take(size int64) *bin {
	if r.half == 0 || r.most[1] < size {
		return nil
	}
	i := 1
	for i < r.half {
		if i *= 2; r.most[i] < size {
			i++
		}
	}
	leaf := i - r.half
	r.set(leaf, r.most[i]-size)
	return r.bins[leaf]
}

// Resume is the plan of the next attempt at the same backup. Kept are the volumes that
// the earlier one has stored, and whose files are all unchanged: they stay as they are. All
// other files go into new ones, whose numbers lie above those in used, so that no
// upload that comes late can replace them.
func (p *Plan) Resume(trees []Tree, limit int64, kept []Volume, used map[string]int) *Plan {
	stays := map[string]map[string]bool{}
	for _, v := range kept {
		if stays[v.Tree] == nil {
			stays[v.Tree] = map[string]bool{}
		}
		for _, f := range v.Files {
			stays[v.Tree][f.Path] = true
		}
	}
	rest := slices.Clone(trees)
	for i, t := range rest {
		rest[i].Files = slices.DeleteFunc(slices.Clone(t.Files), func(f File) bool { return stays[t.Name][f.Path] })
	}
	next := Cut(rest, limit, nil)
	next.Stride = p.Stride
	for i := range next.Volumes {
		next.Volumes[i].Number += used[next.Volumes[i].Tree]
	}
	next.Volumes = append(slices.Clone(kept), next.Volumes...)
	return next
}
