package volumes

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

// DataTree is the name of the data directory's tree; a tablespace's is its OID.
const DataTree = "data"

// controlFile is read on its own, last.
const controlFile = "global/pg_control"

// own are exclusions of a data directory beside those of every backup: the label
// that PostgreSQL returns at the end takes this place.
var own = []string{"/backup_label"}

// Tablespace is one outside of the data directory, or inside.
type Tablespace struct {
	OID      uint32
	Location string // absolute
}

// Cluster is where the files are.
type Cluster struct {
	DataDir     string
	Tablespaces []Tablespace
	// Version names the directory in a tablespace that belongs to the cluster.
	Major          int
	CatalogVersion uint32
	Replaced       []string // paths in the data directory that a Single takes
}

// File is a plain file.
type File struct {
	Path string // below its tree's root; any bytes but 0
	Size int64
}

// Tree is what of a directory belongs to a backup.
type Tree struct {
	Name  string
	Root  string
	Dirs  []string // below the root, each after those that it lies in
	Files []File   // by path
	Links []string // that were followed: a restored cluster has what they lead to in their place
}

// Size is the sum of the files' sizes.
func (t *Tree) Size() int64 {
	var sum int64
	for _, f := range t.Files {
		sum += f.Size
	}
	return sum
}

// List lists a cluster's trees: the data directory's, then those of the tablespaces
// by OID. Nothing is skipped because it cannot be read.
func List(ctx context.Context, c Cluster) ([]Tree, error) {
	exclude := slices.Concat(datadir.DataExclusions, datadir.Exclusions, own)
	for _, t := range c.Tablespaces {
		if rel, inside := datadir.Below(c.DataDir, t.Location); inside {
			exclude = append(exclude, datadir.Literal(rel))
		}
	}
	for _, name := range c.Replaced {
		exclude = append(exclude, datadir.Literal(name))
	}
	main, err := list(ctx, DataTree, c.DataDir, "", exclude)
	if err != nil {
		return nil, err
	}
	trees := []Tree{main}
	tablespaces := slices.Clone(c.Tablespaces)
	slices.SortFunc(tablespaces, func(a, b Tablespace) int { return cmp.Compare(a.OID, b.OID) })
	only := fmt.Sprintf("PG_%d_%d", c.Major, c.CatalogVersion)
	for _, t := range tablespaces {
		tree, err := list(ctx, strconv.FormatUint(uint64(t.OID), 10), t.Location, only, datadir.Exclusions)
		if err != nil {
			return nil, err
		}
		trees = append(trees, tree)
	}
	return trees, nil
}

func list(ctx context.Context, name, root, only string, exclude []string) (Tree, error) {
	t := Tree{Name: name}
	filter, err := datadir.NewFilter(only, exclude)
	if err != nil {
		return t, fault.Wrap(fault.Internal, "read exclusions of", root, err)
	}
	if t.Root, err = filepath.EvalSymlinks(root); err != nil {
		return t, datadir.Unreadable(root, err)
	}
	w := datadir.Walk{Root: t.Root, Filter: filter, SkipUnlogged: true,
		Dirs: func(dirs []datadir.Directory) error {
			for _, d := range dirs {
				t.Dirs = append(t.Dirs, d.Rel)
			}
			return nil
		},
		File: func(rel string, a datadir.Attributes) error {
			t.Files = append(t.Files, File{Path: rel, Size: a.Size})
			return nil
		},
		Link: func(rel string) { t.Links = append(t.Links, rel) },
	}
	if err := w.Run(ctx); err != nil {
		return t, err
	}
	slices.Sort(t.Dirs)
	slices.SortFunc(t.Files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	slices.Sort(t.Links)
	return t, nil
}
