package report_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/postgres"
	"github.com/holdfast-pg/holdfast/internal/report"
)

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRecord(t *testing.T) {
	got := text(t, report.Record(sample(t, "20261123T023506", "rsync-concurrent")))
	for _, want := range []string{
		`"backup_id":"20261123T023506"`, `"begin_time":"2026-11-23T02:35:06.901951+00:00"`, `"begin_xlog":"0/C000028"`, `"children_backup_ids":null`,
		`"tablespaces":[["ts1",16384,"/srv/hb/tbs"]]`, `"copy_time_per_item":{"pg_control":0.033836,`, `"number_of_workers":2`, `"backup_label":"'START WAL LOCATION`, `"version":180006`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
}

func TestSettings(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "c.conf")
	if err := os.WriteFile(conf, []byte("[barman]\nbarman_home = /srv\n[main]\nbackup_method = postgres\nconninfo = host=a password=s3cret\n"+
		"archiver = on\nparallel_jobs = 3\nlast_backup_minimum_size = 2Mi\nlast_backup_maximum_age = 2 DAYS\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(conf)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cfg.Server("main")
	if err != nil {
		t.Fatal(err)
	}
	got := report.Settings(s)
	for name, want := range map[string]any{"name": "main", "disabled": false, "archiver": true, "parallel_jobs": int64(3), "last_backup_minimum_size": int64(2 << 20),
		"conninfo": "host=a password=***", "check_timeout": int64(30), "primary_ssh_command": nil} {
		if got[name] != want {
			t.Errorf("%s: %#v, not %#v", name, got[name], want)
		}
	}
}

func TestAnswers(t *testing.T) {
	silent := report.Answers(nil, nil, "it is down")
	if silent["connection_error"] != "it is down" || silent["timeline"] != nil {
		t.Errorf("%v", silent)
	}
	told := report.Answers(&postgres.Facts{Timeline: 3, ArchiveMode: "on"}, &postgres.Archiver{CurrentWAL: "w", LastAt: time.Unix(0, 0)}, "")
	if _, is := told["connection_error"]; is || told["timeline"] != uint32(3) || told["archive_mode"] != "on" || told["current_xlog"] != "w" {
		t.Errorf("%v", told)
	}
	for key := range silent {
		if _, is := told[key]; !is && key != "connection_error" {
			t.Errorf("%s is told only when nothing is known", key)
		}
	}
}
