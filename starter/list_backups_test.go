package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
)

// thousands is the configuration of a server with n backups, each of a WAL
// segment of its own, and a retention policy.
func thousands(t testing.TB, n int) (conf string) {
	t.Helper()
	home := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := func(parts ...string) string { return filepath.Join(append([]string{home, "main"}, parts...)...) }
	for _, name := range []string{"base", "meta", "wals"} {
		must(os.MkdirAll(dir(name), 0o755))
	}
	sample, err := os.ReadFile("../internal/backupinfo/testdata/rsync-concurrent.backup.info")
	must(err)
	var xlogdb bytes.Buffer
	for i := range n {
		id := string(backup.NewID(time.Date(2026, 1, 1, 0, i, 0, 0, time.UTC)))
		segment := fmt.Sprintf("00000001%08X%08X", i/256, i%256)
		record := strings.NewReplacer("server_name=loc", "server_name=main", "00000001000000000000000C", segment).Replace(string(sample))
		must(os.WriteFile(dir("meta", id+"-backup.info"), []byte(record), 0o644))
		must(os.Mkdir(dir("base", id), 0o755))
		fmt.Fprintf(&xlogdb, "%s\t16777216\t1795401428.3\tNone\tNone\n", segment)
	}
	must(os.WriteFile(dir("wals", "main-xlog.db"), xlogdb.Bytes(), 0o644))
	me, err := user.Current()
	must(err)
	conf = filepath.Join(home, "holdfast.conf")
	must(os.WriteFile(conf, []byte("[barman]\nbarman_home = "+home+"\nbarman_user = "+me.Username+"\nlog_file = "+home+"/log\n"+
		"[main]\nbackup_method = postgres\narchiver = on\nconninfo = host=/nowhere\nretention_policy = REDUNDANCY 3\n"), 0o644))
	return conf
}

func BenchmarkListBackups(b *testing.B) {
	conf := thousands(b, 10000)
	for b.Loop() {
		var out bytes.Buffer
		a := &app{stdout: &out, stderr: io.Discard}
		root := a.root()
		root.SetArgs([]string{"-c", conf, "list-backups", "main"})
		if err := root.ExecuteContext(b.Context()); err != nil {
			b.Fatal(err)
		}
		if lines := bytes.Count(out.Bytes(), []byte("\n")); lines != 10000 {
			b.Fatal(lines, "lines")
		}
	}
}
