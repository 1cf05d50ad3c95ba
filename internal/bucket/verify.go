package bucket

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/codec"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/pgcontrol"
)

// Verification is what reading a backup back has found.
type Verification struct {
	Objects  int
	Files    int64
	Bytes    int64    // of the objects, as they are stored
	Damage   []string // with the name of the object
	Unproven []string // what nothing could be compared with
	Unknown  []string // objects that no restore uses
}

// Err is nil when nothing is damaged.
func (v *Verification) Err(id string) error {
	if len(v.Damage) == 0 {
		return nil
	}
	const most = 20
	list := v.Damage
	if len(list) > most {
		list = append(slices.Clone(list[:most]), fmt.Sprintf("and %d more", len(list)-most))
	}
	return fault.New(fault.Corrupt, "verify backup", id, "%s", strings.Join(list, "; ")).
		WithHint("do not rely on this backup; take another one, and look for the cause in the store")
}

// verifier reads the archives of one backup, several at the same time.
type verifier struct {
	info *backupinfo.Info

	mu     sync.Mutex
	result Verification
	kept   map[string]kept // the label, pg_control and the manifest
	files  map[string]content
}

// kept is what a small file holds; of files of one name that of the last archive counts.
type kept struct {
	archive int
	content []byte
}

// content is what a file of the backup was found to have; of files of one name that of the last archive counts.
type content struct {
	archive int
	key     string
	size    int64
	crc     []byte
}

// oldest is the version of PostgreSQL from which on the formats of pg_control and WAL are known.
const oldest = 130000

// small are the members that are looked into. A manifest grows with the number of files.
const (
	labelName    = "backup_label"
	controlName  = "global/pg_control"
	mostManifest = 1 << 30
)

// Verify reads everything of a backup back: every archive to its end, and what it holds
// is compared with the record, and with the manifest where pg_basebackup has made one.
// Progress is told how many of the bytes were read.
func (b *Bucket) Verify(ctx context.Context, info *backupinfo.Info, jobs int, progress func(done, total int64)) (*Verification, error) {
	c, err := b.Contents(ctx, info.ID)
	if err != nil {
		return nil, err
	}
	if err := b.gone(info, c); err != nil {
		return nil, err
	}
	v := &verifier{info: info, kept: map[string]kept{}}
	if info.Mode != nil && *info.Mode == "postgres" {
		v.files = map[string]content{}
	}
	foreign, err := b.records(ctx, info.ID, c)
	if fault.Is(err, fault.Corrupt) {
		v.damaged("%v: the archives can be restored all the same, but not compared with what was sent", err)
	} else if err != nil {
		return nil, err
	}
	v.result.Unknown = c.Unknown
	for _, lack := range b.missing(info, c) {
		v.damaged("%s", lack)
	}
	for _, key := range foreign {
		v.damaged("%s is no archive of this backup: Holdfast leaves it out, Barman restores it", key)
	}
	wrong, err := b.beside(ctx, info, c)
	if err != nil {
		return nil, err
	}
	if err := v.archives(ctx, b, c, max(1, jobs), progress); err != nil {
		return nil, err
	}
	v.conclude(b, c)
	if c.recorded == nil && !v.manifest(b) {
		v.unsummed(c)
	}
	for _, err := range wrong {
		v.damaged("%v", err)
	}
	return &v.result, v.wal(ctx, b)
}

func (v *verifier) damaged(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result.Damage = append(v.result.Damage, fmt.Sprintf(format, args...))
}

