package volumes

import (
	"context"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-pg/holdfast/internal/datadir"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pgcontrol"
)

// Single is a file from elsewhere that lies in the data directory of a restored
// cluster.
type Single struct {
	Path     string // there
	Source   string
	Optional bool // it may be missing
}

// Inline is a file that is in memory already.
type Inline struct {
	Path           string
	Content        []byte
	Mode, UID, GID uint32
	Modified       int64 // seconds
}

// Plain reads the plain archive of a tree: its root and directories, of which each
// comes after those that it lies in, then the singles, then what is in memory. The
// data directory's is read last of all.
func (r *Reader) Plain(ctx context.Context, t Tree, singles []Single, inline []Inline, emit func(Segment) error) (Result, error) {
	return r.archive(ctx, emit, func(a *archive) error {
		if there, err := a.directory("./", t.Root); err != nil {
			return err
		} else if !there {
			return datadir.Unreadable(t.Root, unix.ENOENT)
		}
		for _, d := range t.Dirs {
			there, err := a.directory(d+"/", filepath.Join(t.Root, d))
			if err != nil {
				return err
			}
			if !there {
				a.res.Vanished = append(a.res.Vanished, d)
			}
		}
		if err := a.cut(); err != nil {
			return err
		}
		for _, s := range singles {
			there, err := a.file(s.Path, s.Source)
			if err != nil {
				return err
			}
			if !there && !s.Optional {
				return datadir.Unreadable(s.Source, unix.ENOENT)
			}
		}
		for _, i := range inline {
			m := Member{Path: i.Path}
			ends, err := a.content(&m, i.Content, owner{i.Mode, i.UID, i.GID, i.Modified})
			if err == nil {
				err = a.add(m, ends)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// The server rewrites pg_control in place.
const (
	controlTries = 100
	controlPause = 20 * time.Millisecond
)

// ReadControl reads pg_control until it is whole: after the attempt's last data
// file, and before the backup is stopped. It must be of the system identifier's
// cluster.
func ReadControl(ctx context.Context, dataDir string, systemID uint64) (Inline, pgcontrol.Control, error) {
	path := filepath.Join(dataDir, controlFile)
	for try := 1; ; try++ {
		in, err := readControl(path)
		if err != nil {
			return in, pgcontrol.Control{}, err
		}
		control, err := pgcontrol.Parse(in.Content)
		switch {
		case err == nil && control.SystemID != systemID:
			return in, control, fault.New(fault.Refused, "read", path, "it is of the cluster with system identifier %d, the backup is of %d", control.SystemID, systemID).
				WithHint("the data directory that the server names is not its own on this host; take the backup on the server's host, or use backup_method = postgres")
		case err == nil:
			return in, control, nil
		case try == controlTries:
			return in, control, fault.Wrap(fault.Corrupt, "read", path, err)
		}
		select {
		case <-ctx.Done():
			return in, control, fault.Wrap(fault.Cancelled, "read", path, context.Cause(ctx))
		case <-time.After(controlPause):
		}
	}
}

func readControl(path string) (Inline, error) {
	var src source
	there, err := src.open(path)
	if err != nil {
		return Inline{}, err
	}
	if !there {
		return Inline{}, datadir.Unreadable(path, unix.ENOENT)
	}
	defer src.close()
	content := make([]byte, pgcontrol.Size+1)
	n, err := src.read(content, 0)
	o := ownerOf(&src.st)
	return Inline{controlFile, content[:n], o.mode, o.uid, o.gid, o.mtime}, err
}

// Label is a backup_label, with the owner of the data directory.
func Label(dataDir, text string, at time.Time) (Inline, error) {
	var st unix.Stat_t
	if err := unix.Stat(dataDir, &st); err != nil {
		return Inline{}, datadir.Unreadable(dataDir, err)
	}
	return Inline{"backup_label", []byte(text), 0o600, st.Uid, st.Gid, at.Unix()}, nil
}
