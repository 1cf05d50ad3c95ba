package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-pg/holdfast/internal/shellwords"
)

func (s *Server) fail(field any, message, hint string) {
	s.problems = append(s.problems, s.blame(s.option(field), false, message, hint))
}

func (s *Server) warn(field any, message, hint string) {
	s.problems = append(s.problems, s.blame(s.option(field), true, message, hint))
}

// checkRules finds options that contradict each other.
func (s *Server) checkRules() {
	s.checkArchivers()
	if s.Active && !s.Passive && s.Conninfo.IsZero() && !s.failed(&s.Conninfo) {
		s.fail(&s.Conninfo, "it is missing", "set it to a connection string such as host=pg user=barman dbname=postgres")
	}
	if slices.Contains(s.BackupOptions, "concurrent_backup") && s.Exclusive {
		s.fail(&s.BackupOptions, "a backup is either concurrent or exclusive", "keep concurrent_backup")
	}
	s.checkObjectStore()
	s.checkReplicas()
	s.checkEncryption()
	if s.Passive || !s.Active || s.failed(&s.BackupMethod) {
		return
	}
	switch s.BackupMethod {
	case MethodPostgres:
		s.checkPostgres()
	case MethodRsync, MethodLocalRsync:
		if s.BackupCompression != "" {
			s.fail(&s.BackupCompression, "rsync backups are not compressed", "remove it, or use backup_method = postgres")
		}
		s.checkSSH()
	case MethodLocalToCloud:
		s.checkLocalToCloud()
	case MethodSnapshot:
		if s.SnapshotProvider == "" || s.onClouds() || s.SnapshotInstance != Localhost {
			s.checkSSH()
		}
		s.checkSnapshot()
	}
}

// failed reports whether the option's own value was refused already.
func (s *Server) failed(field any) bool {
	o := s.option(field)
	for _, p := range s.problems {
		if p.Option == o.Name && !p.Warning {
			return true
		}
	}
	return false
}

func (s *Server) checkArchivers() {
	if s.Passive || s.Archiver || s.StreamingArchiver {
		return
	}
	if !s.originOf(s.option(&s.Archiver)).Default {
		s.warn(&s.Archiver, "WAL has to come in somehow, and streaming_archiver is off too", "archiver is taken as on")
	}
	s.Archiver = true
}

func (s *Server) checkSSH() {
	local := s.BackupMethod == MethodLocalRsync
	switch {
	case local && s.SSHCommand != "":
		s.fail(&s.SSHCommand, "local-rsync reads the files of this host", "remove it, or use backup_method = rsync")
	case !local && s.SSHCommand == "":
		s.fail(&s.SSHCommand, "backup_method = "+s.BackupMethod+" needs it",
			"set it to a command such as ssh postgres@pg, or use backup_method = postgres")
	default:
		if _, err := shellwords.Split(s.SSHCommand); err != nil {
			s.fail(&s.SSHCommand, err.Error(), "close it, or put a backslash before it")
		}
	}
}

func (s *Server) checkPostgres() {
	if s.Exclusive && !s.failed(&s.BackupOptions) {
		s.warn(&s.BackupOptions, "pg_basebackup is always concurrent", "exclusive_backup is ignored")
		s.BackupOptions = slices.DeleteFunc(slices.Clone(s.BackupOptions),
			func(v string) bool { return v == "exclusive_backup" })
		s.Exclusive, s.Concurrent = false, true
	}
	s.forbidCopyOptions("pg_basebackup")
	s.checkCompression()
}

// forbidCopyOptions: options that only rsync can honour.
func (s *Server) forbidCopyOptions(who string) {
	if s.TablespaceBandwidthLimit != nil {
		s.fail(&s.TablespaceBandwidthLimit, who+" cannot limit single tablespaces", "remove it")
	}
	if s.ReuseBackup == "copy" || s.ReuseBackup == "link" {
		s.fail(&s.ReuseBackup, who+" cannot reuse an earlier backup", "remove it, or set it to off")
	}
	if s.NetworkCompression {
		s.fail(&s.NetworkCompression, who+" does not use it", "remove it, or set it to off")
	}
}

func (s *Server) checkLocalToCloud() {
	const who = "local-to-cloud"
	if s.BasebackupsCloud == nil && !s.failed(&s.BasebackupsDirectory) {
		s.fail(&s.BasebackupsDirectory, who+" stores backups in an object store", "set it to a URL such as s3://BUCKET/PATH, or use backup_method = local-rsync")
	}
	if s.Exclusive {
		s.fail(&s.BackupOptions, who+" is always concurrent", "remove exclusive_backup")
	}
	if s.BackupCompression != "" {
		s.fail(&s.BackupCompression, who+" does not use it", "remove it, and set holdfast_cloud_compression")
	}
	s.forbidCopyOptions(who)
}

