//go:build integration

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/gpg"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// keyring is a keyring of the server's user, and the gpg that uses it.
type keyring struct {
	bin        string // has the program
	hold, held string // while hold is there, a worker's gpg waits, and says so
}

const (
	recipient  = "backups@example.org"
	passphrase = "geheim word"
)

func newKeyring(t *testing.T, b *bed) keyring {
	t.Helper()
	k := keyring{bin: filepath.Join(b.Dir, "gpg"), hold: filepath.Join(b.Dir, "hold"), held: filepath.Join(b.Dir, "held")}
	home := filepath.Join(b.Dir, "keys")
	program, err := exec.LookPath("gpg")
	if err != nil {
		t.Fatal("gpg is missing: run `make testbed`")
	}
	cred := pgtest.Credential(t)
	for _, dir := range []string{k.bin, home} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf(`#!/bin/sh
if [ -e '%[1]s' ] && grep -q holdfast-worker /proc/$PPID/cmdline; then
	touch '%[2]s'
	while [ -e '%[1]s' ]; do sleep 0.05; done
fi
exec %[3]s --homedir '%[4]s' "$@"
`, k.hold, k.held, program, home)
	if err := os.WriteFile(filepath.Join(k.bin, "gpg"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	// An agent that remembers passphrases would hide that a wrong one was given.
	if err := os.WriteFile(filepath.Join(home, "gpg-agent.conf"), []byte("default-cache-ttl 0\nmax-cache-ttl 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if cred != nil {
		for _, path := range []string{b.Dir, home, filepath.Join(home, "gpg-agent.conf")} {
			if err := os.Chown(path, int(cred.Uid), int(cred.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	as := func(program string, args ...string) {
		cmd := exec.Command(program, args...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", program, err, out)
		}
	}
	as(filepath.Join(k.bin, "gpg"), "--batch", "--pinentry-mode", "loopback", "--passphrase", passphrase, "--quick-generate-key", recipient, "future-default", "default", "never")
	endAgent := func() { as("gpgconf", "--homedir", home, "--kill", "all") }
	endAgent() // it knows the passphrase
	t.Cleanup(endAgent)
	return k
}

// lines are the options as the configuration has them.
func (k keyring) lines(b *bed, ask string) []string {
	return []string{"backup_compression = zstd", "backup_compression_format = tar", "compression = zstd", "encryption = gpg", "encryption_key_id = " + recipient,
		"path_prefix = " + k.bin + ":" + b.Cluster.BinDir, "encryption_passphrase_command = " + ask}
}

// TestEncryption: Barman and we restore what gpg encrypted, whoever took it.
func TestEncryption(t *testing.T) {
	t.Parallel()
	b := newBedAt(t, smallDisk(t), config.MethodPostgres, barmantest.PostgreSQL)
	k := newKeyring(t, b)
	t.Run("a key that is not there", func(t *testing.T) { noSuchKey(t, b, k) })
	b.Configure(t, config.MethodPostgres, k.lines(b, "echo '"+passphrase+"'")...)
	t.Run("taken and restored", func(t *testing.T) { encrypted(t, b) })
	t.Run("damaged before the proof", func(t *testing.T) { damagedBeforeProof(t, b) })
	t.Run("killed", func(t *testing.T) { killedWhileItEncrypts(t, b, k) })
	t.Run("a full disk", func(t *testing.T) { fullWhileItEncrypts(t, b, k) })
	t.Run("without the secret key", func(t *testing.T) { locked(t, b, k) })
	if strings.Contains(b.Log(t), passphrase) {
		t.Error("the log has the passphrase")
	}
}

// noSuchKey is found out before anything is entered.
func noSuchKey(t *testing.T, b *bed, k keyring) {
	lines := k.lines(b, "false")
	lines[slices.Index(lines, "encryption_key_id = "+recipient)] = "encryption_key_id = nobody@example.org"
	b.Configure(t, config.MethodPostgres, lines...)
	if r := b.Holdfast(t, "backup", stacktest.Server); r.Code == 0 || !strings.Contains(r.Stderr, "gpg --list-keys 'nobody@example.org'") {
		t.Errorf("exit code %d: %s", r.Code, r.Stderr)
	}
	if r := b.Holdfast(t, "check", stacktest.Server); r.Code == 0 || !strings.Contains(r.Stdout, "encryption: FAILED") {
		t.Errorf("check ends with %d: %s", r.Code, r.Stdout)
	}
	if n := b.count(t); n != 0 {
		t.Errorf("%d backups were entered", n)
	}
}

func encrypted(t *testing.T, b *bed) {
	got := b.backup(t)
	if r := b.Must(t, "check", stacktest.Server); !strings.Contains(r.Stdout, "encryption: OK") {
		t.Error(r.Stdout)
	}
	b.onlyEncrypted(t, got.ID)
	b.judge(t, got)
	theirs := b.recordsAsBarman(t, got.ID)
	b.onlyEncrypted(t, theirs)
	b.verify(t, taken{ID: theirs}, 1)
	b.verify(t, got, 0)
}

// onlyEncrypted: a backup has nothing clear but its manifest, nor have its segments.
func (b *bed) onlyEncrypted(t *testing.T, id backup.ID) {
	t.Helper()
	info, err := b.cat.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	if info.Encryption == nil || *info.Encryption != gpg.Name || info.Compression == nil || *info.Compression != "zstd" {
		t.Errorf("encryption %v, compression %v", info.Encryption, info.Compression)
	}
	entries, err := os.ReadDir(b.cat.DataDir(id))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{fmt.Sprint(info.Tablespaces[0].OID, ".tar.zst.gpg"), "backup_manifest", "base.tar.zst.gpg"}; !slices.Equal(names, want) {
		t.Errorf("%v, not %v", names, want)
	}
	segment := filepath.Join(b.Home, stacktest.Server, "wals", (*info.BeginWAL)[:16], *info.BeginWAL)
	text, err := os.ReadFile(segment)
	if err != nil || !gpg.Detect(text) {
		t.Errorf("%s is not encrypted: %v", segment, err)
	}
	list, err := os.ReadFile(filepath.Join(b.Home, stacktest.Server, "wals", "main-xlog.db"))
	if err != nil || !strings.Contains(string(list), *info.BeginWAL+"\t"+fmt.Sprint(len(text))+"\t") {
		t.Errorf("%v: %s", err, list)
	}
	for line := range strings.Lines(string(list)) {
		if strings.HasPrefix(line, *info.BeginWAL+"\t") && !strings.HasSuffix(line, "\tzstd\tgpg\n") {
			t.Errorf("%q", line)
		}
	}
}

// whileItEncrypts takes a backup, and does something while its complete copy is
// being encrypted.
func (b *bed) whileItEncrypts(t *testing.T, k keyring, do func()) stacktest.Result {
	copied := func() bool {
		id, ok := b.newest()
		if !ok {
			return false
		}
		if _, err := os.Stat(filepath.Join(b.cat.DataDir(id), "backup_manifest")); err == nil {
			return true
		}
		if _, err := os.Stat(b.cat.DataDir(id)); err == nil {
			if err := os.WriteFile(k.hold, nil, 0o644); err != nil {
				t.Error(err)
			}
		}
		return false
	}
	return b.duringWhen(t, copied, func() {
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			if _, err := os.Stat(k.held); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Error("nothing was encrypted")
				return
			}
		}
		id, _ := b.newest()
		if _, err := os.Stat(filepath.Join(b.cat.DataDir(id), "base.tar.zst")); err != nil {
			t.Error(err)
		}
		do()
		if err := errors.Join(os.Remove(k.hold), os.Remove(k.held)); err != nil {
			t.Error(err)
		}
	})
}

// killedWhileItEncrypts: the copy that is complete is not made again.
func killedWhileItEncrypts(t *testing.T, b *bed, k keyring) {
	before := b.count(t)
	got := took(t, b.whileItEncrypts(t, k, func() {
		// A child of it that has not executed its program yet looks like another one.
		if n := b.Kill(t, "copy"); n == 0 {
			t.Error("no worker was killed")
		}
	}))
	if got.Attempts != 1 {
		t.Errorf("%d attempts", got.Attempts)
	}
	b.onlyEncrypted(t, got.ID)
	b.verify(t, got, before)
}

// fullWhileItEncrypts: encrypted and clear archives are more than there is room
// for. Nothing is left in the way.
func fullWhileItEncrypts(t *testing.T, b *bed, k keyring) {
	before := b.count(t)
	filler := ""
	r := b.whileItEncrypts(t, k, func() {
		filler = fillUp(t, b.Home)
		// gpg waits until the backup has noticed.
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			id, _ := b.newest()
			if info, err := b.cat.Get(id); err == nil && info.Status == backup.Failed {
				return
			}
		}
		t.Error("the backup does not notice")
	})
	id, _ := b.newest()
	info, err := b.cat.Get(id)
	if err != nil || r.Code != 1 || info.Status != backup.Failed || info.Error == nil || !strings.Contains(*info.Error, "no space is left") {
		t.Errorf("exit code %d, %+v, %v: %s%s", r.Code, info, err, r.Stdout, r.Stderr)
	}
	b.CheckNothingIsLeft(t)
	if left, err := os.ReadDir(b.cat.DataDir(id)); err == nil && len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := errors.Join(b.cat.Remove(id), os.Remove(filler)); err != nil {
		t.Error(err)
	}
	b.verify(t, b.backup(t), before)
}

// locked: a host without the passphrase takes and proves backups, but restores none.
func locked(t *testing.T, b *bed, k keyring) {
	before := b.count(t)
	lines := k.lines(b, "")
	b.Configure(t, config.MethodPostgres, lines[:len(lines)-1]...)
	r := b.Must(t, "backup", stacktest.Server, "--wait")
	if !strings.Contains(r.Stdout+r.Stderr, "were not opened") {
		t.Error(r.Stdout)
	}
	id, _ := b.newest()
	b.onlyEncrypted(t, id)
	info, err := b.cat.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	// PostgreSQL delivers again what it was not told to be archived.
	b.Must(t, "wal-archive", stacktest.Server, filepath.Join(b.Cluster.DataDir, "pg_wal", *info.EndWAL))
	for ask, says := range map[string]string{"": "secret key", "echo falsch": "secret key", "echo falsch >&2; exit 3": "encryption_passphrase_command"} {
		b.Configure(t, config.MethodPostgres, append(lines[:len(lines)-1:len(lines)-1], "encryption_passphrase_command = "+ask)...)
		home := pgtest.Dir(t)
		r := b.Holdfast(t, "restore", stacktest.Server, string(id), filepath.Join(home, "restored"), "--tablespace", "odd name's:"+filepath.Join(home, "ts"))
		if r.Code == 0 || !strings.Contains(r.Stderr, says) || strings.Contains(r.Stderr, "falsch") {
			t.Errorf("%s: exit code %d: %s", ask, r.Code, r.Stderr)
		}
		if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
	b.Configure(t, config.MethodPostgres, k.lines(b, "echo '"+passphrase+"'")...)
	b.verify(t, taken{ID: id}, before)
}
