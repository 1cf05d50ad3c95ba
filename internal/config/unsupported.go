package config

import (
	"reflect"
	"slices"
	"strings"
)

// UnsupportedForBackup lists the options whose values ask a backup for what this
// version does not implement. A backup of such a server is refused, because
// ignoring one of them would produce another backup than was asked for.
func (s *Server) UnsupportedForBackup() []Problem {
	if s.Passive {
		return []Problem{s.blame(s.option(&s.PrimarySSHCommand), false, "a passive server copies backups instead of taking them",
			"take the backup on the primary backup host, or remove the option")}
	}
	var out []Problem
	for _, o := range serverOptions {
		if hint, refused := s.refuses(o); refused {
			out = append(out, s.blame(o, false, "this version does not implement it for a backup", hint))
		}
	}
	if s.BasebackupsCloud != nil && s.BackupMethod != MethodLocalToCloud && !s.ofCloudDisks() {
		out = append(out, s.blame(s.option(&s.BasebackupsDirectory), false, "this version backs up into object stores with local-to-cloud, and keeps the records of snapshots of aws, azure and gcp there", "use a directory, or backup_method = local-to-cloud"))
	}
	if s.WALsCloud != nil && s.Encryption != "" && s.Encryption != "none" {
		out = append(out, s.blame(s.option(&s.Encryption), false, "WAL in an object store is not encrypted with gpg",
			"let the store encrypt it (aws_encryption, or the bucket's own setting), or keep WAL in a directory"))
	}
	if s.WALsCloud != nil && s.Compression == "custom" {
		out = append(out, s.blame(s.option(&s.Compression), false, "WAL in an object store cannot have a compression of your own", "use gzip, zstd, lz4, bzip2, xz or snappy"))
	}
	sortProblems(out)
	return out
}

// ofCloudDisks reports whether backups are snapshots that Barman's cloud tools know.
func (s *Server) ofCloudDisks() bool {
	return s.BackupMethod == MethodSnapshot && slices.Contains([]string{"aws", "azure", "gcp"}, s.SnapshotProvider)
}

func (s *Server) refuses(o *Option) (hint string, refused bool) {
	if o.Backup == "" || (o.Methods != nil && !slices.Contains(o.Methods, s.BackupMethod)) {
		return "", false
	}
	v := s.field(o)
	allowed, is := strings.CutPrefix(o.Backup, "only:")
	if !is {
		hint = "remove it"
		if o.Default != "" {
			hint += ", or set it to " + o.Default
		}
		return hint, !reflect.DeepEqual(v.Interface(), o.zero.Interface())
	}
	values := []string{v.String()}
	if v.Kind() == reflect.Slice {
		values, _ = v.Interface().([]string)
	}
	for _, value := range values {
		if value != "" && !slices.Contains(strings.Split(allowed, ","), value) {
			return "use " + strings.ReplaceAll(allowed, ",", " or "), true
		}
	}
	return "", false
}