func (s *Server) checkSnapshot() {
	s.forbidCopyOptions("a snapshot")
	if s.BackupCompression != "" {
		s.fail(&s.BackupCompression, "snapshots are not compressed", "remove it")
	}
	if s.BandwidthLimit != 0 {
		s.fail(&s.BandwidthLimit, "snapshots copy nothing", "remove it")
	}
	const needed = "backup_method = snapshot needs it"
	if s.SnapshotDisks == nil && !s.failed(&s.SnapshotDisks) {
		s.fail(&s.SnapshotDisks, needed, "name the disks that hold the cluster, separated by commas")
	}
	for i, d := range s.SnapshotDisks {
		if slices.Index(s.SnapshotDisks, d) < i {
			s.fail(&s.SnapshotDisks, "disk "+d+" is listed twice", "list each disk once")
			break
		}
	}
	if s.SnapshotInstance == "" {
		s.fail(&s.SnapshotInstance, needed, "name the instance that the disks are attached to")
	}
	switch {
	case s.SnapshotProvider == "" && !s.failed(&s.SnapshotProvider):
		s.fail(&s.SnapshotProvider, needed, "set it to aws, azure, gcp, btrfs, zfs, lvm or command")
	case s.SnapshotProvider == "gcp" && s.GCPProject == "":
		s.fail(&s.GCPProject, "snapshots on Google Cloud need it", "set it to the project's name")
	case s.SnapshotProvider == "azure" && s.AzureSubscriptionID == "":
		s.fail(&s.AzureSubscriptionID, "snapshots on Azure need it", "set it to the subscription's ID")
	case s.SnapshotProvider == "aws" && s.AWSSnapshotLockMode != "":
		s.checkSnapshotLock()
	case s.SnapshotProvider != "" && !s.onClouds():
		s.checkFileSystem()
	}
}

// Localhost is the instance whose disks are those of this host.
const Localhost = "localhost"

func (s *Server) onClouds() bool {
	return slices.Contains([]string{"aws", "azure", "gcp"}, s.SnapshotProvider)
}

// checkFileSystem: snapshots that are made on a host, by programs.
func (s *Server) checkFileSystem() {
	if s.SnapshotInstance == Localhost && s.SSHCommand != "" {
		s.fail(&s.SSHCommand, "the disks of localhost are those of this host", "remove it, or let snapshot_instance name the host that it leads to")
	}
	for _, d := range s.SnapshotDisks {
		group, name, two := strings.Cut(d, "/")
		switch p := s.SnapshotProvider; {
		case (p == "btrfs" || p == "command") && !filepath.IsAbs(d):
			s.fail(&s.SnapshotDisks, "disk "+d+" is no absolute path", "name directories: of subvolumes for btrfs, and those that your commands make snapshots of for command")
		case p == "zfs" && (group == "" || strings.ContainsAny(d, "@# ")):
			s.fail(&s.SnapshotDisks, "disk "+d+" is no dataset", "name datasets such as tank/pg")
		case p == "lvm" && (!two || group == "" || name == "" || strings.ContainsAny(name, "/@ ")):
			s.fail(&s.SnapshotDisks, "disk "+d+" is no volume", "name volumes as VG/LV")
		}
	}
	if s.SnapshotProvider != "command" {
		return
	}
	for _, c := range []struct {
		field *string
		what  string
	}{{&s.HoldfastSnapshotCreateCommand, "makes"}, {&s.HoldfastSnapshotListCommand, "lists"}, {&s.HoldfastSnapshotDeleteCommand, "deletes"}} {
		if *c.field == "" {
			s.fail(c.field, "snapshot_provider = command needs it", "set it to the command that "+c.what+" snapshots; docs/snapshot.md has an example")
		}
	}
}

func (s *Server) checkSnapshotLock() {
	unread := s.failed(&s.AWSSnapshotLockDuration) || s.failed(&s.AWSSnapshotLockExpiration)
	if !unread && (s.AWSSnapshotLockDuration == nil) == (s.AWSSnapshotLockExpiration == "") {
		s.fail(&s.AWSSnapshotLockMode, "a lock ends after a duration or on a date",
			"set exactly one of aws_snapshot_lock_duration and aws_snapshot_lock_expiration_date")
	}
	if s.AWSSnapshotLockCoolOffPeriod != nil && s.AWSSnapshotLockMode == "governance" {
		s.fail(&s.AWSSnapshotLockCoolOffPeriod, "a governance lock has no cool-off period", "remove it")
	}
}

