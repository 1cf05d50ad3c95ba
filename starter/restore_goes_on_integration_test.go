//go:build integration

package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// slowStore stands before a store, keeps the names of what is read, and never answers for an object
// whose name has an end.
type slowStore struct {
	url  string
	mu   sync.Mutex
	hold string
	read []string // paths
}

func (s *bucketSite) slowStore(t *testing.T) *slowStore {
	t.Helper()
	p := &slowStore{}
	p.url = bent(t, s.g.URL, func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		p.mu.Lock()
		held := p.hold != "" && strings.HasSuffix(r.URL.Path, p.hold)
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, ".tar") {
			p.read = append(p.read, strings.TrimPrefix(r.URL.Path, "/bucket/pre/fix/"))
		}
		p.mu.Unlock()
		if held {
			<-r.Context().Done()
			return
		}
		forward.ServeHTTP(w, r)
	})
	return p
}

// holds changes what is never answered, and returns what was read so far.
func (p *slowStore) holds(end string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.read
	p.hold, p.read = end, nil
	return was
}

// noted are the archives of a restore that has not finished.
func noted(t *testing.T, building string) (names []string) {
	t.Helper()
	var ledgers []string
	for _, where := range []string{"", ".holdfast-staging/*"} {
		found, err := filepath.Glob(filepath.Join(building, where, ".holdfast-restore-ledger"))
		if err != nil {
			t.Fatal(err)
		}
		ledgers = append(ledgers, found...)
	}
	for _, path := range ledgers {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if name, ok := strings.CutPrefix(line, `{"unit":"`); ok && strings.HasSuffix(line, "\n") {
				name, _, _ = strings.Cut(name, `"`)
				names = append(names, name)
			}
		}
	}
	return names
}

// goesOn ends a restore whose store never sends one object, and gives the command again: what the
// first has noted is not read twice, and the rows are those of the source.
func (s *bucketSite) goesOn(t *testing.T, server, id, hold, want string, sig syscall.Signal) {
	t.Helper()
	store := s.slowStore(t)
	store.holds(hold)
	name := "it goes on " + server + sig.String()
	dest := filepath.Join(s.home, name)
	building := filepath.Join(s.home, "."+name+".holdfast-restore")
	args := []string{"restore", server, id, dest, "--tablespace", "ts1:" + dest + "_ts1", "--tablespace", "empty:" + dest + "_empty", "--from", s.url, "--endpoint-url", store.url}
	cmd := s.command(nil, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	s.must(cmd.Start())
	for end := time.Now().Add(time.Minute); len(noted(t, building)) == 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			_ = cmd.Process.Kill()
			t.Fatalf("nothing is noted\n%s", out.String())
		}
	}
	s.must(cmd.Process.Signal(sig))
	_ = cmd.Wait()
	if sig == syscall.SIGTERM && (cmd.ProcessState.ExitCode() != 130 || !strings.Contains(out.String(), "give the same command again")) {
		t.Errorf("exit %d\n%s", cmd.ProcessState.ExitCode(), out.String())
	}
	if _, err := os.Lstat(dest); err == nil {
		t.Error("a restore that did not finish has left a destination")
	}
	before, first := noted(t, building), store.holds("")
	a := s.runWith(nil, args...)
	if a.code != 0 || !strings.Contains(a.stdout, "this one goes on") {
		t.Fatalf("exit %d\n%s%s", a.code, a.stdout, a.stderr)
	}
	second := store.holds("")
	for _, name := range before {
		if !slices.Contains(first, name) || slices.Contains(second, name) {
			t.Errorf("%s was noted: read first %v, then %v", name, first, second)
		}
	}
	t.Logf("%d archives were noted, %d read then", len(before), len(second))
	r := pgtest.NewFromDataDir(t, s.Version, dest)
	if r.Fingerprint(t) != want {
		t.Error("other rows than the source")
	}
	r.AmCheck(t)
	r.Stop(t, pgtest.Fast)
	left, _ := filepath.Glob(filepath.Join(s.home, ".it goes on*"))
	for _, dir := range []string{dest, dest + "_ts1", dest + "_empty"} {
		more, _ := filepath.Glob(filepath.Join(dir, ".holdfast*"))
		left = append(left, more...)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
