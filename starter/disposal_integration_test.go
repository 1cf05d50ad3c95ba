//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// shelf is a catalogue without a server, and a configuration of it.
type shelf struct {
	*catalog.Catalog
	t    *testing.T
	conf string
}

func newShelf(t *testing.T, options string) *shelf {
	t.Helper()
	home := pgtest.Dir(t)
	s := &shelf{t: t, conf: filepath.Join(home, "holdfast.conf")}
	text := fmt.Sprintf("[barman]\nbarman_home = %[1]s\nbarman_user = root\nlog_file = %[1]s/log\n[main]\nbackup_method = postgres\narchiver = on\nconninfo = host=/nowhere\n%[2]s\n", home, options)
	s.must(os.WriteFile(s.conf, []byte(text), 0o644))
	server := &site{t: t, home: home, conf: s.conf}
	s.Catalog = server.catalog()
	s.must(s.EnsureDirs())
	for n := 1; n <= 8; n++ {
		path := filepath.Join(s.WALDir, wal.HashDir(segmentName(n)), segmentName(n))
		s.must(os.MkdirAll(filepath.Dir(path), 0o755))
		s.must(os.WriteFile(path, []byte("x"), 0o644))
	}
	return s
}

func segmentName(n int) string { return fmt.Sprintf("0000000100000000%08X", n) }

func (s *shelf) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func of(n int) backup.ID { return backup.ID(fmt.Sprintf("202601%02dT000000", n)) }

// add files a backup whose WAL is the segment of its number.
func (s *shelf) add(n int, change func(*backupinfo.Info)) {
	s.t.Helper()
	sample, err := os.ReadFile("../internal/backupinfo/testdata/postgres-full.backup.info")
	s.must(err)
	info, _, err := backupinfo.Parse(of(n), string(sample))
	s.must(err)
	begin, end, name := wal.LSN(n<<24+40), wal.LSN(n<<24+400), segmentName(n)
	info.ServerName, info.Children, info.BeginLSN, info.EndLSN, info.BeginWAL, info.EndWAL = "main", nil, &begin, &end, &name, &name
	if change != nil {
		change(info)
	}
	s.must(s.Create(info))
	s.must(os.MkdirAll(s.DataDir(info.ID), 0o755))
}

