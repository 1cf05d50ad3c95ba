package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/backuplabel"
	"github.com/holdfast-pg/holdfast/internal/basetar"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/exclusive"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/gpg"
	"github.com/holdfast-pg/holdfast/internal/manifest"
	"github.com/holdfast-pg/holdfast/internal/objstore"
	"github.com/holdfast-pg/holdfast/internal/pgcontrol"
	"github.com/holdfast-pg/holdfast/internal/snapshot"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

// Proof reads backups back.
type Proof struct {
	Servers   Servers
	Stores    objstore.Stores
	Snapshots snapshot.Open
}

// Proven is what was read back before a backup was called DONE.
type Proven struct {
	At             time.Time `json:"at"`
	Files          int64     `json:"files"`
	Objects        int64     `json:"objects,omitempty"` // in an object store; its files were not read back
	Bytes          int64     `json:"bytes"`
	ManifestSHA256 string    `json:"manifest_sha256"`
	Segments       int       `json:"segments"`
	Locked         int       `json:"locked,omitempty"` // segments that are encrypted for a key that is not here
	Snapshots      int       `json:"snapshots,omitempty"`
	Unread         bool      `json:"unread,omitempty"` // their files cannot be read as they are
	// Locks are those of the snapshots, in the order of the record.
	Locks   []*snapshot.Lock `json:"locks,omitempty"`
	WALFrom string           `json:"wal_from"`
	WALTo   string           `json:"wal_to"`
}

// String is for people.
func (p Proven) String() string {
	if p.Objects > 0 {
		return fmt.Sprintf("%d objects (%d MiB) are in the store as they were sent, and %d WAL segments were read back.", p.Objects, p.Bytes>>20, p.Segments-p.Locked)
	}
	if p.Snapshots > 0 {
		return p.told()
	}
	return fmt.Sprintf("%d files (%d MiB) and %d WAL segments were read back and are what was written.", p.Files, p.Bytes>>20, p.Segments-p.Locked)
}

// Warning is what was not read back; "" for nothing.
func (p Proven) Warning() string {
	if p.Locked == 0 {
		return ""
	}
	return fmt.Sprintf("Of the %d WAL segments that the backup needs %d are encrypted for a key that cannot be used here: they are archived, and were not opened.", p.Segments, p.Locked)
}

// ProveBackup reads every byte of a backup against its manifest, pg_control
// against its CRC and the cluster, the label against the catalogue, and the WAL
// from begin to end.
func (p *Proof) ProveBackup(ctx context.Context, ref Ref) (Proven, error) {
	var done atomic.Int64
	var total int64
	s, err := p.Servers.Server(ref.Server)
	if err != nil {
		return Proven{}, report(ctx, err)
	}
	cat := catalog.Open(catalog.LayoutOf(s))
	info, err := cat.Get(ref.ID)
	if err != nil {
		return Proven{}, report(ctx, err)
	}
	if info.Size != nil {
		total = *info.Size
	}
	beating, stop := beat(ctx, func() Progress {
		return Progress{What: "reads the backup back", Done: done.Load(), Total: total}
	})
	defer stop()
	archive, err := walarchive.ForServer(s, p.Stores)
	if err != nil {
		return Proven{}, report(beating, err)
	}
	var proven Proven
	switch {
	case isSnapshot(info):
		proven, err = p.proveSnapshots(beating, s, cat, info, archive, ref)
	case s.BasebackupsCloud != nil:
		if proven, err = p.proveCloud(beating, s, cat, info); err == nil {
			err = proven.addWAL(beating, info, archive)
		}
	default:
		proven, err = proveFiles(beating, cat, info, gpg.Of(s), archive, func(n int64) { done.Add(n) })
	}
	return proven, report(beating, err)
}

// content is what the proof needs of a backup's files.
type content struct {
	files   manifest.Report
	control pgcontrol.Control
	unread  bool // there is no control to compare
	label   string
}

