package config

import "time"

// HookOptions are commands that are run before and after an event. A script
// runs once; a retry script runs until it returns 0, 62 or 63.
type HookOptions struct {
	PreBackupScript          string `ini:"pre_backup_script" type:"shell" scope:"GS" doc:"Run once, before a backup."`
	PreBackupRetryScript     string `ini:"pre_backup_retry_script" type:"shell" scope:"GS" doc:"Run until it succeeds, before a backup."`
	PostBackupScript         string `ini:"post_backup_script" type:"shell" scope:"GS" doc:"Run once, after a backup."`
	PostBackupRetryScript    string `ini:"post_backup_retry_script" type:"shell" scope:"GS" doc:"Run until it succeeds, after a backup."`
	PreDeleteScript          string `ini:"pre_delete_script" type:"shell" scope:"GS" doc:"Run once, before a backup is deleted."`
	PreDeleteRetryScript     string `ini:"pre_delete_retry_script" type:"shell" scope:"GS" doc:"Run until it succeeds, before a backup is deleted."`
	PostDeleteScript         string `ini:"post_delete_script" type:"shell" scope:"GS" doc:"Run once, after a backup is deleted."`
	PostDeleteRetryScript    string `ini:"post_delete_retry_script" type:"shell" scope:"GS" doc:"Run until it succeeds, after a backup is deleted."`
	PreArchiveScript         string `ini:"pre_archive_script" type:"shell" scope:"GS" doc:"Run once, before a WAL file is archived."`
	PreArchiveRetryScript    string `ini:"pre_archive_retry_script" type:"shell" scope:"GS" doc:"Run until it succeeds, before a WAL file is archived."`
	PostArchiveScript        string `ini:"post_archive_script" type:"shell" scope:"GS" doc:"Run once, after a WAL file is archived."`
	PostArchiveRetryScript   string `ini:"post_archive_retry_script" type:"shell" scope:"GS" doc:"Run until it succeeds, after a WAL file is archived."`
	PreWALDeleteScript       string `ini:"pre_wal_delete_script" type:"shell" scope:"GS" doc:"Run once, before a WAL file is deleted."`
	PreWALDeleteRetryScript  string `ini:"pre_wal_delete_retry_script" type:"shell" scope:"GS" doc:"Run until it succeeds, before a WAL file is deleted."`
	PostWALDeleteScript      string `ini:"post_wal_delete_script" type:"shell" scope:"GS" doc:"Run once, after a WAL file is deleted."`
	PostWALDeleteRetryScript string `ini:"post_wal_delete_retry_script" type:"shell" scope:"GS" doc:"Run until it succeeds, after a WAL file is deleted."`
	PreRecoveryScript        string `ini:"pre_recovery_script" type:"shell" scope:"GS" doc:"Run once, before a restore."`
	PreRecoveryRetryScript   string `ini:"pre_recovery_retry_script" type:"shell" scope:"GS" doc:"Run until it succeeds, before a restore."`
	PostRecoveryScript       string `ini:"post_recovery_script" type:"shell" scope:"GS" doc:"Run once, after a restore."`
	PostRecoveryRetryScript  string `ini:"post_recovery_retry_script" type:"shell" scope:"GS" doc:"Run until it succeeds, after a restore."`

	HoldfastHookTimeout time.Duration `ini:"holdfast_hook_timeout" type:"duration" default:"1h" scope:"GS" strict:"true" doc:"How long a script may run before it is killed, which counts as a failure."`
}
