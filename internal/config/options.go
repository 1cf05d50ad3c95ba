package config

import "time"

// Methods of taking a backup.
const (
	MethodRsync        = "rsync"
	MethodPostgres     = "postgres"
	MethodLocalRsync   = "local-rsync"
	MethodSnapshot     = "snapshot"
	MethodLocalToCloud = "local-to-cloud"
)

// GeneralOptions say what a server is and where its files lie.
type GeneralOptions struct {
	Active                 bool          `ini:"active" type:"bool" default:"true" scope:"SM" strict:"true" doc:"Whether anything is done for this server at all."`
	_                      bool          `ini:"disabled" type:"bool" default:"false" scope:"" doc:"Shown for a server whose configuration has errors. It cannot be set."`
	Description            string        `ini:"description" type:"string" scope:"SM" doc:"Free text for lists."`
	Cluster                string        `ini:"cluster" type:"string" computed:"name of the server" scope:"SM" doc:"Cluster that the server or model belongs to; a model fits the servers of its cluster."`
	Model                  bool          `ini:"model" type:"bool" default:"false" scope:"SM" strict:"true" doc:"Marks a section as a model: options that override those of a server while the model is active."`
	BackupDirectory        string        `ini:"backup_directory" type:"path" computed:"barman_home/SERVER" scope:"S" strict:"true" doc:"Directory of everything that is kept about the server."`
	BasebackupsDirectory   string        `ini:"basebackups_directory" type:"place" computed:"backup_directory/base" scope:"S" strict:"true" doc:"Directory or bucket of the base backups."`
	WALsDirectory          string        `ini:"wals_directory" type:"place" computed:"backup_directory/wals" scope:"S" strict:"true" doc:"Directory or bucket of the WAL archive."`
	IncomingWALsDirectory  string        `ini:"incoming_wals_directory" type:"path" computed:"backup_directory/incoming" scope:"S" strict:"true" doc:"Directory that archive_command delivers to."`
	StreamingWALsDirectory string        `ini:"streaming_wals_directory" type:"path" computed:"backup_directory/streaming" scope:"S" strict:"true" doc:"Directory that WAL is streamed to."`
	ErrorsDirectory        string        `ini:"errors_directory" type:"path" computed:"backup_directory/errors" scope:"S" strict:"true" doc:"Directory of WAL files that could not be archived."`
	XlogDBDirectory        string        `ini:"xlogdb_directory" type:"path" computed:"wals_directory; backup_directory/meta when that is a bucket" scope:"GS" strict:"true" doc:"Directory of the list of archived WAL (SERVER-xlog.db)."`
	PathPrefix             string        `ini:"path_prefix" type:"string" scope:"GSM" doc:"Directories, separated by colons, that are searched for programs before those of PATH."`
	CheckTimeout           time.Duration `ini:"check_timeout" type:"seconds" default:"30" min:"0" scope:"GSM" doc:"How long the check of one server may take; 0 for as long as it likes."`
	ForwardConfigPath      bool          `ini:"forward_config_path" type:"bool" default:"false" scope:"GSM" doc:"Name the configuration file in the commands that are run on other hosts."`
}

