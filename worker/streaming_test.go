//go:build integration

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/catalog"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
	"github.com/holdfast-pg/holdfast/internal/walarchive"
)

var streaming = []string{"streaming_archiver = on", "slot_name = barman", "create_slot = auto"}

// newStreamingBed is a bed whose WAL comes both ways, in segments of 1 MiB.
func newStreamingBed(t *testing.T, version string) *bed {
	t.Helper()
	b := &bed{Stack: stacktest.Start(t, stacktest.Options{Version: version, Method: config.MethodPostgres, SegmentMB: 1, Settings: streaming})}
	dir := filepath.Join(b.Home, stacktest.Server)
	b.cat = catalog.Open(catalog.Layout{Server: stacktest.Server, BackupDir: dir, BaseDir: filepath.Join(dir, "base"), MetaDir: filepath.Join(dir, "meta"), LockDir: b.Home,
		WALDir: filepath.Join(dir, "wals"), XlogDBDir: filepath.Join(dir, "wals"), StreamingDir: filepath.Join(dir, "streaming"), IncomingDir: filepath.Join(dir, "incoming"), ErrorsDir: filepath.Join(dir, "errors")})
	t.Cleanup(func() { b.Must(t, "receive-wal", "--stop", stacktest.Server) })
	b.Cluster.Exec(t, "create table plain (n int, payload text)")
	return b
}

func (b *bed) awaitStreaming(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); b.Cluster.Value(t, "select count(*) from pg_stat_replication where application_name = 'barman_receive_wal' and state = 'streaming'") != "1"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("WAL is not streamed")
		}
	}
}

// segments fills n segments, and returns the names of the first and the last.
func (b *bed) segments(t *testing.T, n int) (first, last string) {
	t.Helper()
	for i := range n {
		last = b.Cluster.Value(t, "pg_walfile_name(pg_current_wal_lsn())")
		if i == 0 {
			first = last
		}
		b.Cluster.Exec(t, fmt.Sprintf("insert into plain select g, repeat(md5(random()::text), 40) from generate_series(1, %d) g", 20+i%30))
		b.Cluster.Exec(t, "select pg_switch_wal()")
	}
	return first, last
}

// TestStreaming: WAL that comes both ways arrives once, without a hole,
// whatever is killed meanwhile; and it may come by streaming alone.
func TestStreaming(t *testing.T) {
	t.Parallel()
	b := newStreamingBed(t, pgtest.Versions()[1])
	b.awaitStreaming(t)
	var killing sync.WaitGroup
	written := make(chan struct{})
	kills := map[string]int{}
	killing.Go(func() { b.killInTurn(t, written, kills) })
	first, last := b.segments(t, 100)
	close(written)
	killing.Wait()
	for _, victim := range []string{"receiver", "program", "engine", "workflow"} {
		if kills[victim] == 0 {
			t.Errorf("the %s was never killed: %v", victim, kills)
		}
	}
	b.awaitStreaming(t)
	b.awaitArchived(t, last)
	b.checkArchive(t, first, last)

	t.Run("streaming alone", b.streamingAlone)
}

// killInTurn kills one process after the other until everything is written,
// and archives what has arrived in between.
func (b *bed) killInTurn(t *testing.T, written <-chan struct{}, kills map[string]int) {
	victims := []string{"receiver", "workflow", "receiver", "engine", "program"}
	for i := 0; ; i++ {
		select {
		case <-written:
			if i > len(victims) {
				return
			}
		case <-time.After(100 * time.Millisecond):
		}
		victim := victims[i%len(victims)]
		if victim == "receiver" || victim == "program" {
			b.awaitStreaming(t)
		}
		if victim == "program" {
			if i < len(victims) { // starting everything anew takes seconds: once is enough
				b.Crash(t)
				b.awaitStreaming(t) // nobody of us is there
				kills[victim]++
				b.Up(t)
			}
		} else {
			kills[victim] += b.Kill(t, victim)
		}
		if r := b.Holdfast(t, "archive-wal", stacktest.Server); r.Code != 0 && r.Code != 4 {
			t.Errorf("archive-wal: exit %d, %s", r.Code, r.Stderr)
		}
	}
}

func (b *bed) awaitArchived(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		b.Must(t, "archive-wal", stacktest.Server)
		_, err := os.Stat(filepath.Join(b.cat.WALDir, name[:16], name))
		if err == nil && !b.streamed(name) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not arrive: %v; streamed %v", name, err, b.streamed(name))
		}
	}
}

// streamed reports whether segments before name still wait in the streaming directory.
func (b *bed) streamed(name string) bool {
	names, _ := filepath.Glob(filepath.Join(b.cat.StreamingDir, "*"))
	return slices.ContainsFunc(names, func(path string) bool { return len(filepath.Base(path)) == 24 && filepath.Base(path) < name })
}

