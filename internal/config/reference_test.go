package config

import (
	"bytes"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the files that tests compare with")

func compare(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s is not what the declarations say; run go test ./internal/config -update and look at the difference", path)
	}
}

func TestReference(t *testing.T) {
	var b bytes.Buffer
	if err := WriteReference(&b); err != nil {
		t.Fatal(err)
	}
	compare(t, "../../docs/configuration.md", b.Bytes())
	for _, o := range append(append([]*Option{}, globalOptions...), serverOptions...) {
		if n := strings.Count(b.String(), "| `"+o.Name+"` |"); n != 1 {
			t.Errorf("%s stands %d times in the reference", o.Name, n)
		}
	}
}

func TestDeclarations(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range append(append([]*Option{}, globalOptions...), serverOptions...) {
		if seen[o.Name] {
			t.Errorf("%s is declared twice", o.Name)
		}
		seen[o.Name] = true
		if !regexp.MustCompile(`^[A-Z0-9].*\.$`).MatchString(o.Doc) && !regexp.MustCompile(`^application_name .*\.$`).MatchString(o.Doc) {
			t.Errorf("%s: the description %q is no sentence", o.Name, o.Doc)
		}
		if strings.Trim(o.Scope, "GSM") != "" {
			t.Errorf("%s: scope %q", o.Name, o.Scope)
		}
		if o.Topic == "" {
			t.Errorf("%s has no topic", o.Name)
		}
		if (o.Type == "enum" || o.Type == "csv") != (o.Values != nil) {
			t.Errorf("%s: type %s with values %v", o.Name, o.Type, o.Values)
		}
		if o.Instead != "" && !seen[o.Instead] && named(serverOptions, o.Instead) == nil {
			t.Errorf("%s is said to be replaced by %s, which does not exist", o.Name, o.Instead)
		}
		if allowed, is := strings.CutPrefix(o.Backup, "only:"); is {
			for _, v := range strings.Split(allowed, ",") {
				if _, known := o.oneOf(v); !known {
					t.Errorf("%s: backup allows %q, which is no value", o.Name, v)
				}
			}
		} else if o.Backup != "" && o.Backup != "refused" {
			t.Errorf("%s: backup %q", o.Name, o.Backup)
		}
	}
	want := wordSet(barmanOptions + ownOptions)
	for name := range want {
		if !seen[name] {
			t.Errorf("%s is not declared", name)
		}
	}
	for name := range seen {
		if !want[name] {
			t.Errorf("%s is declared, but nobody asked for it", name)
		}
	}
}

const ownOptions = ` holdfast_state_directory holdfast_session_lease holdfast_backup_deadline
holdfast_wal_wait holdfast_backup_schedule holdfast_maintenance_interval holdfast_hook_timeout
holdfast_endpoint_url holdfast_s3_addressing_style holdfast_cloud_volume_size holdfast_cloud_compression
holdfast_cloud_reuse holdfast_replicas holdfast_replica_quorum holdfast_bad_pages holdfast_snapshot_hold holdfast_snapshot_timeout holdfast_snapshot_directory holdfast_snapshot_multi_volume holdfast_snapshot_endpoint
holdfast_snapshot_prefix holdfast_snapshot_create_command holdfast_snapshot_list_command holdfast_snapshot_delete_command holdfast_tags holdfast_azure_encryption_scope holdfast_gcs_kms_key`

// barmanOptions are those of [barman], model, and what Barman 3.20 prints as the
// configuration of a server.
const barmanOptions = `
barman_home barman_lock_directory barman_user config_changes_queue configuration_files_directory
lock_directory_cleanup log_file log_level model
active archiver archiver_batch_size autogenerate_manifest aws_await_snapshots_timeout aws_check_object_lock
aws_encryption aws_profile aws_read_timeout aws_region aws_snapshot_lock_cool_off_period
aws_snapshot_lock_duration aws_snapshot_lock_expiration_date aws_snapshot_lock_mode aws_sse_customer_key
aws_sse_kms_key_id azure_credential azure_resource_group azure_subscription_id backup_compression
backup_compression_format backup_compression_level backup_compression_location backup_compression_workers
backup_directory backup_method backup_options bandwidth_limit basebackup_retry_sleep basebackup_retry_times
basebackups_directory check_timeout cloud_delete_batch_size cloud_staging_directory cloud_staging_max_size
cloud_upload_max_archive_size cloud_upload_min_chunk_size cloud_wal_archive_parallel
cloud_wal_restore_parallel cluster combine_mode compression compression_level conninfo create_slot
custom_compression_filter custom_compression_magic custom_decompression_filter description disabled encryption
encryption_key_id encryption_passphrase_command errors_directory forward_config_path gcp_project gcp_zone
immediate_checkpoint incoming_wals_directory keepalive_interval last_backup_maximum_age
last_backup_minimum_size last_wal_maximum_age local_staging_path max_incoming_wals_queue minimum_redundancy
network_compression parallel_jobs parallel_jobs_start_batch_period parallel_jobs_start_batch_size path_prefix
post_archive_retry_script post_archive_script post_backup_retry_script post_backup_script
post_delete_retry_script post_delete_script post_recovery_retry_script post_recovery_script
post_wal_delete_retry_script post_wal_delete_script pre_archive_retry_script pre_archive_script
pre_backup_retry_script pre_backup_script pre_delete_retry_script pre_delete_script pre_recovery_retry_script
pre_recovery_script pre_wal_delete_retry_script pre_wal_delete_script primary_checkpoint_timeout
primary_conninfo primary_ssh_command recovery_options recovery_staging_path retention_policy
retention_policy_mode reuse_backup slot_name snapshot_disks snapshot_gcp_project snapshot_instance
snapshot_provider snapshot_zone ssh_command staging_location staging_path streaming_archiver
streaming_archiver_batch_size streaming_archiver_name streaming_backup_name streaming_conninfo
streaming_wals_directory tablespace_bandwidth_limit wal_conninfo wal_retention_policy wal_streaming_conninfo
wals_directory warehousepg_dbid worm_mode xlogdb_directory`