// ConnectionOptions say how a server is reached.
type ConnectionOptions struct {
	Conninfo                 DSN           `ini:"conninfo" type:"dsn" scope:"SM" strict:"true" doc:"Connection string for SQL. Required unless the server is passive or not active."`
	StreamingConninfo        DSN           `ini:"streaming_conninfo" type:"dsn" computed:"conninfo" scope:"SM" strict:"true" doc:"Connection string for the replication protocol."`
	WALConninfo              DSN           `ini:"wal_conninfo" type:"dsn" scope:"SM" strict:"true" doc:"Connection string for SQL about WAL streaming, when WAL comes from another host than conninfo's."`
	WALStreamingConninfo     DSN           `ini:"wal_streaming_conninfo" type:"dsn" scope:"SM" strict:"true" doc:"Connection string that WAL is streamed from, when it is another host than streaming_conninfo's."`
	PrimaryConninfo          DSN           `ini:"primary_conninfo" type:"dsn" scope:"SM" strict:"true" doc:"Connection string of the primary, when conninfo names a standby."`
	PrimaryCheckpointTimeout time.Duration `ini:"primary_checkpoint_timeout" type:"seconds" default:"0" min:"0" scope:"SM" doc:"How long to wait for WAL to be archived before a checkpoint is forced on the primary."`
	PrimarySSHCommand        string        `ini:"primary_ssh_command" type:"shell" scope:"GSM" backup:"refused" doc:"How the primary backup host is reached. It makes the server passive: backups are copied from there instead of taken."`
	SSHCommand               string        `ini:"ssh_command" type:"shell" scope:"SM" doc:"How the PostgreSQL host is reached. Required for rsync and snapshot, forbidden for local-rsync."`
	StreamingBackupName      string        `ini:"streaming_backup_name" type:"string" default:"barman_streaming_backup" scope:"GSM" doc:"application_name of pg_basebackup's connection."`
	StreamingArchiverName    string        `ini:"streaming_archiver_name" type:"string" default:"barman_receive_wal" scope:"GSM" doc:"application_name of the connection that WAL is streamed over."`
	KeepaliveInterval        time.Duration `ini:"keepalive_interval" type:"seconds" default:"60" min:"0" scope:"GSM" doc:"Pause between the queries that keep an idle session alive; 0 for none. Barman reads it in a server's section only."`
	NetworkCompression       bool          `ini:"network_compression" type:"bool" default:"false" scope:"GSM" doc:"Compress what rsync sends over the network. Forbidden for postgres and snapshot."`
	WarehousePGDBID          *int          `ini:"warehousepg_dbid" type:"int" scope:"GSM" backup:"refused" doc:"Database identifier of a WarehousePG segment."`
}