// checkEncryption: gpg encrypts the archives of pg_basebackup, and nothing else.
func (s *Server) checkEncryption() {
	if s.Encryption != "gpg" || s.failed(&s.Encryption) {
		return
	}
	switch {
	case s.EncryptionKeyID == "":
		s.fail(&s.Encryption, "it does not say for which key", "set encryption_key_id to the fingerprint of a public key of gpg")
	case s.Passive || !s.Active || s.failed(&s.BackupMethod):
	case s.BackupMethod != MethodPostgres:
		s.fail(&s.Encryption, "backup_method = "+s.BackupMethod+" cannot encrypt", "use backup_method = postgres, or remove it")
	case s.BackupCompression == "":
		s.fail(&s.Encryption, "only archives are encrypted", "set backup_compression to gzip, lz4, zstd or none, and backup_compression_format = tar")
	case s.BackupCompressionFormat != "tar":
		s.fail(&s.Encryption, "only archives are encrypted", "set backup_compression_format = tar")
	}
}

func (s *Server) checkObjectStore() {
	if s.AWSSSEKMSKeyID != "" && s.AWSEncryption != "aws:kms" {
		s.fail(&s.AWSSSEKMSKeyID, "the key is used by aws_encryption = aws:kms only", "set that, or remove the key")
	}
	if s.AWSSSECustomerKey.Reveal() != "" && (s.AWSEncryption != "" || s.AWSSSEKMSKeyID != "") {
		s.fail(&s.AWSSSECustomerKey, "it excludes aws_encryption and aws_sse_kms_key_id", "keep one kind of encryption")
	}
	s.checkVolumeSize()
}

// Bounds of holdfast_cloud_volume_size: below, stores would be asked for too many
// objects; above, Barman's tools do not go.
const (
	smallestVolume = 8 << 20
	largestVolume  = 1 << 40
)

func (s *Server) checkVolumeSize() {
	switch size := s.HoldfastCloudVolumeSize; {
	case size == 0 || s.failed(&s.HoldfastCloudVolumeSize):
	case size < smallestVolume || size > largestVolume:
		s.fail(&s.HoldfastCloudVolumeSize, "it has to lie between 8Mi and 1Ti", "set it to 256Mi, or remove it")
	case size > s.CloudUploadMaxArchiveSize:
		s.fail(&s.HoldfastCloudVolumeSize, "it is more than cloud_upload_max_archive_size = "+s.CloudUploadMaxArchiveSize.String(), "lower it, or raise that")
	}
}

// checkReplicas: every destination is another one, and there are enough of them.
func (s *Server) checkReplicas() {
	if s.failed(&s.HoldfastReplicas) || s.failed(&s.HoldfastReplicaQuorum) {
		return
	}
	if len(s.HoldfastReplicas) > 0 && s.Active && !s.Passive && s.BackupMethod != MethodLocalToCloud && !s.failed(&s.BackupMethod) {
		s.fail(&s.HoldfastReplicas, "backup_method = "+s.BackupMethod+" has no replicas", "remove it, or use backup_method = local-to-cloud")
		return
	}
	seen := map[string]string{strings.TrimRight(s.BasebackupsDirectory, "/"): "basebackups_directory"}
	for _, url := range s.HoldfastReplicas {
		if where := seen[url]; where != "" {
			s.fail(&s.HoldfastReplicas, url+" is "+where+" already", "name each destination once")
			return
		}
		seen[url] = "one of the replicas"
	}
	if s.HoldfastReplicaQuorum > len(seen) {
		s.fail(&s.HoldfastReplicaQuorum, fmt.Sprintf("there are %d destinations, the main one included", len(seen)),
			fmt.Sprintf("set it to a number from 1 to %d, or name more URLs in holdfast_replicas", len(seen)))
	}
}

// checkSharedPaths finds directories that two options or two servers would
// both fill.
func checkSharedPaths(servers []*Server) {
	type user struct {
		server *Server
		option *Option
	}
	used := map[string]user{}
	for _, s := range servers {
		for _, field := range []*string{&s.BackupDirectory, &s.BasebackupsDirectory, &s.WALsDirectory,
			&s.IncomingWALsDirectory, &s.StreamingWALsDirectory, &s.ErrorsDirectory} {
			if *field == "" || strings.Contains(*field, "://") {
				continue
			}
			o := s.option(field)
			path := realPath(*field)
			first, taken := used[path]
			if !taken {
				used[path] = user{s, o}
				continue
			}
			s.fail(field, "the directory "+path+" is "+first.option.Name+" of server "+first.server.Name+" already", "give each its own")
			if first.server != s {
				first.server.problems = append(first.server.problems, first.server.blame(first.option, false,
					"the directory "+path+" is "+o.Name+" of server "+s.Name+" too", "give each its own"))
			}
		}
	}
}

// realPath follows the symbolic links of the part of a path that exists.
func realPath(path string) string {
	for rest, dir := "", path; ; rest, dir = filepath.Join(filepath.Base(dir), rest), filepath.Dir(dir) {
		if _, err := os.Lstat(dir); err == nil || dir == filepath.Dir(dir) {
			if real, err := filepath.EvalSymlinks(dir); err == nil {
				return filepath.Join(real, rest)
			}
			return path
		}
	}
}
