package walreceive

import (
	"context"
	"os"
	"path/filepath"

	"github.com/holdfast-pg/holdfast/internal/atomicfile"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// Reset lets the next run begin at the segment that the server writes now,
// whatever was received before. What lies behind that segment, as after a
// server went back in time, is set aside in the errors directory; the rest
// stays for the archiver. It is refused while WAL is received.
func (r *Receiver) Reset(ctx context.Context, sys postgres.System) (segment string, err error) {
	layout := catalog.LayoutOf(r.settings)
	if err := layout.EnsureDirs(); err != nil {
		return "", err
	}
	lock, err := r.lock(ctx, layout)
	if err != nil {
		return "", err
	}
	defer lock.Release()
	lsn, err := wal.ParseLSN(sys.LSN)
	if err != nil {
		return "", err
	}
	segment = wal.SegmentOf(sys.Timeline, lsn, sys.SegmentSize).Name()
	// An empty partial segment is where pg_receivewal begins.
	if err := atomicfile.Write(filepath.Join(layout.StreamingDir, segment+".partial"), nil, 0o600); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(layout.StreamingDir)
	if err != nil {
		return "", fault.Wrap(fault.Internal, "list", layout.StreamingDir, err)
	}
	for _, e := range entries {
		if wal.HashDir(e.Name()) == "" || wal.ComparePositions(e.Name(), segment+".partial") <= 0 {
			continue
		}
		path := filepath.Join(layout.StreamingDir, e.Name())
		if err := os.Rename(path, filepath.Join(layout.ErrorsDir, e.Name()+".reset")); err != nil {
			return "", fault.Wrap(fault.Internal, "set aside", path, err)
		}
	}
	return segment, atomicfile.SyncDir(layout.StreamingDir)
}