// CopyOptions say how a backup is taken.
type CopyOptions struct {
	BackupMethod               string        `ini:"backup_method" type:"enum" values:"rsync,postgres,local-rsync,snapshot,local-to-cloud" default:"rsync" scope:"GSM" strict:"true" backup:"only:rsync,postgres,local-rsync,snapshot,local-to-cloud" doc:"How a backup is taken."`
	BackupOptions              []string      `ini:"backup_options" type:"csv" values:"concurrent_backup,exclusive_backup,external_configuration" scope:"GSM" strict:"true" doc:"Kind of backup (concurrent unless exclusive is asked for), and whether configuration files outside the data directory are looked after elsewhere."`
	ImmediateCheckpoint        bool          `ini:"immediate_checkpoint" type:"bool" default:"false" scope:"GSM" doc:"Begin with a checkpoint at full speed instead of one that spares the server."`
	ReuseBackup                string        `ini:"reuse_backup" type:"enum" values:"off,copy,link" scope:"GSM" doc:"What an rsync backup does with files that the previous backup has already: nothing, copy, or hard-link them. Forbidden for postgres and snapshot."`
	ParallelJobs               int           `ini:"parallel_jobs" type:"int" default:"1" min:"1" scope:"GSM" doc:"Number of copies that run at the same time."`
	ParallelJobsStartBatchSize int           `ini:"parallel_jobs_start_batch_size" type:"int" default:"10" min:"1" scope:"GSM" doc:"Number of jobs that may be started within one period."`
	ParallelJobsStartPeriod    time.Duration `ini:"parallel_jobs_start_batch_period" type:"seconds" default:"1" min:"1" scope:"GSM" doc:"Length of that period."`
	BandwidthLimit             int           `ini:"bandwidth_limit" type:"kB/s" min:"0" scope:"GSM" doc:"Limit of a backup's copying as a whole, all jobs together; 0 for none."`
	TablespaceBandwidthLimit   Rates         `ini:"tablespace_bandwidth_limit" type:"rates" scope:"GSM" doc:"Limits for single tablespaces. Forbidden for postgres and snapshot."`
	BasebackupRetryTimes       int           `ini:"basebackup_retry_times" type:"int" default:"0" min:"0" scope:"GSM" doc:"How often a copy command that failed is tried again."`
	BasebackupRetrySleep       time.Duration `ini:"basebackup_retry_sleep" type:"seconds" default:"30" min:"0" scope:"GSM" doc:"Pause before that."`
	BackupCompression          string        `ini:"backup_compression" type:"enum" values:"gzip,lz4,zstd,none" scope:"GSM" strict:"true" doc:"Compression of a postgres backup. Forbidden for rsync, local-rsync and snapshot."`
	BackupCompressionFormat    string        `ini:"backup_compression_format" type:"enum" values:"plain,tar" scope:"GSM" doc:"Whether a compressed backup is stored as files or as tar archives; tar unless set."`
	BackupCompressionLevel     *int          `ini:"backup_compression_level" type:"int" scope:"GSM" doc:"Level: gzip -1 to 9, lz4 0 to 12, zstd -131072 to 22."`
	BackupCompressionLocation  string        `ini:"backup_compression_location" type:"enum" values:"client,server" scope:"GSM" doc:"Where a backup is compressed."`
	BackupCompressionWorkers   *int          `ini:"backup_compression_workers" type:"int" min:"0" scope:"GSM" doc:"Number of threads, zstd only."`
	Encryption                 string        `ini:"encryption" type:"enum" values:"none,gpg" default:"none" scope:"GSM" strict:"true" doc:"Encryption of backups and WAL: gpg for the key that encryption_key_id names. It needs backup_method = postgres, backup_compression, and backup_compression_format = tar."`
	EncryptionKeyID            string        `ini:"encryption_key_id" type:"string" scope:"GSM" doc:"Key that is encrypted for, as gpg names it; best its fingerprint."`
	EncryptionPassphrase       Secret        `ini:"encryption_passphrase_command" type:"secret" scope:"GSM" doc:"Command that prints the passphrase of the key, for restores and for the proof of WAL. It is never shown."`
	AutogenerateManifest       bool          `ini:"autogenerate_manifest" type:"bool" default:"false" scope:"GSM" doc:"Write a backup_manifest in PostgreSQL's format into rsync backups."`
	WORMMode                   bool          `ini:"worm_mode" type:"bool" default:"off" scope:"GSM" strict:"true" doc:"The repository cannot be changed once written: nothing is purged by a backup."`
}

