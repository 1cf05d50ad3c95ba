package config

import "fmt"

// checkCompression finds what no version of pg_basebackup accepts.
func (s *Server) checkCompression() {
	if s.BackupCompression == "" {
		s.checkUnusedCompression()
		return
	}
	if s.BackupCompressionFormat == "plain" && s.BackupCompressionLocation != "server" {
		s.fail(&s.BackupCompressionFormat, "the client stores what it compresses as tar", "set backup_compression_location to server")
	}
	if s.BackupCompressionWorkers != nil && s.BackupCompression != "zstd" {
		s.fail(&s.BackupCompressionWorkers, "only zstd has workers", "remove it")
	}
	if s.BackupCompressionLevel == nil {
		return
	}
	low, high := 0, 0
	switch s.BackupCompression {
	case "gzip":
		low, high = -1, 9
	case "lz4":
		high = 12
	case "zstd":
		low, high = -131072, 22
	}
	if level := *s.BackupCompressionLevel; level < low || level > high {
		s.fail(&s.BackupCompressionLevel, "the level does not exist for "+s.BackupCompression, "remove it to use the default")
	}
}

// checkUnusedCompression warns about what only modifies backup_compression.
func (s *Server) checkUnusedCompression() {
	if s.failed(&s.BackupCompression) {
		return
	}
	for _, o := range []struct {
		field any
		set   bool
	}{
		{&s.BackupCompressionFormat, s.BackupCompressionFormat != ""},
		{&s.BackupCompressionLocation, s.BackupCompressionLocation != ""},
		{&s.BackupCompressionLevel, s.BackupCompressionLevel != nil},
		{&s.BackupCompressionWorkers, s.BackupCompressionWorkers != nil},
	} {
		if o.set {
			s.warn(o.field, "it has no effect without backup_compression", "set that to gzip, lz4, zstd or none, or remove the line")
		}
	}
}

// firstCompressor is the version that brought lz4, zstd and compression on the server.
const firstCompressor = 15

// CompressionProblems are the options of compression that a pg_basebackup or a
// server of these major versions does not accept.
func (s *Server) CompressionProblems(tool, server int) []Problem {
	var out []Problem
	if s.BackupMethod != MethodPostgres || s.BackupCompression == "" {
		return out
	}
	refuse := func(field any, message, hint string) {
		out = append(out, s.blame(s.option(field), false, message, hint))
	}
	newer := fmt.Sprintf("install postgresql-client-%d or later and let path_prefix name its directory, or ", firstCompressor)
	if (s.BackupCompression == "lz4" || s.BackupCompression == "zstd") && tool < firstCompressor {
		refuse(&s.BackupCompression, fmt.Sprintf("pg_basebackup is of version %d; %s came with version %d", tool, s.BackupCompression, firstCompressor), newer+"use gzip")
	}
	if s.BackupCompressionLocation == "server" {
		switch {
		case server < firstCompressor:
			refuse(&s.BackupCompressionLocation, fmt.Sprintf("PostgreSQL is of version %d; it compresses from version %d on", server, firstCompressor), "set it to client")
		case tool < firstCompressor:
			refuse(&s.BackupCompressionLocation, fmt.Sprintf("pg_basebackup is of version %d; servers compress for version %d and later", tool, firstCompressor), newer+"set it to client")
		}
	}
	if level := s.BackupCompressionLevel; s.BackupCompression == "gzip" && level != nil && *level == 0 && tool >= firstCompressor {
		refuse(&s.BackupCompressionLevel, fmt.Sprintf("pg_basebackup is of version %d, and has no level 0 from version %d on", tool, firstCompressor), "use a level from 1 to 9, or backup_compression = none")
	}
	sortProblems(out)
	return out
}
