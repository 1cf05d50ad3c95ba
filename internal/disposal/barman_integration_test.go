//go:build integration

package disposal_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/barmantest"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/disposal"
	"github.com/holdfast-pg/holdfast/internal/pgtest"
	"github.com/holdfast-pg/holdfast/internal/retention"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// record is a backup of a catalogue that Barman and we have both.
type record struct {
	info *backupinfo.Info
	keep string
}

// site is many servers in one configuration.
type site struct {
	t    *testing.T
	home string
	cfg  *config.Config
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func newSite(t *testing.T, servers map[string]string) *site {
	t.Helper()
	s := &site{t: t, home: pgtest.Dir(t)}
	var conf strings.Builder
	fmt.Fprintf(&conf, "[barman]\nbarman_home = %[1]s\nbarman_user = root\nlog_file = %[1]s/barman.log\n", s.home)
	for name, options := range servers {
		fmt.Fprintf(&conf, "[%s]\nbackup_method = postgres\narchiver = on\nconninfo = host=/nowhere\nstreaming_conninfo = host=/nowhere\n%s\n", name, options)
	}
	path := filepath.Join(s.home, "barman.conf")
	s.must(os.WriteFile(path, []byte(conf.String()), 0o644))
	var err error
	s.cfg, err = config.Load(path)
	s.must(err)
	return s
}

func (s *site) barman(args ...string) string {
	s.t.Helper()
	r := barmantest.Run(s.t, []string{s.home}, 0, append([]string{"barman", "-c", filepath.Join(s.home, "barman.conf")}, args...)...)
	if r.Exit != 0 {
		s.t.Fatalf("barman %v: exit %d\n%s%s", args, r.Exit, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// disposal is ours of a server, as our configuration describes it.
func (s *site) disposal(server string) *disposal.Disposal {
	s.t.Helper()
	settings, err := s.cfg.Server(server)
	s.must(err)
	d, err := disposal.Of(s.t.Context(), settings, nil, nil)
	s.must(err)
	return d
}

// fill writes a catalogue and the segments of its WAL.
func (s *site) fill(server string, records []record, from, to int) {
	s.t.Helper()
	c := s.disposal(server).Catalog
	s.must(c.EnsureDirs())
	for _, r := range records {
		s.must(os.WriteFile(filepath.Join(c.MetaDir, string(r.info.ID)+"-backup.info"), r.info.Encode(), 0o644))
		s.must(os.MkdirAll(c.DataDir(r.info.ID), 0o755))
		s.must(os.WriteFile(filepath.Join(c.DataDir(r.info.ID), "PG_VERSION"), []byte("18\n"), 0o644))
		if r.keep != "" {
			s.must(os.WriteFile(filepath.Join(c.MetaDir, string(r.info.ID)+"-keep"), []byte(r.keep), 0o644))
		}
	}
	var list strings.Builder
	for n := from; n <= to; n++ {
		name := big(n)
		path := filepath.Join(c.WALDir, wal.HashDir(name), name)
		s.must(os.MkdirAll(filepath.Dir(path), 0o755))
		s.must(os.WriteFile(path, []byte("x"), 0o644))
		fmt.Fprintf(&list, "%s\t1\t1795401428.3\tNone\tNone\n", name)
	}
	s.must(os.WriteFile(c.XlogDB(), []byte(list.String()), 0o644))
}

func big(n int) string { return wal.Segment{TLI: 1, No: uint64(n), Size: 16 * mib}.Name() }

// left are the backups and the WAL that a server has.
func (s *site) left(server string) (backups, segments []string) {
	s.t.Helper()
	c := s.disposal(server).Catalog
	all, err := c.All()
	s.must(err)
	for _, i := range all {
		backups = append(backups, string(i.ID))
	}
	list, err := os.ReadFile(c.XlogDB())
	s.must(err)
	for line := range strings.Lines(string(list)) {
		segments = append(segments, line[:24])
	}
	return backups, segments
}

// random makes a catalogue on which Barman can be trusted: one timeline, and no
// chain that is still growing.
func random(t *testing.T, r *rand.Rand, server string, today time.Time) ([]record, int) {
	t.Helper()
	sample, err := os.ReadFile("../backupinfo/testdata/postgres-full.backup.info")
	if err != nil {
		t.Fatal(err)
	}
	var out []record
	segment := 10
	for n := range 2 + r.IntN(9) {
		at := today.Add(-time.Duration(12-n) * 24 * time.Hour)
		info, _, err := backupinfo.Parse(backup.NewID(at), string(sample))
		if err != nil {
			t.Fatal(err)
		}
		begin, end := wal.LSN(segment*16*mib+40), wal.LSN(segment*16*mib+400)
		name := big(segment)
		info.ServerName, info.Children, info.BeginTime, info.EndTime = server, nil, &at, &at
		info.BeginLSN, info.EndLSN, info.BeginWAL, info.EndWAL = &begin, &end, &name, &name
		rec := record{info: info}
		switch {
		case n == 0:
		case r.IntN(5) == 0:
			info.Status = backup.Failed
		case r.IntN(6) == 0:
			info.Status = backup.WaitingForWALs
		case r.IntN(3) == 0 && out[n-1].info.Status == backup.Done:
			parent := out[n-1].info
			info.Parent = &parent.ID
			parent.Children = append(parent.Children, info.ID)
		}
		if info.Status == backup.Done && info.Parent == nil && r.IntN(5) == 0 {
			rec.keep = []string{"full", "standalone"}[r.IntN(2)]
		}
		out = append(out, rec)
		segment += 1 + r.IntN(3)
	}
	return out, segment
}

// TestBarmanAgrees compares the words that the policy finds, and what is left
// when it was applied, with Barman's on 50 catalogues.
func TestBarmanAgrees(t *testing.T) {
	t.Parallel()
	const catalogues = 50
	servers, today := map[string]string{}, time.Now().Add(-time.Hour).Truncate(time.Second)
	r := rand.New(rand.NewPCG(4, 1))
	for n := range catalogues {
		policy := fmt.Sprintf("REDUNDANCY %d", 1+r.IntN(3))
		if r.IntN(2) == 0 {
			policy = fmt.Sprintf("RECOVERY WINDOW OF %d DAYS", 1+r.IntN(9))
		}
		servers[fmt.Sprintf("s%02d", n)] = fmt.Sprintf("retention_policy = %s\nminimum_redundancy = %d", policy, r.IntN(3))
	}
	theirs, ours := newSite(t, servers), newSite(t, servers)
	standalone := map[string]bool{}
	for n := range catalogues {
		name := fmt.Sprintf("s%02d", n)
		records, last := random(t, r, name, today)
		for _, s := range []*site{theirs, ours} {
			s.fill(name, records, 10, last)
		}
		standalone[name] = slices.ContainsFunc(records, func(r record) bool { return r.keep == "standalone" })
	}

	var list map[string][]struct {
		ID     backup.ID `json:"backup_id"`
		Status string    `json:"status"`
		Word   string    `json:"retention_status"`
	}
	ours.must(json.Unmarshal([]byte(theirs.barman("-f", "json", "list-backups", "all")), &list))
	words := map[string]int{}
	for name := range servers {
		d := ours.disposal(name)
		survey, err := d.Catalog.Survey()
		ours.must(err)
		infos, err := survey.All()
		ours.must(err)
		verdicts, err := disposal.Judge(survey, infos, d.Policy, time.Now())
		ours.must(err)
		if len(infos) != len(list[name]) {
			t.Errorf("%s: Barman lists %d backups, we %d", name, len(list[name]), len(infos))
		}
		for _, b := range list[name] {
			ours := string(verdicts[b.ID].Word)
			words[ours]++
			if ours == string(retention.Valid) {
				ours = string(retention.None) // as Barman's lists say
			}
			if b.Word != "" && b.Word != ours {
				t.Errorf("%s (%s): Barman says %s of %s (%s), we %+v", name, servers[name], b.Word, b.ID, b.Status, verdicts[b.ID])
			}
		}
	}
	for _, w := range []string{"VALID", "OBSOLETE", "OBSOLETE*", "KEEP:FULL", "KEEP:STANDALONE", "-"} {
		if words[w] == 0 {
			t.Errorf("no catalogue has a backup that is %s", w)
		}
	}

	theirs.barman("cron")
	exact := 0
	for name := range servers {
		d := ours.disposal(name)
		plan, err := d.Plan(t.Context(), time.Now())
		ours.must(err)
		_, err = d.Apply(t.Context(), plan, time.Now())
		ours.must(err)
		theirBackups, theirWAL := theirs.left(name)
		ourBackups, ourWAL := ours.left(name)
		if !slices.Equal(theirBackups, ourBackups) {
			t.Errorf("%s (%s): Barman leaves %v\nwe leave %v", name, servers[name], theirBackups, ourBackups)
		}
		// Barman forgets WAL between a standalone backup and the next one when
		// it deletes nothing, so that it may have more.
		if standalone[name] {
			for _, w := range ourWAL {
				if !slices.Contains(theirWAL, w) {
					t.Errorf("%s (%s): only we leave %s", name, servers[name], w)
				}
			}
			continue
		}
		if exact++; !slices.Equal(theirWAL, ourWAL) {
			t.Errorf("%s (%s): Barman leaves %v\nwe leave %v", name, servers[name], theirWAL, ourWAL)
		}
	}
	if exact < catalogues/2 {
		t.Errorf("the WAL of only %d catalogues was compared", exact)
	}
}

// TestBarmanUnderstandsAKilledDeletion: after each step of ours Barman lists no
// half backup as DONE, and deletes what is left.
func TestBarmanUnderstandsAKilledDeletion(t *testing.T) {
	t.Parallel()
	steps := []string{"marked", "condemned", "emptied"}
	servers := map[string]string{}
	for _, name := range steps {
		servers[name] = ""
	}
	s := newSite(t, servers)
	var id backup.ID
	today := time.Now().Truncate(time.Second)
	for n, name := range steps {
		records, last := random(t, rand.New(rand.NewPCG(7, 7)), name, today)
		for i := range records {
			records[i].keep = ""
		}
		s.fill(name, records, 10, last)
		id = records[0].info.ID
		c := s.disposal(name).Catalog
		for _, step := range []func(backup.ID) error{c.MarkDeleting, c.Condemn, c.RemoveFiles}[:n+1] {
			s.must(step(id))
		}
	}
	var list map[string][]struct {
		ID     backup.ID     `json:"backup_id"`
		Status backup.Status `json:"status"`
	}
	s.must(json.Unmarshal([]byte(s.barman("-f", "json", "list-backups", "all")), &list))
	for _, name := range steps {
		want := backup.Failed
		if name == "marked" {
			want = backup.Done
		}
		if got := list[name][len(list[name])-1]; got.ID != id || got.Status != want {
			t.Errorf("%s: Barman lists %+v", name, got)
		}
		s.barman("delete", name, string(id))
		if _, err := s.disposal(name).Catalog.Get(id); err == nil {
			t.Errorf("%s: Barman did not delete %s", name, id)
		}
		if marks, err := s.disposal(name).Catalog.Marks(); err != nil || len(marks) > 0 {
			t.Errorf("%s: %v, %v", name, marks, err)
		}
	}
}