// conclude compares what was found with the record.
func (v *verifier) conclude(b *Bucket, c *Contents) {
	data := b.dir(v.info.ID) + "data.tar"
	whole := len(v.result.Damage) == 0
	label, labelled := v.kept[labelName]
	controlFile, controlled := v.kept[controlName]
	switch {
	case !labelled && whole:
		v.damaged("none of the objects %s* holds backup_label", strings.TrimSuffix(data, ".tar"))
	case labelled && v.info.BackupLabel != nil && strings.TrimSpace(string(label.content)) != strings.TrimSpace(*v.info.BackupLabel):
		v.damaged("the backup_label in the objects %s* is not that of the record: they are of another backup", strings.TrimSuffix(data, ".tar"))
	}
	old := v.info.Version != nil && *v.info.Version < oldest
	switch control, err := pgcontrol.Parse(controlFile.content); {
	case !controlled && whole:
		v.damaged("none of the objects %s* holds %s", strings.TrimSuffix(data, ".tar"), controlName)
	case !controlled, old:
	case err != nil:
		v.damaged("%s in the objects %s*: %v", controlName, strings.TrimSuffix(data, ".tar"), err)
	case v.info.SystemID != nil && fmt.Sprint(control.SystemID) != *v.info.SystemID:
		v.damaged("%s in the objects %s* is of the cluster %d, not %s", controlName, strings.TrimSuffix(data, ".tar"), control.SystemID, *v.info.SystemID)
	}
	plain := true
	for _, list := range c.Archives {
		for _, a := range list {
			plain = plain && a.Compression() == codec.None
		}
	}
	// With this method a Barman server writes down how many bytes its archives have; others mean
	// another size, or none.
	counted := v.info.Mode != nil && strings.HasPrefix(*v.info.Mode, "local-to-cloud") && v.info.Size != nil
	if plain && counted && !c.ours && *v.info.Size != v.result.Bytes {
		v.damaged("the archives below %s have %d bytes, the record says %d", b.dir(v.info.ID), v.result.Bytes, *v.info.Size)
	}
	if !(plain && counted && !c.ours) && v.files == nil && c.recorded == nil {
		v.result.Unproven = append(v.result.Unproven, "the record does not say how many archives there were: had the last of several been deleted, nothing would tell")
	}
}

// unsummed says what has no checksum anywhere.
func (v *verifier) unsummed(c *Contents) {
	summing := []codec.Algorithm{codec.Gzip, codec.Bzip2, codec.Snappy}
	var bare []string
	for _, oid := range slices.Sorted(maps.Keys(c.Archives)) {
		for _, a := range c.Archives[oid] {
			if !c.summed[a.Path] && !slices.Contains(summing, a.Compression()) {
				bare = append(bare, a.Path)
			}
		}
	}
	if len(bare) > 0 {
		v.result.Unproven = append(v.result.Unproven, fmt.Sprintf("neither the store nor the format keeps a checksum of %s: an error in what their files hold would not be noticed", some(bare)))
	}
}

// some names the first of a list.
func some(list []string) string {
	const most = 3
	if len(list) <= most {
		return strings.Join(list, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
}

// manifest compares the files with pg_basebackup's list. It reports whether each of
// them was compared by a checksum.
func (v *verifier) manifest(b *Bucket) bool {
	if v.files == nil {
		v.result.Unproven = append(v.result.Unproven, "there is no backup_manifest, which would tell the files and their checksums")
		return false
	}
	list, there := v.kept[manifest.Name]
	if !there {
		if len(v.result.Damage) == 0 {
			v.damaged("none of the objects %sdata* holds %s", b.dir(v.info.ID), manifest.Name)
		}
		return false
	}
	whole := len(v.result.Damage) == 0
	others := map[manifest.Algorithm]int{}
	_, err := manifest.Read(bytes.NewReader(list.content), manifest.Name, func(f manifest.File) error {
		got, there := v.files[f.Path]
		switch {
		case !there && (!whole || strings.HasPrefix(f.Path, "log/") || strings.HasPrefix(f.Path, "pg_log/")):
			// It was in what cannot be read; and Barman leaves the server's log out.
		case !there:
			v.damaged("%s is missing from the objects of its directory", f.Path)
		case got.size != f.Size:
			v.damaged("%s: %s has %d bytes, not %d", got.key, f.Path, got.size, f.Size)
		case f.Algorithm != manifest.CRC32C:
			others[f.Algorithm]++
		case !bytes.Equal(got.crc, f.Checksum):
			v.damaged("%s: %s has other content than the manifest says", got.key, f.Path)
		}
		return nil
	})
	if err != nil {
		v.damaged("%s: %v", manifest.Name, err)
		return false
	}
	for a, n := range others {
		v.result.Unproven = append(v.result.Unproven, fmt.Sprintf("the manifest has checksums of kind %s for %d files, which are compared by their sizes only", cmp.Or(string(a), "NONE"), n))
	}
	return len(others) == 0
}
