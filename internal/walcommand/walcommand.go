// Package walcommand is what PostgreSQL's archive_command and restore_command call: one WAL
// file into the archive of a server, or out of it, without the engine. It reads no command
// line, and prints nothing.
package walcommand

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/osuser"
	"github.com/holdfast-pg/holdfast/internal/wal"
	"github.com/holdfast-pg/holdfast/internal/walahead"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
	"github.com/holdfast-pg/holdfast/internal/walspool"
)

// StopsRecovery is an exit code of restore_command at which PostgreSQL ends
// with an error instead of taking the file for missing (PostgreSQL manual,
// "Archive Recovery").
const StopsRecovery = 126

// Configuration reads a file, "" for the usual one, as the user that owns the backups.
func Configuration(file string) (*config.Config, error) {
	path, err := config.Find(file)
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	return cfg, osuser.Become(cfg.Global.BarmanUser)
}

// Archive stores a WAL file in the archive of a server. When it returns nil the file is durable.
func Archive(ctx context.Context, s *config.Server, archive *walarchive.Archive, path string) error {
	if err := Ensure(catalog.LayoutOf(s), s); err != nil {
		return err
	}
	now := time.Now()
	if s.WALsCloud == nil {
		return archive.Deliver(ctx, path, filepath.Base(path), now)
	}
	tune(s.CloudWALArchiveParallel)
	walspool.Sweep(filepath.Dir(path), now)
	return walahead.Ahead{Archive: archive, Place: s.WALPlace(), Note: NoteOf(s), N: s.CloudWALArchiveParallel}.Deliver(ctx, path, now)
}

// Fetch gives a WAL file, expanded, the name dest. partial takes an unfinished segment where
// there is no complete one.
func Fetch(ctx context.Context, s *config.Server, archive *walarchive.Archive, name, dest string, partial bool) error {
	if err := CheckThere(s, name); err != nil {
		return err
	}
	tune(s.CloudWALRestoreParallel)
	_ = atomicfile.Sweep(time.Now(), abandoned, filepath.Dir(dest)) // what is left over is in nobody's way
	archive = archive.ForRecovery()
	fetch := archive.Fetch
	if partial {
		fetch = archive.FetchPartial
	}
	if s.WALsCloud == nil || s.CloudWALRestoreParallel < 2 {
		return fetch(ctx, name, dest)
	}
	size, err := RecordedSegmentSize(s)
	if err != nil || size == 0 {
		size = wal.DefaultSegmentSize // a restore does not need the catalogue
	}
	return walspool.Spool{Archive: archive, Place: s.WALPlace(), N: s.CloudWALRestoreParallel, SegmentSize: size}.Fetch(ctx, name, dest, fetch)
}

// abandoned is how old the file of a fetch is that was killed: one that goes on writes within a
// minute, or gives up.
const abandoned = 10 * time.Minute

// What a process has, in bytes, and what a segment of 16 MiB needs that is compressed.
const base, transfer = 10 << 20, 40 << 20

// tune prepares the runtime of a process that moves up to n segments at once and ends. It
// collects garbage where a limit on memory asks for that, and never before: one collection
// takes longer than the start of the program.
func tune(n int) {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(int64(base + max(1, n)*transfer))
}

// NoteOf is the file that says which WAL of a server is in its bucket before PostgreSQL asked for it.
func NoteOf(s *config.Server) string { return filepath.Join(s.MetaDirectory, "holdfast-wal-ahead") }

// CheckThere fails where the directory of an archive that is to be read is missing. That is
// no missing file.
func CheckThere(s *config.Server, name string) error {
	if dir := catalog.LayoutOf(s).WALDir; dir != "" && !isDir(dir) {
		return fault.New(fault.Disk, "fetch", name, "the archive %s does not exist", dir).WithHint("is its file system mounted?")
	}
	return nil
}

// Unusable is why the server of a file that is to be read cannot be used. It must not look
// like the end of all WAL.
func Unusable(name string, err error) error {
	return &fault.Error{Op: "fetch", Subject: name, Kind: fault.Config, Err: err, Hint: fault.HintOf(err)}
}

// RestoreCode is the exit code of restore_command. That a file is missing is no message.
func RestoreCode(err error) (code int, silent bool) {
	switch {
	case err == nil:
		return 0, true
	case fault.Is(err, fault.NotFound):
		return fault.Internal.ExitCode(), true
	}
	return StopsRecovery, false
}

// RecordedSegmentSize is that of a server's newest backup; 0 when there is none, or no catalogue.
func RecordedSegmentSize(s *config.Server) (uint64, error) {
	if s.BackupDirectory == "" {
		return 0, nil
	}
	newest, err := catalog.Open(catalog.LayoutOf(s)).Resolve("latest")
	switch {
	case err == nil && newest.SegmentSize != nil:
		return *newest.SegmentSize, nil
	case err != nil && !fault.Is(err, fault.NotFound):
		return 0, err
	}
	return 0, nil
}

// Ensure creates the directories of a server that was never used. When even their parent is
// missing, its file system may not be mounted, and nothing is created in its place.
func Ensure(l catalog.Layout, s *config.Server) error {
	dir := l.WALDir
	if dir == "" {
		dir = l.XlogDBDir // WAL is in a bucket
	}
	_, err := os.Stat(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Internal, "look at", dir, err)
	}
	if parent := filepath.Dir(filepath.Clean(s.BackupDirectory)); !isDir(parent) {
		return fault.New(fault.Config, "use the WAL archive of", s.Name, "the directory %s does not exist", parent).
			WithHint("mount its file system, or create it for the user that archives")
	}
	return l.EnsureDirs()
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}
