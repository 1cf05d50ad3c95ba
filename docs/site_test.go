//go:build integration

package docs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/stacktest"
)

// site is the machine of the manual's reader: a server, an engine and the
// programs, with the manual's paths and ports led to places of the test's own.
type site struct {
	*stacktest.Stack
	t   *testing.T
	dir string // where pages write to
}

func newSite(t *testing.T) *site {
	t.Helper()
	version := pgtest.Versions()[1] // incremental.md needs 17 or later
	// The workers find pg_basebackup as a reader's do, and not by path_prefix.
	t.Setenv("PATH", pgtest.BinDir(t, version)+string(os.PathListSeparator)+os.Getenv("PATH"))
	s := &site{Stack: stacktest.Start(t, stacktest.Options{Version: version, Method: "postgres", OneDatabase: true}), t: t}
	s.dir = pgtest.Dir(t)
	t.Cleanup(s.endServers)
	return s
}

// places replaces what a page says by what it means here.
func (s *site) places(page string) *strings.Replacer {
	s.t.Helper()
	owner := "postgres"
	if os.Getuid() != 0 {
		current, err := user.Current()
		must(s.t, err)
		owner = current.Username
	}
	return strings.NewReplacer(
		"/etc/barman.conf", s.Config,
		"/etc/barman.d", s.Config+".d",
		"/var/lib/barman", s.Home,
		"/var/lib/postgresql", filepath.Join(s.dir, page),
		"/usr/local/bin/holdfast", filepath.Join(s.Bin, "holdfast")+" -c "+s.Config,
		"barman_user = postgres", "barman_user = "+owner,
		"host=127.0.0.1", fmt.Sprintf("host=127.0.0.1 port=%d", s.Cluster.Port),
		"5433", strconv.Itoa(pgtest.FreePort(s.t)),
	)
}

// follow runs a page from its first block to its last, in one shell, which ends
// at the first command that fails.
func (s *site) follow(t *testing.T, p page) {
	t.Helper()
	blocks, err := p.blocks()
	must(t, err)
	name := strings.TrimSuffix(filepath.Base(p.name), ".md")
	work := filepath.Join(s.dir, name)
	must(t, os.MkdirAll(filepath.Join(s.Config+".d"), 0o755))
	s.own(work)
	printed := func(b block) string { return filepath.Join(work, fmt.Sprintf(".printed-%04d", b.line)) }

	var script strings.Builder
	settings, ran, places := 0, 0, s.places(name)
	for _, b := range blocks {
		text := places.Replace(b.text)
		fmt.Fprintf(&script, "echo '%s:%d' >&2\n", p.name, b.line)
		switch b.kind {
		case "ini":
			// The whole configuration, or something to be added to it.
			file := s.Config
			if !strings.Contains(text, "[barman]") {
				settings++
				file = filepath.Join(s.Config+".d", fmt.Sprintf("%d.conf", settings))
			}
			fmt.Fprintf(&script, "cat > '%s' <<'END-OF-BLOCK'\n%sEND-OF-BLOCK\nholdfast config check\n", file, text)
		case "sql":
			fmt.Fprintf(&script, "psql -X -v ON_ERROR_STOP=1 <<'END-OF-BLOCK'\n%sEND-OF-BLOCK\n", text)
		case "sh":
			ran++
			fmt.Fprintf(&script, "exec 3>&1 >'%s'\n%sexec >&3\n", printed(b), text)
		}
	}
	if ran == 0 {
		return
	}
	s.bash(t, work, script.String())
	var last block
	for _, b := range blocks {
		switch b.kind {
		case "sh":
			last = b
		case "output":
			got, err := os.ReadFile(printed(last))
			must(t, err)
			if err := compare(string(got), b.text); err != nil {
				t.Errorf("%s:%d: %v; it printed\n%s", p.name, b.line, err, got)
			}
		}
	}
	must(t, os.RemoveAll(s.Config+".d"))
}

// bash runs a script as the user that owns the server and the backups.
func (s *site) bash(t *testing.T, dir, script string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-eu", "-o", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + s.Bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "HOLDFAST_CONFIG=" + s.Config, "LC_ALL=C.UTF-8", "TZ=UTC",
		"PGHOST=127.0.0.1", fmt.Sprint("PGPORT=", s.Cluster.Port), "PGUSER=postgres"}
	// A server that the page starts inherits it, so it is a file.
	said, err := os.Create(filepath.Join(dir, ".said"))
	must(t, err)
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pgtest.Credential(t), Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		text, readErr := os.ReadFile(said.Name())
		must(t, readErr)
		blocks, globErr := filepath.Glob(filepath.Join(dir, ".printed-*"))
		must(t, globErr)
		logs, globErr := filepath.Glob(filepath.Join(dir, "*.log"))
		must(t, globErr)
		for _, file := range append(blocks[max(0, len(blocks)-1):], logs...) {
			more, readErr := os.ReadFile(file)
			must(t, readErr)
			text = append(text, more...)
		}
		t.Fatalf("%v\n%s", errors.Join(err, ctx.Err()), text)
	}
}

// own makes a directory of the user that runs the pages.
func (s *site) own(dir string) {
	s.t.Helper()
	must(s.t, os.MkdirAll(dir, 0o755))
	for _, d := range []string{dir, s.Config + ".d"} {
		if c := pgtest.Credential(s.t); c != nil {
			must(s.t, os.Chown(d, int(c.Uid), int(c.Gid)))
		}
	}
	if c := pgtest.Credential(s.t); c != nil {
		must(s.t, os.Chown(s.Config, int(c.Uid), int(c.Gid)))
	}
}

// endServers ends what a page that failed has left running.
func (s *site) endServers() {
	pids, err := filepath.Glob(filepath.Join(s.dir, "*", "*", "postmaster.pid"))
	must(s.t, err)
	for _, file := range pids {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it ends just now
		}
		line, _, _ := strings.Cut(string(text), "\n")
		if pid, err := strconv.Atoi(line); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGQUIT)
		}
	}
}

// compare looks for the lines of want in got, in their order; "..." is any text.
func compare(got, want string) error {
	for _, line := range strings.Split(strings.TrimSpace(want), "\n") {
		var pattern bytes.Buffer
		for i, part := range strings.Split(strings.TrimSpace(line), "...") {
			if i > 0 {
				pattern.WriteString(".*")
			}
			pattern.WriteString(regexp.QuoteMeta(part))
		}
		where := regexp.MustCompile(`(?m)^\s*` + pattern.String() + `\s*$`).FindStringIndex(got)
		if where == nil {
			return fmt.Errorf("nothing printed is like %q", line)
		}
		got = got[where[1]:]
	}
	return nil
}
