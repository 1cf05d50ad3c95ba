package check_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/check"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/window"
)

var now = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

// healthy is the server of the sample.
func healthy() check.Facts {
	end, size := now.Add(-time.Hour), int64(3<<20)
	return check.Facts{
		Now:      now,
		Settings: check.Settings{Method: "postgres", Archiver: true, WALWait: 2 * time.Hour},
		Postgres: check.Postgres{StreamID: "77", Facts: postgres.Facts{Version: 180006, SystemID: "77", WALLevel: "replica", ArchiveMode: "on", ArchiveCommand: "cp"},
			Archiver: postgres.Archiver{LastWAL: "00000001000000000000000C", LastAt: now}},
		Store: check.Store{Backups: []*backupinfo.Info{{ID: "20261123T020000", Status: backup.Done, EndTime: &end, Size: &size}}, Identity: "77", Listed: true},
		Local: check.Local{BaseMajor: 18},
	}
}

// streams makes WAL streaming of the sample, and returns its slot.
func streams(f *check.Facts) *postgres.Slot {
	f.Settings.Archiver, f.Settings.Streaming, f.Settings.Slot = false, true, "ours"
	f.Store.Receiving, f.Local.ReceiveMajor = true, 18
	f.Postgres.Slot = &postgres.Slot{Physical: true, Active: true, RestartLSN: "0/5000000", WALStatus: "reserved"}
	return f.Postgres.Slot
}

// elsewhere streams WAL from a server that is configured apart, and returns what it says.
func elsewhere(f *check.Facts) *check.WALSource {
	streams(f)
	id := f.Postgres.Facts.SystemID
	f.Postgres.WAL = &check.WALSource{WALLevel: "replica", SystemID: id, StreamID: id}
	return f.Postgres.WAL
}

