package catalog

import "github.com/holdfast-pg/holdfast/internal/config"

// LayoutOf is the layout that a server's settings describe.
func LayoutOf(s *config.Server) Layout {
	l := Layout{Server: s.Name, BackupDir: s.BackupDirectory, BaseDir: s.BasebackupsDirectory, MetaDir: s.MetaDirectory,
		WALDir: s.WALsDirectory, XlogDBDir: s.XlogDBDirectory, IncomingDir: s.IncomingWALsDirectory, StreamingDir: s.StreamingWALsDirectory,
		ErrorsDir: s.ErrorsDirectory, LockDir: s.LockDirectory}
	if s.WALsCloud != nil {
		l.WALDir = ""
	}
	return l
}