// run runs a command; no engine is near.
func (s *shelf) run(args ...string) answer {
	s.t.Helper()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(s.t.Context(), holdfast(s.t), append([]string{"-c", s.conf}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "TZ=UTC", "TEMPORAL_ADDRESS=127.0.0.1:1"}
	err := cmd.Run()
	if cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return explained(s.t, args, answer{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()})
}

func (s *shelf) want(code int, says string, args ...string) {
	s.t.Helper()
	if a := s.run(args...); a.code != code || !strings.Contains(a.stdout+a.stderr, says) {
		s.t.Errorf("holdfast %v: exit %d, want %d and %q\n%s%s", args, a.code, code, says, a.stdout, a.stderr)
	}
}

func (s *shelf) left() string {
	s.t.Helper()
	all, err := s.All()
	s.must(err)
	var out []string
	for _, i := range all {
		out = append(out, fmt.Sprintf("%s:%s", i.ID[6:8], i.Status))
	}
	files, err := filepath.Glob(s.WALDir + "/*/*")
	s.must(err)
	for _, f := range files {
		out = append(out, strings.TrimLeft(filepath.Base(f)[16:], "0"))
	}
	return strings.Join(out, " ")
}

func TestRetentionOnTheCommandLine(t *testing.T) {
	t.Parallel()
	s := newShelf(t, "retention_policy = REDUNDANCY 2")
	for n := 2; n <= 5; n++ {
		s.add(n, nil)
	}
	s.add(6, func(i *backupinfo.Info) { i.Status = backup.WaitingForWALs })
	s.want(0, "kept (full)", "keep", "main", "oldest", "--target", "full")
	s.want(0, "Keep: full", "keep", "main", "oldest", "--status")
	before := s.left()

	a := s.run("-f", "json", "retention", "main", "--plan")
	var plan struct {
		Warnings []string `json:"_WARNING"`
		Main     struct {
			Policy  string `json:"retention_policy"`
			Applied bool   `json:"applied"`
			Backups []struct {
				ID     backup.ID `json:"backup_id"`
				Status string    `json:"status"`
				Word   string    `json:"retention_status"`
				Action string    `json:"action"`
				Reason string    `json:"reason"`
			} `json:"backups"`
			WALDelete []string    `json:"wal_delete"`
			Order     []backup.ID `json:"delete_order"`
		} `json:"main"`
	}
	s.must(json.Unmarshal([]byte(a.stdout), &plan))
	m := plan.Main
	if a.code != 0 || m.Policy != "REDUNDANCY 2" || m.Applied || len(m.Order) != 1 || m.Order[0] != of(3) || len(m.WALDelete) != 1 || len(plan.Warnings) != 1 || !strings.Contains(plan.Warnings[0], string(of(6))) {
		t.Errorf("exit %d\n%s", a.code, a.stdout)
	}
	if b := m.Backups[3]; len(m.Backups) != 5 || b.ID != of(3) || b.Word != "OBSOLETE" || b.Action != "delete" || b.Reason == "" {
		t.Errorf("%+v", m.Backups)
	}
	s.want(0, "Nothing was changed", "retention", "main", "--plan")
	if got := s.left(); got != before {
		t.Errorf("a plan left %s", got)
	}

	s.want(0, "OBSOLETE", "list-backups", "main")
	s.want(0, "Retention Policy      : KEEP:FULL", "show-backup", "main", string(of(2)))
	s.want(0, "enforced (mode: auto, retention: REDUNDANCY 2, WAL retention: MAIN)", "status", "main")
	s.want(0, "Deleted backup "+string(of(3)), "retention", "main")
	if got := s.left(); got != "02:DONE 04:DONE 05:DONE 06:WAITING_FOR_WALS 2 3 4 5 6 7 8" {
		t.Error(got)
	}
	s.want(0, "Nothing is to be deleted", "retention", "main")
	s.want(0, "", "keep", "main", string(of(2)), "--release")
	s.want(0, "Keep: nokeep", "keep", "main", string(of(2)), "-s")
	s.want(0, `"wal_files_deleted": 2`, "-f", "json", "retention", "main")
	if got := s.left(); got != "04:DONE 05:DONE 06:WAITING_FOR_WALS 4 5 6 7 8" {
		t.Error(got)
	}
}

func TestDeleteOnTheCommandLine(t *testing.T) {
	t.Parallel()
	s := newShelf(t, "minimum_redundancy = 2")
	for n := 2; n <= 5; n++ {
		s.add(n, nil)
	}
	parent := of(5)
	s.add(6, func(i *backupinfo.Info) { i.Parent = &parent })
	s.add(7, func(i *backupinfo.Info) { i.Status = backup.Started })
	s.must(s.SaveExtra(of(7), &catalog.Extra{WorkflowID: "backup/main", RunID: "r"}))
	before := s.left()

	s.want(0, "", "keep", "main", "oldest", "--target", "standalone")
	s.want(4, "holdfast keep main "+string(of(2))+" --release", "delete", "main", "oldest")
	s.want(0, "", "keep", "main", "oldest", "-r")
	s.want(4, "no way to force it", "delete", "main", string(of(2)), string(of(3)), string(of(4)))
	s.want(3, "no backup has this ID", "delete", "main", string(of(2)), "nonesuch")
	s.want(3, "there is no such backup", "keep", "main", "20200101T000000", "--status")
	s.want(2, "wants a SERVER and a BACKUP", "delete", "main")
	s.want(2, "full and standalone", "keep", "main", "oldest", "--target", "forever")
	s.want(4, "incremental", "keep", "main", string(of(6)), "--target", "full")
	s.want(4, "STARTED", "keep", "main", string(of(7)), "--target", "full")
	s.want(5, "start it: holdfast up", "delete", "main", string(of(7)))

	reader, err := s.ShareID(of(6))
	s.must(err)
	s.want(4, "no way to force it", "delete", "main", string(of(5)))
	reader.Release()
	maker, err := s.LockBackup()
	s.must(err)
	s.want(4, "holdfast cancel main", "delete", "main", string(of(2)))
	s.want(4, "holdfast cancel main", "retention", "main")
	maker.Release()
	if got := s.left(); got != before {
		t.Errorf("what was refused left %s", got)
	}

	s.want(0, "Deleted backup "+string(of(6)), "delete", "main", string(of(5)), "oldest")
	if got := s.left(); got != "03:DONE 04:DONE 07:STARTED 3 4 5 6 7 8" {
		t.Error(got)
	}

	// A deletion that was interrupted is finished, and not restored from.
	s.must(s.MarkDeleting(of(3)))
	s.want(4, "its deletion has begun", "restore", "main", string(of(3)), filepath.Join(filepath.Dir(s.conf), "dest"))
	s.want(4, "its deletion has begun", "keep", "main", string(of(3)), "--target", "full")
	s.want(0, "Deleted backup "+string(of(3)), "retention", "main")
}
