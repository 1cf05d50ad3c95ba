package catalog

import (
	"path/filepath"

	"github.com/holdfast-pg/holdfast/internal/config"
)

// LayoutOf is the layout that a server's settings describe.
func LayoutOf(s *config.Server) Layout {
	base := s.BasebackupsDirectory
	if s.BasebackupsCloud != nil {
		base = filepath.Join(s.BackupDirectory, "base") // only what is ours while a backup is made
	}
	l := Layout{Server: s.Name, BackupDir: s.BackupDirectory, BaseDir: base, MetaDir: s.MetaDirectory,
		WALDir: s.WALsDirectory, XlogDBDir: s.XlogDBDirectory, IncomingDir: s.IncomingWALsDirectory, StreamingDir: s.StreamingWALsDirectory,
		ErrorsDir: s.ErrorsDirectory, LockDir: s.LockDirectory}
	if s.WALsCloud != nil {
		l.WALDir = ""
	}
	return l
}