// checkArchive makes sure that from first to last no segment is missing, that
// xlog.db has each file once and nothing else, that PostgreSQL reads it all, and
// that nothing was set aside.
func (b *bed) checkArchive(t *testing.T, first, last string) {
	t.Helper()
	archive := walarchive.Open(b.cat.Layout, walarchive.Options{})
	if missing, err := archive.Missing(t.Context(), first, last, 1<<20); err != nil || len(missing) > 0 {
		t.Errorf("missing: %v, %v", missing, err)
	}
	listed, stored := []string{}, []string{}
	err := archive.Each(t.Context(), func(e walarchive.Entry) error { listed = append(listed, e.Name); return nil })
	err = errors.Join(err, archive.EachStored(t.Context(), func(name string) { stored = append(stored, name) }))
	slices.Sort(listed)
	if err != nil || !slices.Equal(listed, stored) {
		t.Errorf("xlog.db lists %d files, the archive has %d, %v", len(listed), len(stored), err)
	}
	cmd := exec.Command(filepath.Join(b.Cluster.BinDir, "pg_waldump"), "--quiet", "-p", filepath.Join(b.cat.WALDir, first[:16]), first, last)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if set, err := os.ReadDir(b.cat.ErrorsDir); err != nil || len(set) > 0 {
		t.Errorf("set aside: %v, %v", set, err)
	}
}

// streamingAlone: with archive_mode = off a backup is DONE, restores, and Barman
// finds nothing wrong.
func (b *bed) streamingAlone(t *testing.T) {
	b.Cluster.Exec(t, "alter system set archive_mode = off")
	b.Cluster.Restart(t)
	b.Configure(t, config.MethodPostgres, append([]string{"archiver = off"}, streaming...)...)
	b.awaitStreaming(t)
	b.rows = b.Cluster.Fingerprint(t)
	got := b.backup(t)
	if r := b.Holdfast(t, "check", stacktest.Server); r.Code != 0 {
		t.Errorf("check: exit %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	if status := b.Must(t, "status", stacktest.Server).Stdout; !strings.Contains(status, "WAL streaming: running, process") {
		t.Errorf("status says\n%s", status)
	}
	dest := filepath.Join(pgtest.Dir(t), "restored")
	b.Must(t, "restore", stacktest.Server, string(got.ID), dest)
	c := pgtest.NewFromDataDir(t, b.Cluster.Version, dest)
	if c.Fingerprint(t) != b.rows {
		t.Error("the restored rows are not those of the source")
	}
	c.Stop(t, pgtest.Immediate)
	barman := b.barman(t, dest, "check", stacktest.Server)
	if strings.Contains(barman, "FAILED") {
		t.Errorf("Barman's check:\n%s", barman)
	}
	b.sourceApart(t, dest)

	b.Must(t, "receive-wal", "--stop", stacktest.Server)
	if r := b.Holdfast(t, "backup", stacktest.Server); r.Code != 4 || !strings.Contains(r.Stderr, "holdfast cron") {
		t.Errorf("a backup without streaming: exit %d, %s", r.Code, r.Stderr)
	}
	b.Must(t, "cron", stacktest.Server)
	b.awaitStreaming(t)
}

// sourceApart: where WAL is streamed from has items of its own in the check, the
// same that Barman has.
func (b *bed) sourceApart(t *testing.T, dest string) {
	b.Cluster.Exec(t, "create role blind login replication")
	for user, want := range map[string]string{"": "has monitoring privileges (WAL streaming)", " user=blind": "no access to monitoring functions"} {
		b.Configure(t, config.MethodPostgres, append([]string{"archiver = off", "wal_streaming_conninfo = " + b.Cluster.DSN() + " application_name=apart" + user}, streaming...)...)
		var ours, theirs map[string]string
		// pg_receivewal is restarted with the new settings meanwhile.
		for deadline := time.Now().Add(patience); ; {
			ours = aboutStreaming(b.Holdfast(t, "check", stacktest.Server).Stdout)
			theirs = aboutStreaming(b.barmanMay(t, dest, "check", stacktest.Server).Stdout)
			if maps.Equal(ours, theirs) && ours["replication slot (WAL streaming)"] == "OK" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%q: we check %v, Barman %v", user, ours, theirs)
			}
		}
		if ours[want] == "" || len(ours) != 5 {
			t.Errorf("%q: %v", user, ours)
		}
	}
	b.Configure(t, config.MethodPostgres, append([]string{"archiver = off"}, streaming...)...)
	b.awaitStreaming(t)
}

// aboutStreaming are the items of a check that concern where WAL is streamed from.
func aboutStreaming(check string) map[string]string {
	out := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\s*(.* \(WAL streaming\)|no access to monitoring functions): (OK|FAILED)`).FindAllStringSubmatch(check, -1) {
		out[m[1]] = m[2]
	}
	return out
}