// addWAL reads back the WAL that the backup needs.
func (p *Proven) addWAL(ctx context.Context, info *backupinfo.Info, archive *walarchive.Archive) error {
	systemID, err := strconv.ParseUint(*info.SystemID, 10, 64)
	if err != nil {
		return fault.Wrap(fault.Corrupt, "read", "systemid", err)
	}
	segments, err := archive.Verify(ctx, *info.BeginWAL, *info.EndWAL, *info.SegmentSize, systemID)
	if err != nil {
		return err
	}
	p.At, p.Segments, p.Locked, p.WALFrom, p.WALTo = time.Now(), segments.Segments, segments.Locked, *info.BeginWAL, *info.EndWAL
	return nil
}

// proveFiles reads back what lies in directories, and the WAL.
func proveFiles(ctx context.Context, cat *catalog.Catalog, info *backupinfo.Info, keys *gpg.Keys, archive *walarchive.Archive, progress func(int64)) (Proven, error) {
	data := cat.DataDir(info.ID)
	tars, err := basetar.Find(data, keys)
	if err != nil {
		return Proven{}, err
	}
	sealed, err := readSeal(cat.WorkDir(info.ID))
	if err != nil {
		return Proven{}, err
	}
	var c content
	switch {
	case tars == nil:
		c, err = readFiles(ctx, cat, info, progress)
	case sealed != nil:
		c, err = readSealed(ctx, sealed, tars, progress)
	default:
		c, err = readTars(ctx, tars, info, progress, nil)
	}
	if err != nil {
		return Proven{}, err
	}
	return c.proven(ctx, info, data, archive)
}

// proven compares content with the record, and reads the WAL back.
func (c content) proven(ctx context.Context, info *backupinfo.Info, data string, archive *walarchive.Archive) (Proven, error) {
	systemID, err := strconv.ParseUint(*info.SystemID, 10, 64)
	if err != nil {
		return Proven{}, fault.Wrap(fault.Corrupt, "read", "systemid", err)
	}
	if !c.unread && c.control.SystemID != systemID {
		return Proven{}, fault.New(fault.Corrupt, "check", "global/pg_control of "+data, "it is of the cluster with system identifier %d, not %d", c.control.SystemID, systemID)
	}
	if err := checkLabel(info, c.label); err != nil {
		return Proven{}, fault.Wrap(fault.Corrupt, "check", "backup_label of "+data, err)
	}
	p := Proven{Files: c.files.Summary.Files, Bytes: c.files.Summary.Bytes, ManifestSHA256: c.files.Summary.SHA256}
	return p, p.addWAL(ctx, info, archive)
}

// checkLabel compares a label with the catalogue, which has none of an exclusive
// backup.
func checkLabel(info *backupinfo.Info, text string) error {
	if info.BackupLabel != nil && text == *info.BackupLabel {
		return nil
	}
	if info.BackupLabel == nil && info.Mode != nil && strings.HasSuffix(*info.Mode, "-"+Exclusive) {
		label, err := backuplabel.Parse(text)
		if err != nil {
			return err
		}
		if label.StartLSN == *info.BeginLSN && label.Text == exclusive.Label(info.ServerName, info.ID) {
			return nil
		}
	}
	return errors.New("it is not the label that the server gave")
}

// readFiles reads a backup that is kept as plain files.
func readFiles(ctx context.Context, cat *catalog.Catalog, info *backupinfo.Info, progress func(int64)) (c content, err error) {
	data := cat.DataDir(info.ID)
	opt := manifest.Options{Jobs: runtime.NumCPU(), Progress: progress}
	path := filepath.Join(data, manifest.Name)
	if info.Mode != nil && *info.Mode != "postgres" {
		// Ours is made during the copy, before there is a label.
		path, opt.Ignore = filepath.Join(cat.WorkDir(info.ID), manifest.Name), []string{"backup_label"}
	}
	dirs := manifest.Dirs{Data: data, Tablespaces: map[uint32]string{}}
	for _, t := range info.Tablespaces {
		dirs.Tablespaces[t.OID] = cat.TablespaceDir(info.ID, t.OID)
	}
	if c.files, err = manifest.Verify(ctx, path, dirs, opt); err == nil {
		err = c.files.Err(string(info.ID))
	}
	if err != nil {
		return c, err
	}
	if c.control, err = pgcontrol.Read(filepath.Join(data, "global", "pg_control")); err != nil {
		return c, err
	}
	label, err := os.ReadFile(filepath.Join(data, "backup_label"))
	c.label = string(label)
	return c, fault.Wrap(fault.Corrupt, "read", "backup_label", err)
}
