package catalog

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/flock"
)

// Layout is where the directories of one server are.
type Layout struct {
	Server       string
	BackupDir    string // identity.json
	BaseDir      string // the backups, a directory each
	MetaDir      string // backup.info files and annotations
	WALDir       string // "" when the archive is in a bucket
	XlogDBDir    string
	IncomingDir  string
	StreamingDir string
	ErrorsDir    string
	LockDir      string
}

// EnsureDirs creates what is missing.
func (l Layout) EnsureDirs() error {
	for _, dir := range []string{l.BackupDir, l.BaseDir, l.MetaDir, l.WALDir, l.XlogDBDir, l.IncomingDir, l.StreamingDir, l.ErrorsDir, l.LockDir} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fault.Wrap(fault.Internal, "create directory", dir, err)
		}
	}
	return nil
}

// XlogDB is the list of archived WAL.
func (l Layout) XlogDB() string { return filepath.Join(l.XlogDBDir, l.Server+"-xlog.db") }

// BackupDirOf holds everything of one backup but its backup.info.
func (l Layout) BackupDirOf(id backup.ID) string { return filepath.Join(l.BaseDir, string(id)) }

// DataDir is the image of the data directory.
func (l Layout) DataDir(id backup.ID) string {
	old := filepath.Join(l.BackupDirOf(id), "pgdata")
	if st, err := os.Stat(old); err == nil && st.IsDir() {
		return old
	}
	return filepath.Join(l.BackupDirOf(id), "data")
}

// TablespaceDir is the image of a tablespace.
func (l Layout) TablespaceDir(id backup.ID, oid uint32) string {
	data := l.DataDir(id)
	if filepath.Base(data) == "pgdata" {
		return filepath.Join(data, "pg_tblspc", strconv.FormatUint(uint64(oid), 10))
	}
	return filepath.Join(l.BackupDirOf(id), strconv.FormatUint(uint64(oid), 10))
}

// WorkDir is ours while a backup is made; Barman ignores it.
func (l Layout) WorkDir(id backup.ID) string { return filepath.Join(l.BackupDirOf(id), "holdfast") }

func (l Layout) lock(purpose string) string {
	return filepath.Join(l.LockDir, "."+l.Server+"-"+purpose+".lock")
}

// LockBackup keeps every other backup of the server out, Barman's too.
func (l Layout) LockBackup() (*flock.Lock, error) { return flock.Try(l.lock("backup")) }

// backupPatience is how long a backup bears with others that have its lock: a
// maintenance or a deletion has done soon, another backup has not.
const backupPatience = 10 * time.Second

// AwaitBackup is LockBackup for a backup that is to begin.
func (l Layout) AwaitBackup(ctx context.Context) (*flock.Lock, error) {
	within, cancel := context.WithTimeout(ctx, backupPatience)
	defer cancel()
	lock, err := flock.Wait(within, l.lock("backup"))
	if err != nil && ctx.Err() == nil && fault.Is(err, fault.Refused) {
		return l.LockBackup() // its error says who has the lock, and no more
	}
	return lock, err
}

// LockReceiving keeps every other receiver of the server's WAL out.
func (l Layout) LockReceiving() (*flock.Lock, error) { return flock.Try(l.lock("receive-wal")) }

// Receiver is the process that receives the server's WAL, and whether there is
// one; its PID is 0 when it is not known.
func (l Layout) Receiver() (pid int, running bool, err error) {
	return flock.Owner(l.lock("receive-wal"))
}

// LockArchiving keeps every other archiver of WAL that arrived out.
func (l Layout) LockArchiving() (*flock.Lock, error) { return flock.Try(l.lock("archive-wal")) }

// LockID keeps others from changing or deleting one backup.
func (l Layout) LockID(id backup.ID) (*flock.Lock, error) { return flock.Try(l.lock(string(id))) }

// ShareID keeps others from changing or deleting a backup that is read.
func (l Layout) ShareID(id backup.ID) (*flock.Lock, error) {
	return flock.TryShared(l.lock(string(id)))
}

// AwaitID is ShareID as soon as whoever changes or deletes the backup has ended.
func (l Layout) AwaitID(ctx context.Context, id backup.ID) (*flock.Lock, error) {
	return flock.WaitShared(ctx, l.lock(string(id)))
}

// LockSync keeps others from synchronising one backup.
func (l Layout) LockSync(id backup.ID) (*flock.Lock, error) {
	return flock.Try(l.lock(string(id) + "-sync-backup"))
}

// LockSchedule waits for the right to change the server's schedule.
func (l Layout) LockSchedule(ctx context.Context) (*flock.Lock, error) {
	return flock.Wait(ctx, l.lock("holdfast-schedule"))
}

// Locks are the lock files of the server that exist, by purpose: the ID of a
// backup, or what Barman calls it.
func (l Layout) Locks() (map[string]string, error) {
	entries, err := os.ReadDir(l.LockDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.Wrap(fault.Internal, "list", l.LockDir, err)
	}
	out := map[string]string{}
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), "."+l.Server+"-")
		purpose, lock := strings.CutSuffix(rest, ".lock")
		if !ours || !lock {
			continue
		}
		// The name of another server may begin like ours.
		_, err := backup.ParseID(strings.TrimSuffix(purpose, "-sync-backup"))
		if err == nil || slices.Contains(purposes, purpose) {
			out[purpose] = filepath.Join(l.LockDir, e.Name())
		}
	}
	return out, nil
}

// purposes of the locks that are not those of a backup.
var purposes = []string{"backup", "cron", "archive-wal", "receive-wal", "xlogdb", "sync-wal"}

// LockXlogDB waits for the right to change xlog.db.
func (l Layout) LockXlogDB(ctx context.Context) (*flock.Lock, error) {
	return flock.Wait(ctx, l.lock("xlogdb"))
}

// ObserveXlogDB waits for the right to read xlog.db, and changes nothing.
func (l Layout) ObserveXlogDB(ctx context.Context) (end func(), err error) {
	return flock.Observe(ctx, l.lock("xlogdb"))
}