// WALOptions say how WAL comes in and is stored.
type WALOptions struct {
	Archiver                   bool     `ini:"archiver" type:"bool" default:"off" scope:"GSM" doc:"WAL is delivered by archive_command. It is on whenever streaming_archiver is off."`
	ArchiverBatchSize          int      `ini:"archiver_batch_size" type:"int" default:"0" min:"0" scope:"GSM" doc:"WAL files that one run archives; 0 for all."`
	StreamingArchiver          bool     `ini:"streaming_archiver" type:"bool" default:"off" scope:"GSM" doc:"WAL is streamed by pg_receivewal, which holdfast up keeps running."`
	StreamingArchiverBatchSize int      `ini:"streaming_archiver_batch_size" type:"int" default:"0" min:"0" scope:"GSM" doc:"Streamed WAL files that one run archives; 0 for all."`
	SlotName                   string   `ini:"slot_name" type:"slot" scope:"GSM" doc:"Replication slot that WAL is streamed from."`
	CreateSlot                 string   `ini:"create_slot" type:"enum" values:"manual,auto" default:"manual" scope:"GSM" doc:"Whether a missing slot is created: auto makes it when WAL begins to be streamed."`
	Compression                string   `ini:"compression" type:"enum" values:"gzip,bzip2,pygzip,pybzip2,pigz,xz,zstd,lz4,snappy,custom" text:"true" scope:"GSM" strict:"true" doc:"Compression of archived WAL; none unless set."`
	CompressionLevel           string   `ini:"compression_level" type:"level" default:"medium" scope:"GSM" doc:"Level of that compression: low, medium, high or a number."`
	CustomCompressionFilter    string   `ini:"custom_compression_filter" type:"shell" scope:"GSM" doc:"Command that compresses, for custom."`
	CustomDecompressionFilter  string   `ini:"custom_decompression_filter" type:"shell" scope:"GSM" doc:"Command that decompresses, for custom."`
	CustomCompressionMagic     string   `ini:"custom_compression_magic" type:"magic" scope:"GSM" doc:"First bytes of files that the custom command made."`
	MaxIncomingWALsQueue       *int     `ini:"max_incoming_wals_queue" type:"int" min:"0" scope:"GSM" doc:"Number of waiting WAL files from which on check complains."`
	RecoveryOptions            []string `ini:"recovery_options" type:"csv" values:"get-wal,delta-restore" scope:"GSM" doc:"What a restore does unless its command line says otherwise."`
	CombineMode                string   `ini:"combine_mode" type:"enum" values:"copy,link,clone,copy-file-range" default:"copy" scope:"GSM" doc:"How the files of incremental backups are combined."`
	StagingPath                string   `ini:"staging_path" type:"path" scope:"GSM" doc:"Directory where backups are unpacked and combined for a restore."`
	StagingLocation            string   `ini:"staging_location" type:"enum" values:"local,remote" default:"local" scope:"GSM" doc:"Host that staging_path is on."`
	LocalStagingPath           string   `ini:"local_staging_path" type:"path" scope:"GSM" instead:"staging_path" doc:"Directory for combining incremental backups."`
	RecoveryStagingPath        string   `ini:"recovery_staging_path" type:"path" scope:"GSM" instead:"staging_path" doc:"Directory for unpacking compressed backups."`
}

// RetentionOptions say what is kept and what check demands.
type RetentionOptions struct {
	RetentionPolicy       Retention     `ini:"retention_policy" type:"retention" scope:"GSM" strict:"true" doc:"Which backups are kept; all unless set."`
	RetentionPolicyMode   string        `ini:"retention_policy_mode" type:"enum" values:"auto" default:"auto" scope:"GSM" doc:"How the policy is enforced."`
	WALRetentionPolicy    string        `ini:"wal_retention_policy" type:"enum" values:"main" default:"main" scope:"GSM" doc:"Which WAL is kept: that of the backups."`
	MinimumRedundancy     int           `ini:"minimum_redundancy" type:"int" default:"0" min:"0" scope:"GSM" strict:"true" doc:"Number of backups below which none is deleted."`
	LastBackupMaximumAge  time.Duration `ini:"last_backup_maximum_age" type:"interval" scope:"GSM" doc:"Age of the latest backup from which on check complains."`
	LastBackupMinimumSize Size          `ini:"last_backup_minimum_size" type:"size" scope:"GSM" doc:"Size of the latest backup below which check complains."`
	LastWALMaximumAge     time.Duration `ini:"last_wal_maximum_age" type:"interval" scope:"GSM" doc:"Age of the latest WAL file from which on check complains."`
}

// HoldfastOptions are ours; Barman warns about them and goes on.
type HoldfastOptions struct {
	HoldfastBackupDeadline      time.Duration `ini:"holdfast_backup_deadline" type:"duration" default:"24h" scope:"GSM" strict:"true" doc:"How long one backup may take, with everything that is repeated after failures."`
	HoldfastWALWait             time.Duration `ini:"holdfast_wal_wait" type:"duration" default:"15m" scope:"GSM" strict:"true" doc:"How long a backup waits for its WAL before it ends as WAITING_FOR_WALS."`
	HoldfastBackupSchedule      string        `ini:"holdfast_backup_schedule" type:"schedule" scope:"GSM" strict:"true" doc:"When backups are taken; applied by holdfast up and by holdfast schedule apply."`
	HoldfastMaintenanceInterval time.Duration `ini:"holdfast_maintenance_interval" type:"duration" default:"5m" scope:"GSM" strict:"true" doc:"How often holdfast up archives what arrived, finishes proofs, applies the retention policy and clears up."`
}
