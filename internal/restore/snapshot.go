package restore

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
)

// Snapshot says that the trees of a backup are read where a snapshot shows them:
// as they were on the disk, with what no copy of a running server takes along.
type Snapshot struct {
	Label []byte // backup_label
	// Mounted: disks that were made of the snapshots are mounted where the source's
	// were, and the destination is the data directory on one of them.
	Mounted bool
}

// asSnapshot prepares trees for that. A tablespace that lies below the data
// directory is a tree of its own.
func asSnapshot(trees []*tree, info *backupinfo.Info) error {
	for _, t := range trees {
		only, exclude := "PG_*", slices.Clone(datadir.Exclusions)
		if info.Version != nil {
			only = fmt.Sprintf("PG_%d_*", postgres.Major(*info.Version))
		}
		if t.isData {
			only, exclude = "", append(append(exclude, datadir.DataExclusions...), "/backup_label")
			for _, other := range trees {
				if rel, err := filepath.Rel(t.src, other.src); err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, "../") {
					exclude = append(exclude, datadir.Literal(rel))
				}
			}
		}
		f, err := datadir.NewFilter(only, exclude)
		if err != nil {
			return fault.Wrap(fault.Internal, "restore", t.id, err)
		}
		t.filter = &f
	}
	return nil
}

// skips reports whether an entry of a snapshot stays behind: what the filter names,
// and links in the places of directories that a restore makes anew.
func (t *tree) skips(rel string, d fs.DirEntry) bool {
	if t.filter == nil {
		return false
	}
	return t.filter.Excluded(rel) || d.Type()&(fs.ModeSocket|fs.ModeNamedPipe) != 0 || d.Type()&fs.ModeSymlink != 0 && slices.Contains([]string{"pg_wal", "pg_log", "log", "pg_stat_tmp"}, rel)
}

// mayLink refuses a link of a snapshot that could lead a server into another one's
// files. Single files beside the configuration may be elsewhere.
func (t *tree) mayLink(rel string) error {
	if t.filter == nil {
		return nil
	}
	st, err := os.Stat(filepath.Join(t.src, rel))
	if t.isData && !strings.Contains(rel, "/") && (err != nil || st.Mode().IsRegular()) {
		return nil
	}
	return fmt.Errorf("%s is a link, and would lead the restored server into files of another one", filepath.Join(t.src, rel))
}

// finishSnapshot places the label, and the directories whose place a link had.
func (s Snapshot) finish(data *tree) error {
	for _, dir := range []string{"pg_stat_tmp", "pg_replslot"} {
		if err := os.MkdirAll(filepath.Join(data.build, dir), 0o700); err != nil {
			return fault.Wrap(fault.Internal, "create directory", dir, err)
		}
	}
	return atomicfile.Write(filepath.Join(data.build, "backup_label"), s.Label, 0o600)
}

// clones reports whether files of the tree become files of the destination without
// taking space: it tries with one.
func (t *tree) clones() bool {
	in, err := os.Open(filepath.Join(t.src, t.sample()))
	if err != nil {
		return false
	}
	defer in.Close()
	out, err := os.CreateTemp(t.existing(), ".holdfast-clone-")
	if err != nil {
		return false
	}
	defer out.Close()
	defer os.Remove(out.Name())
	return unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil
}

// sample is the first file of a tree that is not empty.
func (t *tree) sample() string {
	found := ""
	_ = t.walk(func(rel string, d fs.DirEntry) error {
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			found = rel
			return fs.SkipAll
		}
		return nil
	})
	return found
}
