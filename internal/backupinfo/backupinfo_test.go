package backupinfo_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
)

// The samples were written by Barman 3.20.1.
func TestSamplesSurviveUnchanged(t *testing.T) {
	files, err := filepath.Glob("testdata/*.backup.info")
	if err != nil || len(files) < 9 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	for _, f := range files {
		want, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		info, warnings, err := backupinfo.Parse("20261123T023506", string(want))
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %v", f, warnings, err)
			continue
		}
		if got := info.Encode(); !bytes.Equal(got, want) {
			t.Errorf("%s changed:\n%s", f, got)
		}
	}
}

func TestUnknownKeysAreKept(t *testing.T) {
	info, warnings, err := backupinfo.Parse("20261123T023506", "# c\n\nfuture=a=b\nstatus=DONE\n")
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "future") {
		t.Fatalf("%v, %v", warnings, err)
	}
	if !strings.Contains(string(info.Encode()), "\nfuture=a=b\nhba_file=None\n") {
		t.Errorf("lost or misplaced:\n%s", info.Encode())
	}
}

func TestBadLines(t *testing.T) {
	for _, bad := range []string{"x", "=1", "status=GOOD", "size=1k", "begin_xlog=1", "tablespaces=[('a', 1)]", "backup_label=12", "begin_time=today", "children_backup_ids=a"} {
		if _, _, err := backupinfo.Parse("20261123T023506", bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("status=DONE\nbackup_label='a\\n'\ntablespaces=[('ts1', 16384, '/srv')]\nbegin_time=2026-11-23 02:35:06.901951+00:00\n")
	f.Fuzz(func(t *testing.T, s string) {
		info, _, err := backupinfo.Parse("20261123T023506", s)
		if err != nil {
			return
		}
		once := info.Encode()
		again, _, err := backupinfo.Parse("20261123T023506", string(once))
		if err != nil || !bytes.Equal(again.Encode(), once) {
			t.Errorf("%q became %q (%v)", s, once, err)
		}
	})
}
