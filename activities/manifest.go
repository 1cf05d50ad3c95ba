package activities

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/fence"
	"github.com/holdfast-pg/holdfast/internal/manifest"
)

// generateManifest writes the manifest that autogenerate_manifest asks for.
func (c *Catalogue) generateManifest(cat *catalog.Catalog, info *backupinfo.Info, ref Ref, label string, f *fence.Fence) error {
	s, err := c.Servers.Server(ref.Server)
	if err != nil || !ref.Overrides.apply(s).AutogenerateManifest {
		return err
	}
	return writeManifest(cat, info, label, f)
}

// writeManifest gives a backup whose label is stored the manifest of its data
// directory. Nothing is read again: the copy has listed what it consists of.
func writeManifest(cat *catalog.Catalog, info *backupinfo.Info, label string, f *fence.Fence) error {
	path := filepath.Join(cat.DataDir(info.ID), manifest.Name)
	var out *atomicfile.File
	if err := f.Do(func() (err error) {
		if err := atomicfile.SweepFile(path); err != nil {
			return err
		}
		out, err = atomicfile.Create(path, 0o600)
		return err
	}); err != nil {
		return err
	}
	defer out.Abort()
	if err := listData(cat, info, label, out.File); err != nil {
		return fault.Wrap(fault.Internal, "write", path, err)
	}
	return f.Do(out.Commit)
}

// listData copies the list of a copy, without what lies in tablespaces, which are
// not below the data directory.
func listData(cat *catalog.Catalog, info *backupinfo.Info, label string, out *os.File) error {
	name := filepath.Join(cat.WorkDir(info.ID), manifest.Name)
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	elsewhere := map[string]bool{}
	for _, t := range info.Tablespaces {
		elsewhere[strconv.FormatUint(uint64(t.OID), 10)] = true
	}
	systemID := uint64(0)
	if *info.Version >= 170000 {
		if systemID, err = strconv.ParseUint(*info.SystemID, 10, 64); err != nil {
			return err
		}
	}
	w := manifest.NewWriter(out, systemID)
	if _, err := manifest.Read(in, name, func(f manifest.File) error {
		if rest, below := strings.CutPrefix(f.Path, "pg_tblspc/"); below {
			if oid, _, _ := strings.Cut(rest, "/"); elsewhere[oid] {
				return nil
			}
		}
		return w.Add(f)
	}); err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(label))
	if err := w.Add(manifest.File{Path: "backup_label", Size: int64(len(label)), Modified: time.Now(), Algorithm: manifest.SHA256, Checksum: sum[:]}); err != nil {
		return err
	}
	_, err = w.Close(nil)
	return err
}
