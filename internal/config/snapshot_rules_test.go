package config

import (
	"slices"
	"strings"
	"testing"
)

// TestSnapshotRules: each rule that Barman has for backup_method = snapshot names the option
// that breaks it, and what Barman takes is taken.
func TestSnapshotRules(t *testing.T) {
	const (
		aws   = "snapshot_provider = aws\n"
		gcp   = "snapshot_provider = gcp\ngcp_project = p\n"
		azure = "snapshot_provider = azure\nazure_subscription_id = s\n"
	)
	for text, wants := range map[string][]string{
		aws:   nil,
		gcp:   nil,
		azure: nil,
		"snapshot_provider = gcp\nsnapshot_gcp_project = p\nsnapshot_zone = z\n": nil,
		"snapshot_provider = gcp\n":                                                            {"gcp_project"},
		"snapshot_provider = azure\n":                                                          {"azure_subscription_id"},
		"snapshot_provider = vmware\n":                                                         {"snapshot_provider"},
		aws + "backup_compression = gzip\n":                                                    {"backup_compression"},
		aws + "bandwidth_limit = 10\n":                                                         {"bandwidth_limit"},
		aws + "network_compression = true\n":                                                   {"network_compression"},
		aws + "tablespace_bandwidth_limit = a:1\n":                                             {"tablespace_bandwidth_limit"},
		aws + "reuse_backup = copy\n":                                                          {"reuse_backup"},
		aws + "reuse_backup = link\n":                                                          {"reuse_backup"},
		aws + "reuse_backup = off\n":                                                           nil,
		aws + "aws_snapshot_lock_mode = governance\n":                                          {"aws_snapshot_lock_mode"},
		aws + "aws_snapshot_lock_mode = forever\n":                                             {"aws_snapshot_lock_mode"},
		aws + lock("GOVERNANCE", "duration = 1"):                                               nil,
		aws + lock("governance", "duration = 36500"):                                           nil,
		aws + lock("governance", "duration = 0"):                                               {"aws_snapshot_lock_duration"},
		aws + lock("governance", "duration = 36501"):                                           {"aws_snapshot_lock_duration"},
		aws + lock("compliance", "duration = 1", "cool_off_period = 1"):                        nil,
		aws + lock("compliance", "duration = 1", "cool_off_period = 72"):                       nil,
		aws + lock("compliance", "duration = 1", "cool_off_period = 0"):                        {"aws_snapshot_lock_cool_off_period"},
		aws + lock("compliance", "duration = 1", "cool_off_period = 73"):                       {"aws_snapshot_lock_cool_off_period"},
		aws + lock("governance", "duration = 1", "cool_off_period = 1"):                        {"aws_snapshot_lock_cool_off_period"},
		aws + lock("compliance", "expiration_date = 2030-01-31T12:00:00.000Z"):                 nil,
		aws + lock("compliance", "expiration_date = 2030-01-31"):                               {"aws_snapshot_lock_expiration_date"},
		aws + lock("compliance", "expiration_date = 2030-01-31T12:00:00.000Z", "duration = 1"): {"aws_snapshot_lock_mode"},
		// Of another provider they mean nothing.
		gcp + "aws_snapshot_lock_mode = governance\n": nil,
	} {
		c := load(t, map[string]string{"barman.conf": base + "[main]\nconninfo = host=pg\nbackup_method = snapshot\nssh_command = ssh a\nsnapshot_instance = a\nsnapshot_disks = a\n" + text})
		var got []string
		for _, p := range c.Servers()[0].Problems() {
			if !p.Warning {
				got = append(got, p.Option)
			}
		}
		if !slices.Equal(slices.Compact(got), wants) {
			t.Errorf("%s: %q, not %q", strings.ReplaceAll(text, "\n", "; "), got, wants)
		}
	}
	for _, missing := range []string{"snapshot_disks", "snapshot_instance", "snapshot_provider", "ssh_command"} {
		var lines []string
		for _, l := range []string{"ssh_command = ssh a", "snapshot_instance = a", "snapshot_disks = a", "snapshot_provider = aws"} {
			if !strings.HasPrefix(l, missing) {
				lines = append(lines, l)
			}
		}
		c := load(t, map[string]string{"barman.conf": base + "[main]\nconninfo = host=pg\nbackup_method = snapshot\n" + strings.Join(lines, "\n") + "\n"})
		if p := c.Servers()[0].Problems(); len(p) != 1 || p[0].Option != missing || p[0].Hint == "" {
			t.Errorf("without %s: %v", missing, p)
		}
	}
}

func lock(mode string, options ...string) string {
	text := "aws_snapshot_lock_mode = " + mode + "\n"
	for _, o := range options {
		text += "aws_snapshot_lock_" + o + "\n"
	}
	return text
}
