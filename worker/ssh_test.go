//go:build integration

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/sshtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// newBedOver is a bed whose cluster is reached over ssh.
func newBedOver(t *testing.T, version string, o sshtest.Options, settings ...string) (*bed, *sshtest.Server) {
	o.As = pgtest.Credential(t)
	s := sshtest.Start(t, o)
	b := newBed(t, config.MethodLocalRsync, version)
	b.overSSH(t, s, settings...)
	return b, s
}

func (b *bed) overSSH(t *testing.T, s *sshtest.Server, settings ...string) {
	t.Helper()
	b.Configure(t, config.MethodRsync, append([]string{"ssh_command = " + s.Command()}, settings...)...)
}

// checkHost verifies that nothing of a backup runs on the host of the cluster.
func (b *bed) checkHost(t *testing.T) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if env, err := os.ReadFile(path); err == nil && bytes.Contains(env, []byte("HOLDFAST_COPY=")) && bytes.Contains(env, []byte(":"+b.Home)) {
			t.Errorf("%s is left on the host of the cluster", path)
		}
	}
}

// TestRsyncOverSSH: backups of a cluster on another host, which Barman restores
// too, whatever becomes of the way there.
func TestRsyncOverSSH(t *testing.T) {
	t.Parallel()
	b, s := newBedOver(t, pgtest.Versions()[1], sshtest.Options{Apart: true, MaxSessions: 1, Config: []string{"ConnectTimeout 2", "ServerAliveInterval 1", "ServerAliveCountMax 2"}},
		"parallel_jobs = 2", "network_compression = on", "tablespace_bandwidth_limit = odd:5000", "reuse_backup = link")
	t.Run("Barman restores it", func(t *testing.T) {
		before := b.count(t)
		first := b.backup(t)
		b.judge(t, first)
		b.age(t)
		second := b.backup(t)
		linked := 0
		for _, f := range b.newestFiles(t) {
			if f.links > 1 {
				linked++
			}
		}
		if linked < 100 {
			t.Errorf("%d files are linked to the backup before", linked)
		}
		b.verify(t, second, before+1)
		b.verify(t, first, before)
	})
	for name, cut := range map[string]func(){
		"connections end": func() { s.Cut(t) },
		"the network is down": func() {
			s.SetLink(t, false)
			// As long as a switch needs to start anew; ssh notices, and fails to come back.
			time.Sleep(30 * time.Second)
			s.SetLink(t, true)
		},
		"sshd is killed": func() {
			s.Kill(t)
			time.Sleep(1500 * time.Millisecond)
			s.Up(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := b.count(t)
			var there map[string]file
			got := took(t, b.during(t, func() { there = b.newestFiles(t); cut() }, slow...))
			if got.Attempts != 1 {
				t.Errorf("%d attempts", got.Attempts)
			}
			c := b.lastCopy(t)
			if c.SentFiles > c.Files {
				t.Errorf("%d files were sent, there are %d", c.SentFiles, c.Files)
			}
			now := b.newestFiles(t)
			for path, f := range there {
				if base := filepath.Base(path); now[path].inode != f.inode && base != "backup_label" && base != "pg_control" {
					t.Errorf("%s was copied twice", path)
				}
			}
			b.checkHost(t)
			b.verify(t, got, before)
		})
	}
	for _, victim := range []string{"copy", "keeper"} {
		t.Run("killed "+victim, func(t *testing.T) {
			b.try(t, scenario{config.MethodRsync, b.Cluster.Version, victim, duringCopy})
			b.checkHost(t)
		})
	}
	t.Run("refused", func(t *testing.T) { refusedOverSSH(t, b, s) })
}

// refusedOverSSH: what a backup would fail of is said before there is one, by
// check under Barman's names.
func refusedOverSSH(t *testing.T, b *bed, s *sshtest.Server) {
	before := b.count(t)
	for _, c := range []struct {
		name, item, says, cure string
		configure              func()
	}{
		{"exclusive", "exclusive backup supported", "version 15 removed them", "backup_options = concurrent_backup", func() { b.overSSH(t, s, "backup_options = exclusive_backup") }},
		{"noise", "ssh output clean", "Welcome", ".bashrc", func() {
			b.overSSH(t, sshtest.Start(t, sshtest.Options{As: pgtest.Credential(t), Noise: "Welcome"}))
		}},
		{"key", "ssh", "does not let us log in", "authorized_keys", func() { b.overSSH(t, s); s.Refuse(t) }},
		{"host", "ssh", "nothing listens there", "start sshd", func() { s.Kill(t) }},
	} {
		c.configure()
		r := b.Holdfast(t, "check", stacktest.Server)
		if line := item(r.Stdout, c.item); r.Code != 1 || !strings.Contains(line, "FAILED") || !strings.Contains(line, c.says) || !strings.Contains(line, c.cure) {
			t.Errorf("%s: check ends with %d: %s", c.name, r.Code, r.Stdout+r.Stderr)
		}
		r = b.Holdfast(t, "backup", stacktest.Server)
		if r.Code == 0 || !strings.Contains(r.Stderr, c.says) || !strings.Contains(r.Stderr, c.cure) {
			t.Errorf("%s: backup ends with %d: %s", c.name, r.Code, r.Stdout+r.Stderr)
		}
	}
	if n := b.count(t); n != before {
		t.Errorf("%d backups were entered", n-before)
	}
}

// item is the line of check about one thing.
func item(out, name string) string {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(strings.TrimSpace(line), name+": ") {
			return line
		}
	}
	return fmt.Sprintf("no item %q in %s", name, out)
}
