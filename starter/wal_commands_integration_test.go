//go:build integration

package main

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
)

// barman runs Barman on the shelf.
func (s *shelf) barman(args ...string) barmantest.Result {
	s.t.Helper()
	return barmantest.Run(s.t, []string{filepath.Dir(s.conf)}, 0, append([]string{"barman", "-c", s.conf}, args...)...)
}

// TestWALCommandsAreBarmans: of the same archive, with a hole and a history,
// both list the same files and end with the same code.
func TestWALCommandsAreBarmans(t *testing.T) {
	t.Parallel()
	s := newShelf(t, "streaming_conninfo = host=/nowhere")
	for _, n := range []int{3, 5} {
		s.add(n, nil)
		for _, name := range []string{"data/PG_VERSION", "data/base/1/1259", "16384/PG_18_202506291/5/1"} {
			path := filepath.Join(s.BackupDirOf(of(n)), name)
			s.must(os.MkdirAll(filepath.Dir(path), 0o755))
			s.must(os.WriteFile(path, []byte("x"), 0o644))
		}
		s.must(os.MkdirAll(filepath.Join(s.DataDir(of(n)), "pg_wal"), 0o755))
	}
	hash := filepath.Join(s.WALDir, segmentName(1)[:16])
	s.must(os.Remove(filepath.Join(hash, segmentName(7))))
	for _, name := range []string{filepath.Join(hash, segmentName(5)+".00000028.backup"), filepath.Join(s.WALDir, "00000002.history")} {
		s.must(os.WriteFile(name, []byte("x"), 0o644))
	}
	lines := func(text string) string {
		return strings.Join(strings.Fields(strings.ReplaceAll(text, "Server main:", "")), " ")
	}
	for _, args := range [][]string{
		{"rebuild-xlogdb", "main"}, {"list-servers"}, {"list-servers", "--minimal"}, {"list-server"}, {"list-backups", "--minimal", "main"}, {"list-backup", "main"},
		{"list-files", "main", "oldest", "--target", "data"}, {"list-files", "main", "oldest", "--target", "standalone"}, {"list-files", "main", "oldest", "--target", "wal"},
		{"list-files", "main", "oldest", "--target", "full"}, {"list-files", "main", "latest"}, {"list-files", "main", "latest", "--target", "full"},
		{"list-files", "main", "latest", "--target", "data", "--list-empty-directories"},
		{"get-wal", "main", segmentName(2), "--peek", "3"}, {"get-wal", "main", segmentName(4), "-p", "9"}, {"get-wal", "main", segmentName(7), "--peek", "2"},
		{"get-wal", "main", "--test", "x"}, {"get-wal", "main", "nonsense"}, {"get-wal", "main", segmentName(7)}, {"get-wal", "main", segmentName(2), "-o", "/nonexistent"},
		{"check-archived-wal-range", "main", segmentName(2), segmentName(6)}, {"check-archived-wal-range", "main", segmentName(2), segmentName(12)},
		{"check-wal-archive", "main"}, {"check-wal-archive", "main", "--timeline", "2"}, {"check-wal-archive", "main", "--timeline", "3"},
	} {
		theirs, ours := s.barman(args...), s.run(args...)
		if ours.code != theirs.Exit {
			t.Errorf("%v: exit %d, Barman's is %d\n%s", args, ours.code, theirs.Exit, ours.stderr)
		}
		a, b := strings.TrimLeft(lines(theirs.Stdout), "- "), lines(ours.stdout)
		if strings.HasPrefix(args[0], "list-files") { // in whatever order
			a, b = sortedWords(a), sortedWords(b)
		}
		if a != b {
			t.Errorf("%v: Barman says\n%s\nwe say\n%s", args, a, b)
		}
	}
	s.want(1, segmentName(7)+", "+segmentName(9), "-f", "json", "check-archived-wal-range", "main", segmentName(2), segmentName(9))
}

