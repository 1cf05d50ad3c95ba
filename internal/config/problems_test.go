package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/schedule"
)

// TestBadFiles has a file per row. Rows begin below base, so their first line is 3.
func TestBadFiles(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string // "barman.conf" left out; ! marks what disables a server
		disabled   string   // servers
	}{
		{"good", good, nil, ""},
		{"no equals sign", "[main]\nconninfo = host=pg\ngeheim\nbackup_method = postgres\n[ok]\nconninfo=host=b\nbackup_method=postgres", []string{
			"!:5: [main]: neither a section header nor an option; write [name] or option = value; indent a line to continue the value above it"}, "main"},
		{"bad line in [barman]", "geheim\n" + good, []string{
			"!:3: [barman]: neither a section header nor an option; write [name] or option = value; indent a line to continue the value above it"}, "main"},
		{"option in no section", "[]\nconninfo = host=x\n" + good, []string{
			"!:3: a section header without a name or a closing bracket; write it as [name]",
			"!:4: conninfo: an option outside of any section; put it below [barman] or below the name of a server"}, "main"},
		{"duplicate option", good + "conninfo = host=b\n", []string{
			"!:6: [main] conninfo: the option is set twice, first at line 4; keep one of the two"}, "main"},
		{"duplicate section", good + "[main]\n", []string{
			"!:6: [main]: the section is in this file twice, first at line 3; join the two"}, "main"},
		{"unknown option", good + "paralel_jobs = geheim\nxyz = geheim\npostgres://u:geheim@h = 1\n", []string{
			":6: [main] paralel_jobs: there is no such option; did you mean parallel_jobs?",
			":7: [main] xyz: there is no such option; it is ignored",
			":8: [main] postgres: there is no such option; it is ignored"}, ""},
		{"wrong place", "backup_directory = /x\n" + good + "log_level = DEBUG\ndisabled = true\n", []string{
			":3: [barman] backup_directory: the option has no effect here; it belongs into the section of a server",
			":7: [main] log_level: the option has no effect here; it belongs into [barman]",
			":8: [main] disabled: the option has no effect here; it is not set in files"}, ""},
		{"bad values with a fallback", good + "parallel_jobs = 0\ncheck_timeout = 1.5\nimmediate_checkpoint =\ncombine_mode = cop\nlast_backup_maximum_age = 3\nlast_backup_minimum_size = 3 GB\nslot_name = A\ntablespace_bandwidth_limit = a\n", []string{
			":6: [main] parallel_jobs = 0: expected an integer, at least 1; the line is ignored",
			":7: [main] check_timeout = 1.5: expected a number of seconds, at least 0; the line is ignored",
			":8: [main] immediate_checkpoint: expected true, t, yes, 1, on, false, f, no, 0 or off; remove the line to leave the option unset",
			":9: [main] combine_mode = cop: expected one of copy, link, clone, copy-file-range; did you mean copy?",
			":10: [main] last_backup_maximum_age = 3: expected a number of hours, days, weeks or months, such as 7 DAYS; the line is ignored",
			":11: [main] last_backup_minimum_size = 3 GB: expected an integer, perhaps with a unit: k, Ki, M, Mi, G, Gi, T, Ti; the line is ignored",
			":12: [main] slot_name = A: expected a slot name of lower-case letters, digits and underscores; the line is ignored",
			":13: [main] tablespace_bandwidth_limit = a: expected tablespace:kB/s pairs separated by blanks; the line is ignored"}, ""},
		{"bad values without", good + "wals_directory = ftp://x\nworm_mode = maybe\nretention_policy = REDUNDANCY 0\nholdfast_wal_wait = -1s\nholdfast_backup_schedule = * *\nholdfast_endpoint_url = http://a:s3cret@h\nholdfast_s3_addressing_style = paht\nholdfast_snapshot_endpoint = http://ec2.lan\n", []string{
			"!:6: [main] wals_directory = ftp://x: expected an absolute path, s3://..., gs://..., file:///... or the URL of an Azure container; begin it with a slash",
			"!:7: [main] worm_mode = maybe: expected true, t, yes, 1, on, false, f, no, 0 or off",
			"!:8: [main] retention_policy = REDUNDANCY 0: expected REDUNDANCY n or RECOVERY WINDOW OF n DAYS, WEEKS or MONTHS",
			"!:9: [main] holdfast_wal_wait = -1s: expected a duration such as 90m, 12h or 2 DAYS",
			"!:10: [main] holdfast_backup_schedule = * *: expected " + schedule.Form,
			"!:11: [main] holdfast_endpoint_url = ***: expected http://HOST:PORT or https://HOST:PORT, with neither user nor query",
			"!:12: [main] holdfast_s3_addressing_style = paht: expected one of auto, path, virtual; did you mean path?",
			"!:13: [main] holdfast_snapshot_endpoint = http://ec2.lan: expected https://HOST:PORT, or http:// of this host, with neither user nor query"}, "main"},
		{"bad value in [barman] that one server replaces", "minimum_redundancy = -1\n" + good + "minimum_redundancy = 2\n[b]\nconninfo=host=b\nbackup_method=postgres\n", []string{
			"!:3: [barman] minimum_redundancy = -1: expected an integer, at least 0"}, "b"},
		{"interpolation", good + "description = 5% off\npath_prefix = %(nope)s\nssh_command = %(ssh_command)s\n", []string{
			"!:6: [main] description: a percent sign begins %(name)s or must be doubled; a percent sign that is meant as such is written %%",
			"!:7: [main] path_prefix: %(nope)s refers to an option that this section does not have; a percent sign that is meant as such is written %%",
			"!:8: [main] ssh_command: its %(name)s references are nested too deeply, or refer to themselves; a percent sign that is meant as such is written %%"}, "main"},
		{"connection strings", "[main]\nbackup_method = postgres\nconninfo = host=pg password=geheim geheim\nstreaming_conninfo = postgresql://u:geheim/db\nwal_conninfo = password='geheim\n", []string{
			"!:5: [main] conninfo = ***: expected a PostgreSQL connection string (keyword=value pairs, or postgresql://); put single quotes around values that hold blanks, and encode special characters in a URI",
			"!:6: [main] streaming_conninfo = ***: expected a PostgreSQL connection string (keyword=value pairs, or postgresql://); put single quotes around values that hold blanks, and encode special characters in a URI",
			"!:7: [main] wal_conninfo = ***: expected a PostgreSQL connection string (keyword=value pairs, or postgresql://); put single quotes around values that hold blanks, and encode special characters in a URI"}, "main"},
		{"other secrets", good + "aws_sse_customer_key = geheim\n", []string{
			"!:6: [main] aws_sse_customer_key = ***: expected a file:// URI"}, "main"},
		{"no conninfo", "[main]\nbackup_method = postgres\n[off]\nactive = false\n[passive]\nprimary_ssh_command = ssh x\n", []string{
			"!:3: [main] conninfo: it is missing; set it to a connection string such as host=pg user=barman dbname=postgres"}, "main"},
		{"postgres", "reuse_backup = link\n" + good + "tablespace_bandwidth_limit = a:1\nnetwork_compression = on\nbackup_options = exclusive_backup\n", []string{
			"!:3: [barman] reuse_backup = link: server main: pg_basebackup cannot reuse an earlier backup; remove it, or set it to off",
			"!:7: [main] tablespace_bandwidth_limit = a:1: pg_basebackup cannot limit single tablespaces; remove it",
			"!:8: [main] network_compression = true: pg_basebackup does not use it; remove it, or set it to off",
			":9: [main] backup_options = exclusive_backup: pg_basebackup is always concurrent; exclusive_backup is ignored"}, "main"},
		{"compression", good + "backup_compression = lz4\nbackup_compression_format = plain\nbackup_compression_level = 13\nbackup_compression_workers = 2\n", []string{
			"!:7: [main] backup_compression_format = plain: the client stores what it compresses as tar; set backup_compression_location to server",
			"!:8: [main] backup_compression_level = 13: the level does not exist for lz4; remove it to use the default",
			"!:9: [main] backup_compression_workers = 2: only zstd has workers; remove it"}, "main"},
		{"levels", strings.Join([]string{level("g1", "gzip", 10), level("g2", "gzip", -2), level("g3", "gzip", -1), level("g4", "gzip", 0),
			level("l1", "lz4", -1), level("l2", "lz4", 12), level("z1", "zstd", 23), level("z2", "zstd", -131073), level("z3", "zstd", -131072), level("n1", "none", 1), level("n2", "none", 0)}, ""), []string{
			"!:7: [g1] backup_compression_level = 10: the level does not exist for gzip; remove it to use the default",
			"!:12: [g2] backup_compression_level = -2: the level does not exist for gzip; remove it to use the default",
			"!:27: [l1] backup_compression_level = -1: the level does not exist for lz4; remove it to use the default",
			"!:37: [z1] backup_compression_level = 23: the level does not exist for zstd; remove it to use the default",
			"!:42: [z2] backup_compression_level = -131073: the level does not exist for zstd; remove it to use the default",
			"!:52: [n1] backup_compression_level = 1: the level does not exist for none; remove it to use the default"}, "g1 g2 l1 n1 z1 z2"},
		{"compression that is good", good + "backup_compression = zstd\nbackup_compression_format = plain\nbackup_compression_location = server\nbackup_compression_workers = 0\n", nil, ""},
		{"compression that is no word", good + "backup_compression = xz\nbackup_compression_workers = -1\nbackup_compression_level = fast\nbackup_compression_format = zip\nbackup_compression_location = here\n", []string{
			"!:6: [main] backup_compression = xz: expected one of gzip, lz4, zstd, none",
			":7: [main] backup_compression_workers = -1: expected an integer, at least 0; the line is ignored",
			":8: [main] backup_compression_level = fast: expected an integer; the line is ignored",
			":9: [main] backup_compression_format = zip: expected one of plain, tar; the line is ignored",
			":10: [main] backup_compression_location = here: expected one of client, server; the line is ignored"}, "main"},
		{"no compression", good + "backup_compression_format = tar\nbackup_compression_level = 3\nbackup_compression_location = client\nbackup_compression_workers = 2\n", []string{
			":6: [main] backup_compression_format = tar: it has no effect without backup_compression; set that to gzip, lz4, zstd or none, or remove the line",
			":7: [main] backup_compression_level = 3: it has no effect without backup_compression; set that to gzip, lz4, zstd or none, or remove the line",
			":8: [main] backup_compression_location = client: it has no effect without backup_compression; set that to gzip, lz4, zstd or none, or remove the line",
			":9: [main] backup_compression_workers = 2: it has no effect without backup_compression; set that to gzip, lz4, zstd or none, or remove the line"}, ""},
		{"a quote without an end", "[a]\nconninfo = host=a\nssh_command = ssh -i 'my key pg\n", []string{
			"!:5: [a] ssh_command = ssh -i 'my key pg: the quote ' has no end; close it, or put a backslash before it",
		}, "a"},
		{"rsync", "[a]\nconninfo = host=a\n[b]\nconninfo = host=b\nbackup_method = local-rsync\nssh_command = ssh b\nbackup_compression = none\nbackup_options = exclusive_backup,concurrent_backup\n", []string{
			"!:3: [a] ssh_command: backup_method = rsync needs it; set it to a command such as ssh postgres@pg, or use backup_method = postgres",
			"!:8: [b] ssh_command = ssh b: local-rsync reads the files of this host; remove it, or use backup_method = rsync",
			"!:9: [b] backup_compression = none: rsync backups are not compressed; remove it, or use backup_method = postgres",
			"!:10: [b] backup_options = exclusive_backup,concurrent_backup: a backup is either concurrent or exclusive; keep concurrent_backup"}, "a b"},
		{"snapshot", "[a]\nconninfo = host=a\nssh_command = ssh a\nbackup_method = snapshot\nbandwidth_limit = 1\nsnapshot_provider = azure\nsnapshot_zone = z\nsnapshot_disks = a,,b\n", []string{
			"!:3: [a] snapshot_instance: backup_method = snapshot needs it; name the instance that the disks are attached to",
			"!:3: [a] azure_subscription_id: snapshots on Azure need it; set it to the subscription's ID",
			"!:7: [a] bandwidth_limit = 1: snapshots copy nothing; remove it",
			":9: [a] snapshot_zone = z: the option is deprecated; use gcp_zone",
			"!:10: [a] snapshot_disks = a,,b: expected names separated by commas, none of them empty"}, "a"},
		{"snapshot locks", "[a]\nconninfo = host=a\nssh_command = ssh a\nbackup_method = snapshot\nsnapshot_provider = aws\nsnapshot_disks = a, b, a\nsnapshot_instance = i\naws_snapshot_lock_mode = governance\naws_snapshot_lock_cool_off_period = 72\naws_snapshot_lock_duration = 36501\n", []string{
			"!:8: [a] snapshot_disks = a,b,a: disk a is listed twice; list each disk once",
			"!:11: [a] aws_snapshot_lock_cool_off_period = 72: a governance lock has no cool-off period; remove it",
			"!:12: [a] aws_snapshot_lock_duration = 36501: expected an integer from 1 to 36500"}, "a"},
		{"snapshots of file systems", "[a]\nconninfo = host=a\nbackup_method = snapshot\nsnapshot_provider = btrfs\nsnapshot_instance = localhost\nssh_command = ssh a\nsnapshot_disks = /srv/pg,pg\n" +
			"[b]\nconninfo = host=b\nbackup_method = snapshot\nsnapshot_provider = zfs\nsnapshot_instance = pg\nsnapshot_disks = tank/pg@x\n" +
			"[c]\nconninfo = host=c\nbackup_method = snapshot\nsnapshot_provider = lvm\nsnapshot_instance = localhost\nsnapshot_disks = pg\nholdfast_snapshot_hold = never\n" +
			"[d]\nconninfo = host=d\nbackup_method = snapshot\nsnapshot_provider = command\nsnapshot_instance = localhost\nsnapshot_disks = /d\nholdfast_snapshot_list_command = ls\nholdfast_snapshot_timeout = soon\n" +
			"[e]\nconninfo = host=e\nbackup_method = snapshot\nsnapshot_instance = localhost\nsnapshot_disks = /e\n", []string{
			"!:8: [a] ssh_command = ssh a: the disks of localhost are those of this host; remove it, or let snapshot_instance name the host that it leads to",
			"!:9: [a] snapshot_disks = /srv/pg,pg: disk pg is no absolute path; name directories: of subvolumes for btrfs, and those that your commands make snapshots of for command",
			"!:10: [b] ssh_command: backup_method = snapshot needs it; set it to a command such as ssh postgres@pg, or use backup_method = postgres",
			"!:15: [b] snapshot_disks = tank/pg@x: disk tank/pg@x is no dataset; name datasets such as tank/pg",
			"!:21: [c] snapshot_disks = pg: disk pg is no volume; name volumes as VG/LV",
			"!:22: [c] holdfast_snapshot_hold = never: expected one of cut, completed",
			"!:23: [d] holdfast_snapshot_create_command: snapshot_provider = command needs it; set it to the command that makes snapshots; docs/snapshot.md has an example",
			"!:23: [d] holdfast_snapshot_delete_command: snapshot_provider = command needs it; set it to the command that deletes snapshots; docs/snapshot.md has an example",
			"!:30: [d] holdfast_snapshot_timeout = soon: expected a duration such as 90m, 12h or 2 DAYS",
			"!:31: [e] ssh_command: backup_method = snapshot needs it; set it to a command such as ssh postgres@pg, or use backup_method = postgres",
			"!:31: [e] snapshot_provider: backup_method = snapshot needs it; set it to aws, azure, gcp, btrfs, zfs, lvm or command"}, "a b c d e"},
		{"tags, scope and key", good + "holdfast_tags = team\nholdfast_azure_encryption_scope = a b\nholdfast_gcs_kms_key = key\n", []string{
			"!:6: [main] holdfast_tags = team: expected at most ten NAME=VALUE pairs separated by commas, of letters, digits, blanks and + - . / : _",
			"!:7: [main] holdfast_azure_encryption_scope = a b: expected the name of an encryption scope: 3 to 63 letters, digits and single hyphens",
			"!:8: [main] holdfast_gcs_kms_key = key: expected projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY"}, "main"},
		{"keys in S3", good + "aws_sse_kms_key_id = k\naws_sse_customer_key = file:///k\n", []string{
			"!:6: [main] aws_sse_kms_key_id = k: the key is used by aws_encryption = aws:kms only; set that, or remove the key",
			"!:7: [main] aws_sse_customer_key = ***: it excludes aws_encryption and aws_sse_kms_key_id; keep one kind of encryption"}, "main"},
		{"volumes", good + "holdfast_cloud_volume_size = 8388607\nholdfast_cloud_reuse = all\nholdfast_cloud_compression = xz\nholdfast_bad_pages = ignore\n" +
			"[a]\nconninfo=host=a\nbackup_method=postgres\nholdfast_cloud_volume_size=2Ti\n[b]\nconninfo=host=b\nbackup_method=postgres\nholdfast_cloud_volume_size=101Gi\n" +
			"[c]\nconninfo=host=c\nbackup_method=postgres\nholdfast_cloud_volume_size=8Mi\n[d]\nconninfo=host=d\nbackup_method=postgres\nholdfast_cloud_volume_size=much\n", []string{
			"!:6: [main] holdfast_cloud_volume_size = 8388607: it has to lie between 8Mi and 1Ti; set it to 256Mi, or remove it",
			"!:7: [main] holdfast_cloud_reuse = all: expected one of off, checksum, mtime",
			"!:8: [main] holdfast_cloud_compression = xz: expected one of none, gzip, bzip2, lz4, zstd, snappy",
			"!:9: [main] holdfast_bad_pages = ignore: expected one of warn, fail",
			"!:13: [a] holdfast_cloud_volume_size = 2Ti: it has to lie between 8Mi and 1Ti; set it to 256Mi, or remove it",
			"!:17: [b] holdfast_cloud_volume_size = 101Gi: it is more than cloud_upload_max_archive_size = 100Gi; lower it, or raise that",
			"!:25: [d] holdfast_cloud_volume_size = much: expected an integer, perhaps with a unit: k, Ki, M, Mi, G, Gi, T, Ti"}, "a b d main"},
		{"replicas", good + "holdfast_replicas = s3://b\n[a]\nconninfo=host=a\nbackup_method=local-to-cloud\nbasebackups_directory=s3://a/x\nholdfast_replicas=s3://b/, ftp://c\n" +
			"[b]\nconninfo=host=b\nbackup_method=local-to-cloud\nbasebackups_directory=s3://a/x\nholdfast_replicas=s3://b, s3://a/x/\n" +
			"[c]\nconninfo=host=c\nbackup_method=local-to-cloud\nbasebackups_directory=s3://a/x\nholdfast_replicas=s3://b, file:///b, s3://b/\n" +
			"[d]\nconninfo=host=d\nbackup_method=local-to-cloud\nbasebackups_directory=s3://a/x\nholdfast_replicas=s3://b, file:///b\nholdfast_replica_quorum=4\n" +
			"[e]\nconninfo=host=e\nbackup_method=local-to-cloud\nbasebackups_directory=s3://a/x\nholdfast_replica_quorum=0\n" +
			"[f]\nconninfo=host=f\nbackup_method=local-to-cloud\nbasebackups_directory=s3://a/x\nholdfast_replicas=s3://b, file:///b\nholdfast_replica_quorum=3\n", []string{
			"!:6: [main] holdfast_replicas = s3://b: backup_method = postgres has no replicas; remove it, or use backup_method = local-to-cloud",
			"!:11: [a] holdfast_replicas = s3://b/, ftp://c: expected URLs separated by commas: s3://..., gs://..., file:///... or those of Azure containers",
			"!:16: [b] holdfast_replicas = s3://b,s3://a/x: s3://a/x is basebackups_directory already; name each destination once",
			"!:21: [c] holdfast_replicas = s3://b,file:///b,s3://b: s3://b is one of the replicas already; name each destination once",
			"!:27: [d] holdfast_replica_quorum = 4: there are 3 destinations, the main one included; set it to a number from 1 to 3, or name more URLs in holdfast_replicas",
			"!:32: [e] holdfast_replica_quorum = 0: expected an integer, at least 1"}, "a b c d e main"},
		{"a store of an unknown kind", good + "[a]\nconninfo=host=a\nbackup_method=local-to-cloud\nbasebackups_directory=ftp://x/y\n", []string{
			"!:9: [a] basebackups_directory = ftp://x/y: expected an absolute path, s3://..., gs://..., file:///... or the URL of an Azure container; begin it with a slash"}, "a"},
		{"encryption", good + "encryption = gpg\n[a]\nconninfo=host=a\nbackup_method=local-rsync\nencryption=gpg\nencryption_key_id=k\n" +
			"[b]\nconninfo=host=b\nbackup_method=postgres\nencryption=gpg\nencryption_key_id=k\n[c]\nconninfo=host=c\nbackup_method=postgres\nencryption=gpg\nencryption_key_id=k\nbackup_compression=gzip\n", []string{
			"!:6: [main] encryption = gpg: it does not say for which key; set encryption_key_id to the fingerprint of a public key of gpg",
			"!:10: [a] encryption = gpg: backup_method = local-rsync cannot encrypt; use backup_method = postgres, or remove it",
			"!:15: [b] encryption = gpg: only archives are encrypted; set backup_compression to gzip, lz4, zstd or none, and backup_compression_format = tar",
			"!:20: [c] encryption = gpg: only archives are encrypted; set backup_compression_format = tar"}, "a b c main"},
		{"archiver and schedule", good + "archiver = off\nholdfast_backup_schedule = 0 4 * * MON\n", []string{
			":6: [main] archiver = false: WAL has to come in somehow, and streaming_archiver is off too; archiver is taken as on"}, ""},
		{"shared directories", good + "errors_directory = /x/y\n[b]\nconninfo=host=b\nbackup_method=postgres\nbackup_directory=/x\nwals_directory=/x/./y\n", []string{
			"!:6: [main] errors_directory = /x/y: the directory /x/y is wals_directory of server b already; give each its own",
			"!:11: [b] wals_directory = /x/y: the directory /x/y is errors_directory of server main too; give each its own"}, "b main"},
		{"names", "[all]\n[../up]\n" + good, []string{
			"!:3: [all]: the name all stands for all servers; use letters, digits, _ and -",
			"!:4: [../up]: a server's name becomes the name of a directory and a word on the command line; use letters, digits, _ and -"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := load(t, map[string]string{"barman.conf": base + c.text})
			var got, disabled []string
			for _, p := range cfg.Problems {
				mark := "!"
				if p.Warning {
					mark = ""
				}
				got = append(got, mark+strings.TrimPrefix(strings.TrimPrefix(p.String(), cfg.Path), ": "))
			}
			for _, s := range cfg.Servers() {
				_, err := cfg.Server(s.Name)
				if s.Disabled() != fault.Is(err, fault.Config) {
					t.Errorf("%s: disabled %v, %v", s.Name, s.Disabled(), err)
				}
				if s.Disabled() {
					disabled = append(disabled, s.Name)
				}
				if err != nil && strings.Contains(err.Error(), "geheim") {
					t.Errorf("a secret is told: %v", err)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if d := strings.Join(disabled, " "); d != c.disabled {
				t.Errorf("disabled: %q", d)
			}
		})
	}
}

func TestProblemsOfSeveralFiles(t *testing.T) {
	c := load(t, map[string]string{
		"barman.conf":  base + "configuration_files_directory = @/d\n" + good,
		"d/1.conf":     "[barman]\nlog_level = DEBUG\n",
		"d/2.conf":     "stray = geheim\n[two]\nconninfo = host=two\nbackup_method = postgres\n",
		"d/3.conf/dir": "",
	})
	dir := filepath.Dir(c.Path)
	var got []string
	for _, p := range c.Problems {
		got = append(got, p.String())
	}
	want := []string{
		dir + "/d/1.conf:1: [barman]: only the main file may have this section; move its options to " + c.Path,
		dir + "/d/2.conf:1: stray: an option outside of any section; put it below [barman] or below the name of a server",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if c.Global.LogLevel != "INFO" {
		t.Error("an included file altered [barman]")
	}
}

func TestMissingGlobals(t *testing.T) {
	for text, want := range map[string]string{
		good:                                  ": [barman]: the section is missing; add it, with barman_home",
		"[barman]\n" + good:                   ":1: [barman]: barman_home is missing; set it to the directory that is to hold everything",
		"[barman]\nbarman_home = x\n" + good:  ":2: [barman] barman_home = x: expected an absolute path; begin it with a slash",
		"[barman]\nbarman_home = %x\n" + good: ":2: [barman] barman_home: a percent sign begins %(name)s or must be doubled; a percent sign that is meant as such is written %%",
	} {
		c := load(t, map[string]string{"barman.conf": text})
		if len(c.Problems) != 1 || c.Problems[0].String() != c.Path+want {
			t.Errorf("%v", c.Problems)
		}
		if _, err := c.Server("main"); !fault.Is(err, fault.Config) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestUnsupportedForBackup(t *testing.T) {
	for text, want := range map[string]string{
		"compression = lz4":                            "",
		"compression = None":                           "",
		"compression = none":                           "",
		"compression = pigz":                           "",
		"compression = bzip2":                          "",
		"network_compression = on":                     "",
		"autogenerate_manifest = on":                   "",
		"slot_name = a":                                "",
		"slot_name = a\ncreate_slot = auto":            "",
		"create_slot = auto":                           "",
		"snapshot_disks = a":                           "snapshot_disks",
		"warehousepg_dbid = 0":                         "warehousepg_dbid",
		"post_recovery_retry_script = x":               "",
		"primary_conninfo = host=p":                    "",
		"primary_ssh_command = ssh x":                  "primary_ssh_command",
		"basebackups_directory = gs://b":               "basebackups_directory",
		"backup_options = exclusive_backup":            "",
		"backup_options = external_configuration":      "",
		"encryption = none":                            "",
		"tablespace_bandwidth_limit = a:1":             "",
		"retention_policy = REDUNDANCY 2":              "",
		"streaming_archiver = on\narchiver = off":      "",
		"reuse_backup = link\nparallel_jobs = 2":       "",
		"aws_region = x\ncloud_wal_archive_parallel=2": "",
	} {
		c := load(t, map[string]string{"barman.conf": base + "[main]\nconninfo = host=pg\nbackup_method = local-rsync\n" + text})
		var got []string
		for _, p := range server(t, c, "main").UnsupportedForBackup() {
			got = append(got, p.Option)
			if p.Line < 6 || p.File != c.Path || p.Hint == "" || p.Warning {
				t.Errorf("%s", p)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	for _, provider := range []string{"btrfs", "command", "aws"} {
		c := load(t, map[string]string{"barman.conf": base + "[main]\nconninfo = host=pg\nbackup_method = snapshot\nssh_command = ssh a\nsnapshot_instance = a\nsnapshot_disks = /a\nsnapshot_provider = " + provider +
			"\nholdfast_snapshot_create_command = a\nholdfast_snapshot_list_command = a\nholdfast_snapshot_delete_command = a\n"})
		for _, p := range server(t, c, "main").UnsupportedForBackup() {
			t.Errorf("snapshot_provider = %s: %s", provider, p)
		}
	}
}

// level is a section of five lines with a compression's level in the last.
func level(name, compression string, n int) string {
	return fmt.Sprintf("[%s]\nconninfo = host=%s\nbackup_method = postgres\nbackup_compression = %s\nbackup_compression_level = %d\n", name, name, compression, n)
}

func TestCompressionProblems(t *testing.T) {
	const install = "install postgresql-client-15 or later and let path_prefix name its directory, or "
	for _, c := range []struct {
		options      string // below line 5
		tool, server int
		want         []string
	}{
		{"", 13, 13, nil},
		{"backup_compression = gzip\nbackup_compression_level = 0", 14, 13, nil},
		{"backup_compression = gzip\nbackup_compression_level = 0", 15, 13, []string{
			":7: [main] backup_compression_level = 0: pg_basebackup is of version 15, and has no level 0 from version 15 on; use a level from 1 to 9, or backup_compression = none"}},
		{"backup_compression = none\nbackup_compression_level = 0", 18, 18, nil},
		{"backup_compression = lz4", 15, 13, nil},
		{"backup_compression = lz4", 14, 13, []string{
			":6: [main] backup_compression = lz4: pg_basebackup is of version 14; lz4 came with version 15; " + install + "use gzip"}},
		{"backup_compression = zstd\nbackup_compression_location = server", 14, 15, []string{
			":6: [main] backup_compression = zstd: pg_basebackup is of version 14; zstd came with version 15; " + install + "use gzip",
			":7: [main] backup_compression_location = server: pg_basebackup is of version 14; servers compress for version 15 and later; " + install + "set it to client"}},
		{"backup_compression = gzip\nbackup_compression_location = server", 18, 14, []string{
			":7: [main] backup_compression_location = server: PostgreSQL is of version 14; it compresses from version 15 on; set it to client"}},
		{"backup_compression = zstd\nbackup_compression_location = server\nbackup_compression_format = plain\nbackup_compression_workers = 2\nbackup_compression_level = 22", 18, 15, nil},
	} {
		cfg := load(t, map[string]string{"barman.conf": base + good + c.options})
		var got []string
		for _, p := range server(t, cfg, "main").CompressionProblems(c.tool, c.server) {
			got = append(got, strings.TrimPrefix(p.String(), cfg.Path))
			if p.Warning {
				t.Errorf("%s is but a warning", p)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q with pg_basebackup %d and PostgreSQL %d:\n%s", c.options, c.tool, c.server, strings.Join(got, "\n"))
		}
	}
}
