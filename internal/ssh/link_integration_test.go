//go:build integration

package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/holdfast-pg/holdfast/internal/command"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/shellwords"
	"github.com/holdfast-pg/holdfast/internal/sshtest"
)

func open(t *testing.T, text string, env ...string) *Link {
	t.Helper()
	l, err := Open(t.Context(), text, env...)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l
}

func run(t *testing.T, l *Link, script string) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, l.Run(t.Context(), script, &out))
	return out.String()
}

func TestScripts(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{})
	l := open(t, s.Command())
	assert.Equal(t, "a\x00b\nit's", run(t, l, `printf 'a\0b\n'; printf %s `+Quote("it's")))
	err := l.Run(t.Context(), "echo said >&2; exit 7", io.Discard)
	var exit *command.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 7, exit.Code)
	assert.Contains(t, exit.Stderr, "said")
	full := errors.New("full")
	require.ErrorIs(t, l.Run(t.Context(), "echo x", refusing{full}), full)
}

type refusing struct{ err error }

func (r refusing) Write([]byte) (int, error) { return 0, r.err }

// TestTroubleHasItsCure: whatever keeps us out is named, with what to do.
func TestTroubleHasItsCure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		options sshtest.Options
		change  func(*sshtest.Server)
		command string
		kind    fault.Kind
		text    string
		hint    string
	}{
		{name: "another host key", change: func(s *sshtest.Server) { s.Kill(t); s.NewHostKey(t); s.Up(t) }, kind: fault.Refused, text: "the key of the host is not the one that is known", hint: "ssh-keygen -R"},
		{name: "unknown host", change: func(s *sshtest.Server) {
			require.NoError(t, os.Truncate(filepath.Join(s.Dir, "known_hosts"), 0))
		}, kind: fault.Refused, text: "the host is not known here", hint: "log in once by hand"},
		{name: "refused key", change: func(s *sshtest.Server) { s.Refuse(t) }, kind: fault.Permission, text: "does not let us log in", hint: "authorized_keys"},
		{name: "nobody listens", change: func(s *sshtest.Server) { s.Kill(t) }, kind: fault.Connection, text: "nothing listens there", hint: "start sshd"},
		{name: "silent host", command: "ssh -o ConnectTimeout=1 192.0.2.1", kind: fault.Connection, text: "", hint: "host"},
		{name: "no such host", command: "ssh nowhere.invalid", kind: fault.Connection, text: "the name of the host has no address", hint: "name service"},
		{name: "noisy shell", options: sshtest.Options{Noise: "Welcome to the machine"}, kind: fault.Tool, text: `"Welcome to the machine"`, hint: ".bashrc"},
		{name: "unknown option", command: "ssh -o Nonsense=yes pg", kind: fault.Config, text: "ssh does not know an option", hint: "ssh_command"},
		{name: "no such program", command: "nossh pg", kind: fault.Tool, text: "nossh", hint: "install it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.command == "" {
				s := sshtest.Start(t, c.options)
				if c.change != nil {
					c.change(s)
				}
				c.command = s.Command()
			}
			_, err := Open(t.Context(), c.command)
			require.ErrorContains(t, err, c.text)
			assert.Equal(t, c.kind, fault.KindOf(err), "%v", err)
			assert.Contains(t, fault.HintOf(err), c.hint)
			assert.Equal(t, c.name == "noisy shell", IsNoise(err))
		})
	}
}

// TestOptionsOfTheUserStay: what ssh_config or the command says is not overridden.
func TestOptionsOfTheUserStay(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{Config: []string{"ServerAliveInterval 7"}})
	words, err := shellwords.Split(s.Command() + " -o ConnectTimeout=3")
	require.NoError(t, err)
	options, share := complete(t.Context(), "/usr/bin/ssh", words)
	assert.Equal(t, []string{"-o", "BatchMode=yes"}, options)
	assert.True(t, share)
	own := sshtest.Start(t, sshtest.Options{Config: []string{"ControlPath " + filepath.Join(s.Dir, "own"), "ControlMaster auto"}})
	l := open(t, own.Command())
	assert.Empty(t, l.dir, "a user who shares connections is left to it")
	assert.Equal(t, "x", run(t, l, "printf x"))
	t.Cleanup(func() { _ = exec.Command("ssh", append([]string{"-O", "exit"}, l.words[1:]...)...).Run() })
}

// TestAnotherProgram: a script that stands for ssh gets no options of OpenSSH.
func TestAnotherProgram(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "login")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n[ \"$*\" = 'my host sh' ] || exit 1\nshift 2; exec \"$@\"\n"), 0o755))
	l := open(t, program+" my host")
	assert.Equal(t, "x", run(t, l, "printf x"))
}

// TestOneConnection is shared, comes back, and does not outlive the link.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	s := sshtest.Start(t, sshtest.Options{MaxSessions: 1})
	l := open(t, s.Command())
	var where string
	assert.Eventually(t, func() bool {
		before := where
		where = run(t, l, `echo "$SSH_CONNECTION"`)
		return where == before
	}, 30*time.Second, time.Millisecond, "two scripts share a connection, once the session before them has ended")
	t.Run("more sessions than it may have", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() {
				var out bytes.Buffer
				if err := l.Run(t.Context(), fmt.Sprintf("sleep 0.3; echo %d", i), &out); err != nil || out.String() != fmt.Sprintln(i) {
					t.Errorf("%q, %v", out.String(), err)
				}
			})
		}
		all.Wait()
	})
	t.Run("cut", func(t *testing.T) {
		assert.Positive(t, s.Cut(t))
		for deadline := time.Now().Add(time.Minute); ; {
			var out bytes.Buffer
			err := l.Run(t.Context(), `echo "$SSH_CONNECTION"`, &out)
			if err == nil {
				assert.NotEqual(t, where, out.String())
				break
			}
			require.True(t, fault.Is(err, fault.Connection) && time.Now().Before(deadline), "%v", err)
		}
	})
	dir := l.dir
	require.DirExists(t, dir)
	l.Close()
	assert.NoDirExists(t, dir)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if n := len(connected(t, s)); n == 0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%d processes of ssh are left", n)
		}
	}
}

// connected are the clients of a daemon.
func connected(t *testing.T, s *sshtest.Server) (out []string) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, path := range paths {
		if text, err := os.ReadFile(path); err == nil && bytes.HasPrefix(text, []byte("/usr/bin/ssh\x00")) && bytes.Contains(text, []byte(s.Dir)) {
			out = append(out, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return out
}

// TestSocketsOfKilledProcessesGo with the next link.
func TestSocketsOfKilledProcessesGo(t *testing.T) {
	dead, err := os.MkdirTemp("", socketPrefix+"4194303-1-")
	require.NoError(t, err)
	dir, err := socketDir()
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	assert.NoDirExists(t, dead)
	assert.DirExists(t, dir)
	t.Setenv("TMPDIR", filepath.Join(pgtest.Dir(t), strings.Repeat("x", 100)))
	require.NoError(t, os.Mkdir(os.Getenv("TMPDIR"), 0o755))
	long, err := socketDir()
	require.NoError(t, err)
	assert.Empty(t, long, "a path that is too long for a socket is not used")
}