// What Barman prints of a healthy server, we print too.
func TestHealthyServerIsBarmans(t *testing.T) {
	items := check.Items(healthy())
	if check.Failed(items) {
		t.Errorf("%v", items)
	}
	ours := map[string]map[string]map[string]string{"pgp": {}}
	for _, i := range items {
		ours["pgp"][i.Key()] = map[string]string{"hint": i.Hint, "status": i.Result()}
	}
	text, err := os.ReadFile("testdata/check.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]map[string]map[string]string
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	for key, item := range want["pgp"] {
		if got := ours["pgp"][key]; got["status"] != item["status"] || got["hint"] != item["hint"] {
			t.Errorf("%s: %v, Barman says %v", key, got, item)
		}
	}
	for key := range ours["pgp"] {
		if _, is := want["pgp"][key]; !is {
			t.Errorf("%s is no item of Barman", key)
		}
	}
}

func TestWhatFails(t *testing.T) {
	one := 1
	down := fault.New(fault.Connection, "connect to PostgreSQL at", "pg:5432", "refused").WithHint("is the server running?")
	for name, c := range map[string]struct {
		change   func(*check.Facts)
		item     string // "" when nothing may fail
		hint     string
		critical bool
		absent   []string
	}{
		"no WAL yet":      {func(f *check.Facts) { f.Store.Listed = false }, "WAL archive", "archive_command", true, nil},
		"a backup waits":  {func(f *check.Facts) { f.Store.Listed, f.Store.Backups[0].Status = false, backup.WaitingForWALs }, "", "", false, []string{"WAL archive"}},
		"PostgreSQL down": {func(f *check.Facts) { f.Postgres.Err = down }, "PostgreSQL", "is the server running?", true, []string{"wal_level", "archive_mode", "PostgreSQL streaming"}},
		"too old":         {func(f *check.Facts) { f.Postgres.Facts.Version = 120000 }, "PostgreSQL", "13", true, nil},
		"no privileges":   {func(f *check.Facts) { f.Postgres.Privileges = errors.New("GRANT it") }, "no access to backup functions", "GRANT it", true, []string{"superuser or standard user with backup privileges"}},
		"no replication":  {func(f *check.Facts) { f.Postgres.Streaming = down }, "PostgreSQL streaming", "pg:5432", true, nil},
		"minimal":         {func(f *check.Facts) { f.Postgres.Facts.WALLevel = "minimal" }, "wal_level", "replica", true, nil},
		"read-only":       {func(f *check.Facts) { f.Store.Directories = []error{errors.New("/x: read-only")} }, "directories", "/x", true, nil},
		"old backup":      {func(f *check.Facts) { f.Settings.MaxAge = time.Minute }, "backup maximum age", "1 hour old", false, nil},
		"small backup":    {func(f *check.Facts) { f.Settings.MinSize = 4 << 20 }, "backup minimum size", "3.0 MiB", false, nil},
		"no new WAL":      {func(f *check.Facts) { f.Settings.MaxWALAge = time.Minute }, "wal maximum age", "no WAL", false, nil},
		"old WAL":         {func(f *check.Facts) { f.Settings.MaxWALAge, f.Store.LastWAL = time.Minute, now.Add(-time.Hour) }, "wal maximum age", "1 hour old", false, nil},
		"failed backup": {func(f *check.Facts) {
			f.Store.Backups = append(f.Store.Backups, &backupinfo.Info{Status: backup.Failed})
		}, "failed backups", "there are 1", false, nil},
		"too few":           {func(f *check.Facts) { f.Settings.Redundancy = 2 }, "minimum redundancy requirements", "have 1 non-incremental backups, expected at least 2", false, nil},
		"no pg_basebackup":  {func(f *check.Facts) { f.Local.BaseErr = errors.New("not found") }, "pg_basebackup", "not found", true, nil},
		"old pg_basebackup": {func(f *check.Facts) { f.Local.BaseMajor = 15 }, "pg_basebackup compatible", "postgresql-client-18", true, nil},
		"data out of reach": {func(f *check.Facts) { f.Settings.Method, f.Local.PGDataErr = "local-rsync", errors.New("denied") }, "local PGDATA", "denied", true, []string{"pg_basebackup", "PostgreSQL streaming"}},
		"no rsync":          {func(f *check.Facts) { f.Settings.Method, f.Local.RsyncErr = "local-rsync", errors.New("none") }, "rsync", "none", true, nil},
		"no replica": {func(f *check.Facts) {
			f.Settings.Method, f.Local.Replicas = "local-to-cloud", []check.Replica{{URL: "s3://a"}, {URL: "s3://b", Err: errors.New("no bucket")}}
		}, "replica s3://b", "no bucket", true, []string{"pg_basebackup"}},
		"replica behind": {func(f *check.Facts) {
			f.Settings.Method, f.Local.Replicas, f.Store.Behind = "local-to-cloud", []check.Replica{{URL: "s3://a"}}, 2
		}, "backups at every destination", "2 complete backups", false, nil},
		"no key": {func(f *check.Facts) {
			f.Local.Encrypts, f.Local.EncryptErr = true, errors.New("no public key")
		}, "encryption", "no public key", true, nil},
		"encryption works":  {func(f *check.Facts) { f.Local.Encrypts = true }, "", "", false, nil},
		"clear backups":     {func(f *check.Facts) { f.Local.EncryptErr = errors.New("not asked") }, "", "", false, []string{"encryption"}},
		"configuration":     {func(f *check.Facts) { f.Errors = []string{"line 7"} }, "configuration", "line 7", true, nil},
		"another cluster":   {func(f *check.Facts) { f.Store.Identity = "78" }, "systemid coherence", "78", true, nil},
		"two servers":       {func(f *check.Facts) { f.Postgres.StreamID = "78" }, "systemid coherence", "streaming_conninfo", true, nil},
		"archiving off":     {func(f *check.Facts) { f.Postgres.Facts.ArchiveMode = "off" }, "archive_mode", "restart", true, nil},
		"standby":           {func(f *check.Facts) { f.Postgres.Facts.InRecovery = true }, "archive_mode", "always", true, nil},
		"archiving standby": {func(f *check.Facts) { f.Postgres.Facts.InRecovery, f.Postgres.Facts.ArchiveMode = true, "always" }, "", "", false, nil},
		"no command":        {func(f *check.Facts) { f.Postgres.Facts.ArchiveCommand = "(disabled)" }, "archive_command", "wal-archive", true, nil},
		"command fails": {func(f *check.Facts) {
			f.Postgres.Archiver.LastFailed, f.Postgres.Archiver.FailedAt = "000000010000000000000010", now.Add(time.Second)
		}, "continuous archiving", "000000010000000000000010", true, nil},
		"failed and recovered": {func(f *check.Facts) { f.Postgres.Archiver.FailedAt = now.Add(-time.Second) }, "", "", false, nil},
		"rejected files":       {func(f *check.Facts) { f.Store.Rejected = 2 }, "archiver errors", "2 files", false, nil},
		"queue":                {func(f *check.Facts) { f.Settings.MaxQueue, f.Store.Incoming = &one, 2 }, "incoming WALs directory", "2 files wait", false, nil},
		"nobody archives":      {func(f *check.Facts) { f.Settings.Archiver, f.Store.Incoming = false, 1 }, "empty incoming directory", "1 file", false, []string{"archive_mode"}},
		"hole": {func(f *check.Facts) {
			f.Store.Gaps = []window.Span{{First: "000000010000000000000005", Last: "000000010000000000000006", Count: 2}}
		}, "WAL gaps", "000000010000000000000005 to 000000010000000000000006 (2 segments)", false, nil},
		"backup with a hole": {func(f *check.Facts) {
			f.Store.Lacking = []window.Lacking{{ID: "20261123T020000", Status: backup.Done, Missing: []window.Span{{First: "000000010000000000000005", Count: 1}}}}
		}, "backups that cannot be restored", "20261123T020000 cannot be restored without 000000010000000000000005", false, []string{"backups waiting for WAL"}},
		"waits for long": {func(f *check.Facts) {
			f.Store.Backups[0].Status, f.Settings.WALWait = backup.WaitingForWALs, time.Minute
			f.Store.Lacking = []window.Lacking{{ID: "20261123T020000", Status: backup.WaitingForWALs, Missing: []window.Span{{First: "000000010000000000000005", Count: 1}}}}
		}, "backups waiting for WAL", "20261123T020000 waits for 000000010000000000000005", false, nil},
		"waits since a moment ago": {func(f *check.Facts) {
			f.Store.Backups[0].Status = backup.WaitingForWALs
		}, "", "", false, []string{"backups waiting for WAL"}},
		"streaming":            {func(f *check.Facts) { streams(f) }, "", "", false, []string{"archive_mode"}},
		"no slot":              {func(f *check.Facts) { streams(f); f.Postgres.Slot = nil }, "replication slot", "--create-slot", true, nil},
		"an unused slot":       {func(f *check.Facts) { streams(f).RestartLSN = "" }, "replication slot", "never used", true, nil},
		"an idle slot":         {func(f *check.Facts) { streams(f).Active = false }, "replication slot", "keeps its WAL", true, nil},
		"a lost slot":          {func(f *check.Facts) { streams(f).WALStatus = "lost" }, "replication slot", "--reset", true, nil},
		"a logical slot":       {func(f *check.Facts) { streams(f).Physical = false }, "replication slot", "logical", true, nil},
		"no word of slots":     {func(f *check.Facts) { streams(f); f.Postgres.SlotErr = down }, "replication slot", "pg:5432", true, nil},
		"WAL from elsewhere":   {func(f *check.Facts) { elsewhere(f) }, "", "", false, []string{"replication slot"}},
		"WAL from nowhere":     {func(f *check.Facts) { elsewhere(f).Err = down }, "PostgreSQL (WAL streaming)", "pg:5432", true, []string{"replication slot (WAL streaming)"}},
		"blind":                {func(f *check.Facts) { elsewhere(f).Monitoring = errors.New("GRANT it") }, "no access to monitoring functions", "GRANT it", true, []string{"has monitoring privileges (WAL streaming)"}},
		"no streaming there":   {func(f *check.Facts) { elsewhere(f).Streaming = down }, "PostgreSQL streaming (WAL streaming)", "pg:5432", true, nil},
		"minimal there":        {func(f *check.Facts) { elsewhere(f).WALLevel = "minimal" }, "wal_level (WAL streaming)", "replica", true, nil},
		"WAL of others":        {func(f *check.Facts) { w := elsewhere(f); w.SystemID, w.StreamID = "78", "78" }, "systemid coherence (WAL streaming)", "streamed from 78", true, nil},
		"WAL of two":           {func(f *check.Facts) { elsewhere(f).StreamID = "78" }, "systemid coherence (WAL streaming)", "different servers", true, nil},
		"no slot there":        {func(f *check.Facts) { elsewhere(f); f.Postgres.Slot = nil }, "replication slot (WAL streaming)", "--create-slot", true, nil},
		"nobody receives":      {func(f *check.Facts) { streams(f); f.Store.Receiving = false }, "receive-wal running", "holdfast cron", true, nil},
		"stopped":              {func(f *check.Facts) { streams(f); f.Store.Receiving, f.Store.Stopped = false, true }, "receive-wal running", "--stop", true, nil},
		"it fails":             {func(f *check.Facts) { streams(f); f.Store.Receiving, f.Local.Received = false, errors.New("no room") }, "receive-wal running", "no room", true, nil},
		"no pg_receivewal":     {func(f *check.Facts) { streams(f); f.Local.ReceiveErr = errors.New("not found") }, "pg_receivexlog", "not found", true, nil},
		"an old pg_receivewal": {func(f *check.Facts) { streams(f); f.Local.ReceiveMajor = 15 }, "pg_receivexlog compatible", "postgresql-client-18", true, nil},
		"nobody streams":       {func(f *check.Facts) { f.Store.InStreaming = 1 }, "empty streaming directory", "1 file", false, []string{"receive-wal running"}},
		"timeout":              {func(f *check.Facts) { f.Settings.TimeoutPassed = true }, "check timeout", "check_timeout", true, nil},
		"inactive":             {func(f *check.Facts) { f.Settings.Inactive, f.Postgres.Err = true, down }, "", "", false, []string{"PostgreSQL", "pg_basebackup"}},
	} {
		f := healthy()
		c.change(&f)
		items := check.Items(f)
		if check.Critical(items) != c.critical {
			t.Errorf("%s: critical %t", name, !c.critical)
		}
		found := c.item == ""
		for _, i := range items {
			switch {
			case i.Name == c.item:
				found = !i.OK && strings.Contains(i.Hint, c.hint) && i.Critical == c.critical
			case !i.OK && c.item == "":
				t.Errorf("%s: %s", name, i)
			}
			for _, a := range c.absent {
				if i.Name == a {
					t.Errorf("%s: %s", name, i)
				}
			}
		}
		if !found {
			t.Errorf("%s: %q is not as expected: %v", name, c.item, items)
		}
	}
}

// What rsync over ssh and exclusive backups need stands under Barman's names.
func TestDisks(t *testing.T) {
	no := errors.New("no")
	for want, d := range map[string]check.Disks{
		"snapshot instance exists: OK; snapshot disks attached to instance: OK; snapshot disks mounted on instance: OK":          {LayoutKnown: true},
		"snapshot instance exists: OK; snapshot disks attached to instance: OK":                                                  {},
		"ssh: OK (PostgreSQL server); snapshot instance exists: FAILED (no)":                                                     {Far: true, InstanceErr: no},
		"snapshot instance exists: OK; snapshot disks attached to instance: FAILED (no)":                                         {MissingErr: no, LayoutKnown: true},
		"snapshot instance exists: OK; snapshot disks attached to instance: OK; snapshot disks mounted on instance: FAILED (no)": {LayoutErr: no, LayoutKnown: true},
	} {
		f := healthy()
		f.Settings.Method, f.Local.Disks = "snapshot", d
		var got []string
		for _, i := range check.Items(f) {
			if key := i.Key(); strings.HasPrefix(key, "snapshot") || key == "ssh" {
				got = append(got, i.String())
			}
		}
		if text := strings.Join(got, "; "); text != want {
			t.Errorf("%s, not %s", text, want)
		}
	}
}

func TestRsyncAndExclusive(t *testing.T) {
	lost := fault.New(fault.Connection, "log in with", "ssh pg", "nothing listens there").WithHint("start sshd")
	for name, c := range map[string]struct {
		change func(*check.Facts)
		want   string // items of the copy with their results
	}{
		"healthy":   {func(*check.Facts) {}, "ssh: OK (PostgreSQL server)"},
		"exclusive": {func(f *check.Facts) { f.Settings.Exclusive = true; f.Postgres.Facts.Version = 140009 }, "ssh: OK (PostgreSQL server); not in recovery: OK; exclusive backup supported: OK"},
		"exclusive on 15": {func(f *check.Facts) { f.Settings.Exclusive = true; f.Postgres.Facts.Version = 150000 },
			"ssh: OK (PostgreSQL server); not in recovery: OK; exclusive backup supported: FAILED (start an exclusive backup: PostgreSQL 15 has none: version 15 removed them; set backup_options = concurrent_backup)"},
		"exclusive on a standby": {func(f *check.Facts) {
			f.Settings.Exclusive, f.Postgres.Facts.Version, f.Postgres.Facts.InRecovery = true, 130000, true
		}, "ssh: OK (PostgreSQL server); not in recovery: FAILED (start an exclusive backup: the server is a standby, which cannot make one; set backup_options = concurrent_backup); exclusive backup supported: OK"},
		"no login": {func(f *check.Facts) { f.Local.SSH.LoginErr = lost }, "ssh: FAILED (log in with ssh pg: nothing listens there; start sshd)"},
		"noise":    {func(f *check.Facts) { f.Local.SSH.NoiseErr = errors.New("hello") }, "ssh: OK (PostgreSQL server); ssh output clean: FAILED (hello)"},
		"no rsync": {func(f *check.Facts) { f.Local.SSH.HostErr = errors.New("not in PATH") }, "ssh: OK (PostgreSQL server); rsync on the PostgreSQL host: FAILED (not in PATH)"},
		"label": {func(f *check.Facts) { f.Postgres.Err, f.Local.SSH.Labelled = lost, true },
			"ssh: OK (PostgreSQL server); backup_label: FAILED (PostgreSQL does not answer, and its data directory has a backup_label: unless it is being restored there, remove that file before it is started)"},
	} {
		t.Run(name, func(t *testing.T) {
			f := healthy()
			f.Settings.Method = "rsync"
			c.change(&f)
			var got []string
			for _, i := range check.Items(f) {
				for _, key := range []string{"ssh", "rsync", "backup_label", "not_in_recovery", "exclusive"} {
					if strings.HasPrefix(i.Key(), key) {
						got = append(got, i.String())
					}
				}
			}
			if text := strings.Join(got, "; "); text != c.want {
				t.Errorf("%s, not %s", text, c.want)
			}
		})
	}
}
