package restore_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/restore"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
)

type archive struct{ fail bool }

func (a archive) Fetch(_ context.Context, name, dest string) error {
	if a.fail {
		return fault.New(fault.NotFound, "fetch", name, "gone")
	}
	return os.WriteFile(dest, []byte(name), 0o600)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// sample is a backup with one tablespace, and the archive that goes with it.
func sample(t *testing.T) (restore.Source, restoreplan.Archive, string) {
	t.Helper()
	root := t.TempDir()
	text, err := os.ReadFile("../backupinfo/testdata/rsync-concurrent.backup.info")
	if err != nil {
		t.Fatal(err)
	}
	info, _, err := backupinfo.Parse("20261123T023506", string(text))
	if err != nil {
		t.Fatal(err)
	}
	info.Tablespaces[0].Location = filepath.Join(root, "it's ts")
	data := filepath.Join(root, "20261123T023506", "data")
	for name, content := range map[string]string{
		"global/pg_control": "control", "base/1/2": "", "postgresql.conf": "port=1\narchive_command = 'evil'\n",
		"backup_label": "label", "tablespace_map": "16384 /source", "standby.signal": "", "pg_wal/x": "old", "postmaster.pid": "1",
	} {
		write(t, filepath.Join(data, name), content)
	}
	if err := os.MkdirAll(filepath.Join(data, "pg_tblspc"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/source/tablespace", filepath.Join(data, "pg_tblspc", "16384")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "oid", "PG_18_1", "5"), "rows")
	return restore.Source{Info: info, Data: data, TableDirs: map[uint32]string{16384: filepath.Join(root, "oid")}, WAL: archive{}},
		restoreplan.Archive{Files: []restoreplan.WALFile{{Name: "00000001000000000000000C", At: info.EndTime.Add(time.Hour)}}}, root
}

func TestRestoreIsCompleteOrAbsent(t *testing.T) {
	for name, form := range map[string]func(*testing.T, restore.Source) restore.Source{
		"files": func(_ *testing.T, src restore.Source) restore.Source { return src },
		"tars":  packed,
	} {
		t.Run(name, func(t *testing.T) {
			src, arch, root := sample(t)
			completeOrAbsent(t, form(t, src), arch, root)
		})
	}
}

// TestEmptyDirectoriesAreTaken: whoever has made the directories before gets them filled.
func TestEmptyDirectoriesAreTaken(t *testing.T) {
	src, arch, root := sample(t)
	dest, tablespace := filepath.Join(root, "dest"), filepath.Join(root, "ts")
	plan, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: dest, Tablespaces: map[string]string{src.Info.Tablespaces[0].Name: tablespace}}, arch)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{dest, tablespace} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := restore.Run(t.Context(), src, plan, restore.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(dest, "global/pg_control"), filepath.Join(tablespace, "PG_18_1/5")} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
}

func completeOrAbsent(t *testing.T, src restore.Source, arch restoreplan.Archive, root string) {
	dest := filepath.Join(root, "a new \"dir\"")
	plan, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: dest}, arch)
	if err != nil {
		t.Fatal(err)
	}
	src.WAL = archive{fail: true}
	if _, err := restore.Run(context.Background(), src, plan, restore.Options{Jobs: 2}); !fault.Is(err, fault.NotFound) {
		t.Fatalf("got %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(root, "*holdfast*"))
	hidden, _ := filepath.Glob(filepath.Join(root, ".*holdfast*"))
	if _, err := os.Stat(dest); err == nil || len(left)+len(hidden) > 0 {
		t.Fatalf("a failed restore left %v %v", left, hidden)
	}
	src.WAL = archive{}
	res, err := restore.Run(context.Background(), src, plan, restore.Options{Jobs: 2})
	if err != nil {
		t.Fatal(err)
	}
	var done, total int64
	again, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: dest + "2", Tablespaces: map[string]string{src.Info.Tablespaces[0].Name: filepath.Join(root, "ts2")}}, arch)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := restore.Run(context.Background(), src, again, restore.Options{Progress: func(d, of int64) { done, total = d, of }}); err != nil || second.Bytes != res.Bytes || done == 0 || done > total {
		t.Errorf("%+v after %+v, %d of %d bytes, %v", second, res, done, total, err)
	}
	for name, want := range map[string]string{
		"global/pg_control": "control", "base/1/2": "", "backup_label": "label", "pg_tblspc/16384/PG_18_1/5": "rows",
		"pg_wal/00000001000000000000000C": "00000001000000000000000C", "pg_wal/archive_status/00000001000000000000000C.done": "",
		"postgresql.conf": "port=1\n#BARMAN#archive_command = 'evil'\narchive_command = false\n",
	} {
		if got, err := os.ReadFile(filepath.Join(dest, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"tablespace_map", "standby.signal", "recovery.signal", "postmaster.pid", "pg_wal/x"} {
		if _, err := os.Lstat(filepath.Join(dest, name)); err == nil {
			t.Errorf("%s was restored", name)
		}
	}
	if link, _ := os.Readlink(filepath.Join(dest, "pg_tblspc/16384")); link != filepath.Join(root, "it's ts") {
		t.Errorf("the tablespace link leads to %s", link)
	}
	if _, err := restore.Run(context.Background(), src, plan, restore.Options{}); !fault.Is(err, fault.Refused) {
		t.Errorf("a directory that is not empty: %v", err)
	}
}

func TestImpossibleTargetsAreRefusedWithTheWindow(t *testing.T) {
	src, arch, _ := sample(t)
	for name, target := range map[string]restoreplan.Target{
		"before the end": {Time: src.Info.EndTime.Add(-time.Second)},
		"after the WAL":  {Time: src.Info.EndTime.Add(2 * time.Hour)},
		"low LSN":        {LSN: 1},
		"high LSN":       {LSN: 1 << 40},
		"timeline":       {Timeline: "7"},
	} {
		_, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: "/d", Target: target}, arch)
		if !fault.Is(err, fault.Refused) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: "/d"}, restoreplan.Archive{}); !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), "00000001000000000000000C") {
		t.Errorf("missing WAL: %v", err)
	}
	p, err := restoreplan.Make(src.Info, restoreplan.Request{Dest: "/d", Target: restoreplan.Target{Immediate: true, Action: "promote"}}, arch)
	if err != nil || p.Signal != "recovery.signal" || p.WALDir != "barman_wal" || !strings.Contains(strings.Join(p.Settings, "\n"), "recovery_target = 'immediate'") {
		t.Errorf("%+v, %v", p, err)
	}
}