// TestGetWAL: a segment arrives as it was, in every form, in a pipe and in a directory.
func TestGetWAL(t *testing.T) {
	t.Parallel()
	s := newSite(t, "15", "compression = gzip")
	s.backup()
	name := s.anySegment()
	want := readFile(t, filepath.Join(s.restoreTo("pitr", "latest", "--target-immediate", "--no-get-wal"), "barman_wal", name))
	gunzip := func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }
	for option, expand := range map[string]func(io.Reader) (io.Reader, error){
		"-P": func(r io.Reader) (io.Reader, error) { return r, nil }, "-z": gunzip, "-x": gunzip, "--keep-compression": gunzip,
		"-j": func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil },
	} {
		same := func(where, content string) {
			t.Helper()
			r, err := expand(strings.NewReader(content))
			s.must(err)
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s to %s: %d bytes, %v", option, where, len(got), err)
			}
		}
		same("stdout", s.ok("get-wal", "main", name, option))
		dir := filepath.Join(s.home, "out"+option)
		s.must(os.Mkdir(dir, 0o755))
		s.own(dir)
		s.ok("get-wal", option, "main", name, "--output-directory", dir)
		same("a directory", string(readFile(t, filepath.Join(dir, name))))
	}
	if a := s.run("-f", "json", "get-wal", "main", name, "--keep-compression"); a.code != 0 || strings.HasSuffix(a.stdout, "}\n") {
		t.Errorf("exit %d, and stdout ends with %q", a.code, a.stdout[max(0, len(a.stdout)-20):])
	}
	s.refuse([]mistake{
		{"two forms", "", []string{"get-wal", "main", name, "-z", "-j"}, 2, []string{"gzip", "bzip2"}},
		{"nothing to peek", "", []string{"get-wal", "main", name, "--peek", "0"}, 2, []string{"at least 1"}},
		{"no name", "", []string{"get-wal", "main"}, 2, []string{"SERVER", "NAME"}},
		{"not mounted", "/repo=>/unmounted/repo", []string{"get-wal", "main", name}, 126, []string{"mounted"}},
		{"not mounted in a test", "/repo=>/unmounted/repo", []string{"get-wal", "main", "-t"}, 126, []string{"mounted"}},
		{"another server", "", []string{"get-wal", "mian", name}, 126, []string{"did you mean main?"}},
	})
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sortedWords(text string) string {
	words := strings.Fields(text)
	slices.Sort(words)
	return strings.Join(words, " ")
}

// TestCheckBackup: a hole is told from WAL that may still arrive, and from damage.
func TestCheckBackup(t *testing.T) {
	t.Parallel()
	s := newSite(t, pgtest.Versions()[0])
	id := string(s.backup())
	s.want(0, "archived and whole", "check-backup", "main", id)
	cat := s.catalog()
	info, err := cat.Resolve("latest")
	s.must(err)
	segment := filepath.Join(cat.WALDir, (*info.BeginWAL)[:16], *info.BeginWAL)
	whole := readFile(t, segment)
	s.must(os.Truncate(segment, 1<<20))
	s.want(1, "1048576 bytes", "check-backup", "main", id)
	s.must(os.Remove(segment))
	s.want(1, "1 segment is missing", "check-backup", "main", "latest")
	s.want(1, "holdfast wal-archive main FILE", "check-backup", "main", "latest")
	s.must(os.WriteFile(segment, whole, 0o600))
	s.own(segment)

	waiting := func(i *backupinfo.Info) {
		i.Status = backup.WaitingForWALs
		i.BeginWAL, i.EndWAL = ptr(segmentName(200)), ptr(segmentName(201))
	}
	waiting(info)
	s.must(cat.Save(info))
	s.want(0, "waits for 2 segments of WAL: "+segmentName(200), "check-backup", "main", id)
	info.Status, info.BeginWAL, info.EndWAL = backup.Failed, nil, nil
	s.must(cat.Save(info))
	s.want(0, "has no end", "check-backup", "main", id)
	s.want(3, "did you mean last-failed?", "check-backup", "main", "lst-failed")
}

// want runs a command that must end with a code and say something.
func (s *site) want(code int, says string, args ...string) {
	s.t.Helper()
	if a := s.run(args...); a.code != code || !strings.Contains(a.stdout+a.stderr, says) {
		s.t.Errorf("holdfast %v: exit %d, want %d and %q\n%s%s", args, a.code, code, says, a.stdout, a.stderr)
	}
}
