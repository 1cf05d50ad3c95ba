package restoreplan_test

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/internal/backup"
	"github.com/holdfast-pg/holdfast/internal/backupinfo"
	"github.com/holdfast-pg/holdfast/internal/fault"
	"github.com/holdfast-pg/holdfast/internal/pylit"
	"github.com/holdfast-pg/holdfast/internal/restoreplan"
	"github.com/holdfast-pg/holdfast/internal/wal"
)

// sample begins and ends in segment C of timeline 1.
func sample(t *testing.T) *backupinfo.Info {
	t.Helper()
	f, err := os.ReadFile("../backupinfo/testdata/rsync-concurrent.backup.info")
	if err != nil {
		t.Fatal(err)
	}
	info, _, err := backupinfo.Parse("20261123T023506", string(f))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// archive has segments B to F of timeline 1, and timelines 2 and 3 that left
// it within D and before C.
func archive(b *backupinfo.Info) restoreplan.Archive {
	a := restoreplan.Archive{Histories: map[uint32]wal.History{
		2: {TLI: 2, Switches: []wal.Switch{{TLI: 1, At: 0xD800000}}},
		3: {TLI: 3, Switches: []wal.Switch{{TLI: 1, At: 0xB800000}}},
	}}
	for i, name := range []string{
		"00000001000000000000000B", "00000001000000000000000C", "00000001000000000000000C.00000028.backup", "00000001000000000000000D",
		"00000001000000000000000D.partial", "00000001000000000000000E", "00000001000000000000000F", "00000002.history", "00000002000000000000000D",
		"00000002000000000000000E", "00000003.history", "00000003000000000000000B",
	} {
		a.Files = append(a.Files, restoreplan.WALFile{Name: name, At: b.EndTime.Add(time.Duration(i-2) * time.Minute)})
	}
	return a
}

func short(names []string) string {
	var out []string
	for _, n := range names {
		out = append(out, strings.ReplaceAll(strings.TrimLeft(n[:8], "0")+"/"+strings.TrimLeft(n[8:], "0"), "/.history", "h"))
	}
	return strings.Join(out, " ")
}

// TestWALOfATarget: exactly the segments that recovery can ask for.
func TestWALOfATarget(t *testing.T) {
	b := sample(t)
	for name, c := range map[string]struct {
		target restoreplan.Target
		tli    uint32
		want   string
	}{
		"latest":      {restoreplan.Target{}, 2, "1/C 1/D 2h 2/D 2/E 3h"},
		"current":     {restoreplan.Target{Timeline: "current"}, 1, "1/C 1/D 1/E 1/F 2h 3h"},
		"number":      {restoreplan.Target{Timeline: "2"}, 2, "1/C 1/D 2h 2/D 2/E 3h"},
		"immediate":   {restoreplan.Target{Immediate: true, Timeline: "1"}, 1, "1/C 2h 3h"},
		"LSN":         {restoreplan.Target{LSN: 0xD000001, Timeline: "1"}, 1, "1/C 1/D 2h 3h"},
		"segment end": {restoreplan.Target{LSN: 0xE000000, Timeline: "1"}, 1, "1/C 1/D 2h 3h"},
	} {
		p, err := restoreplan.Make(b, restoreplan.Request{Dest: "/d", Target: c.target}, archive(b))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := short(p.WAL); got != c.want || p.Timeline != c.tli {
			t.Errorf("%s: timeline %d, %s", name, p.Timeline, got)
		}
	}
	if _, err := restoreplan.Make(b, restoreplan.Request{Dest: "/d", Target: restoreplan.Target{Timeline: "3"}}, archive(b)); !fault.Is(err, fault.Refused) || !strings.Contains(fault.HintOf(err), "1, 2") {
		t.Errorf("a timeline that left before the backup: %v, %q", err, fault.HintOf(err))
	}
}

func TestSettings(t *testing.T) {
	b := sample(t)
	at := time.Date(2026, 11, 23, 4, 36, 0, 500000000, time.FixedZone("", 2*3600))
	for name, c := range map[string]struct {
		req    restoreplan.Request
		signal string
		walDir string
		want   []string
	}{
		"plain, on a later timeline": {restoreplan.Request{Dest: "/d"}, "recovery.signal", "barman_wal", []string{
			`restore_command = 'cp ''/d/barman_wal''/%f "%p"'`, "recovery_end_command = 'rm -fr ''/d/barman_wal'''", "recovery_target_timeline = '2'"}},
		"time": {restoreplan.Request{Dest: "/it's 100%", Target: restoreplan.Target{Time: at, Timeline: "1", Action: "promote"}}, "recovery.signal", "barman_wal", []string{
			`restore_command = 'cp ''/it''\\''''s 100%%/barman_wal''/%f "%p"'`, `recovery_end_command = 'rm -fr ''/it''\\''''s 100%%/barman_wal'''`,
			"recovery_target_time = '2026-11-23 04:36:00.5+02:00'", "recovery_target_timeline = '1'", "recovery_target_action = 'promote'"}},
		"standby": {restoreplan.Request{Dest: "/d", Standby: true}, "standby.signal", "barman_wal", []string{`restore_command = 'cp ''/d/barman_wal''/%f "%p"'`, "recovery_target_timeline = '2'"}},
		"fetched": {restoreplan.Request{Dest: "/d", GetWAL: true, RestoreWith: "fetch %f %p"}, "recovery.signal", "pg_wal", []string{"restore_command = 'fetch %f %p'", "recovery_target_timeline = '2'"}},
	} {
		p, err := restoreplan.Make(b, c.req, archive(b))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(p.Settings, c.want) || p.Signal != c.signal || p.WALDir != c.walDir || p.MarkDone || c.req.GetWAL != (len(p.WAL) == 0) {
			t.Errorf("%s: %q %s %s %v %v", name, p.Settings, p.Signal, p.WALDir, p.MarkDone, p.WAL)
		}
	}
}

// TestOneTimeline: an archive that was never left.
func TestOneTimeline(t *testing.T) {
	b := sample(t)
	a := archive(b)
	a.Histories = nil
	p, err := restoreplan.Make(b, restoreplan.Request{Dest: "/d"}, a)
	if err != nil || p.Signal != "" || p.Settings != nil || !p.MarkDone || p.WALDir != "pg_wal" {
		t.Errorf("a plain restore: %+v, %v", p, err)
	}
	p, err = restoreplan.Make(b, restoreplan.Request{Dest: "/d", Standby: true}, a)
	if err != nil || !slices.Contains(p.Settings, "recovery_target_timeline = 'latest'") || len(p.Notes) != 0 {
		t.Errorf("a standby: %+v, %v", p, err)
	}
	// A timeline that the backup cannot reach must not become the standby's.
	p, err = restoreplan.Make(b, restoreplan.Request{Dest: "/d", Standby: true}, archive(b))
	if err != nil || len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "timeline 3") {
		t.Errorf("a standby beside a foreign timeline: %+v, %v", p, err)
	}
}

func TestTablespaces(t *testing.T) {
	b := sample(t)
	b.Tablespaces = []backupinfo.Tablespace{{Name: "ts1", OID: 1, Location: "/srv/a"}, {Name: "ts2", OID: 2, Location: "/srv/b"}}
	p, err := restoreplan.Make(b, restoreplan.Request{Dest: "/d/", Tablespaces: map[string]string{"ts2": "/new/b/"}}, archive(b))
	if err != nil || p.Dest != "/d" || !reflect.DeepEqual(p.Tablespaces, []restoreplan.Tablespace{{OID: 1, Name: "ts1", Dest: "/srv/a"}, {OID: 2, Name: "ts2", Dest: "/new/b"}}) {
		t.Errorf("%+v, %v", p, err)
	}
	for name, moved := range map[string]map[string]string{
		"same":     {"ts2": "/srv/a"},
		"nested":   {"ts2": "/srv/a/x"},
		"around":   {"ts1": "/"},
		"unknown":  {"ts3": "/x"},
		"relative": {"ts1": "x"},
	} {
		if _, err := restoreplan.Make(b, restoreplan.Request{Dest: "/d", Tablespaces: moved}, archive(b)); !fault.Is(err, fault.Usage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestInPlaceTablespaces: their path says nothing outside the source's data directory, least of all where the command runs.
func TestInPlaceTablespaces(t *testing.T) {
	b := sample(t)
	b.Tablespaces = []backupinfo.Tablespace{{Name: "here", OID: 16384, Location: "pg_tblspc/16384"}}
	_, err := restoreplan.Make(b, restoreplan.Request{Dest: "/d"}, archive(b))
	if !fault.Is(err, fault.Usage) || !strings.Contains(fault.HintOf(err), "--tablespace here:DIR") {
		t.Errorf("%v (%s)", err, fault.HintOf(err))
	}
	p, err := restoreplan.Make(b, restoreplan.Request{Dest: "/d", Tablespaces: map[string]string{"here": "/new"}}, archive(b))
	if err != nil || !reflect.DeepEqual(p.Tablespaces, []restoreplan.Tablespace{{OID: 16384, Name: "here", Dest: "/new"}}) {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = restoreplan.Make(b, restoreplan.Request{Dest: "/d", Mounted: true}, archive(b))
	if err != nil || len(p.Tablespaces) != 0 {
		t.Errorf("mounted: %+v, %v", p, err)
	}
}

func TestWhatCannotBeRestored(t *testing.T) {
	good := sample(t)
	target := restoreplan.Request{Dest: "/d", Target: restoreplan.Target{LSN: 0xF000100, Timeline: "current"}}
	if _, err := restoreplan.Make(good, target, archive(good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*backupinfo.Info, *restoreplan.Archive){
		"failed":         func(b *backupinfo.Info, _ *restoreplan.Archive) { b.Status = backup.Failed },
		"snapshots":      func(b *backupinfo.Info, _ *restoreplan.Archive) { b.Snapshots = &pylit.Value{Kind: pylit.Dict} },
		"encrypted":      func(b *backupinfo.Info, _ *restoreplan.Archive) { other := "age"; b.Encryption = &other },
		"compressed":     func(b *backupinfo.Info, _ *restoreplan.Archive) { xz := "xz"; b.Compression = &xz },
		"old PostgreSQL": func(b *backupinfo.Info, _ *restoreplan.Archive) { v := 110000; b.Version = &v },
		"no end":         func(b *backupinfo.Info, _ *restoreplan.Archive) { b.EndLSN = nil },
		"WAL is missing": func(_ *backupinfo.Info, a *restoreplan.Archive) { a.Files = a.Files[3:] },
		"behind a hole": func(b *backupinfo.Info, a *restoreplan.Archive) {
			a.Histories = nil
			a.Files = slices.DeleteFunc(a.Files, func(f restoreplan.WALFile) bool { return strings.HasSuffix(f.Name, "0E") })
		},
	} {
		b := sample(t)
		a := archive(b)
		change(b, &a)
		_, err := restoreplan.Make(b, target, a)
		if !fault.Is(err, fault.Refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := sample(t)
	bad.Snapshots = &pylit.Value{Kind: pylit.Dict}
	target.Parents = []*backupinfo.Info{bad}
	if _, err := restoreplan.Make(good, target, archive(good)); !fault.Is(err, fault.Refused) {
		t.Errorf("a parent that cannot be restored: %v", err)
	}
}

// Words survive the shell and PostgreSQL's place holders.
func TestShellWord(t *testing.T) {
	for word, want := range map[string]string{"a b": "'a b'", "it's": `'it'\''s'`, "100%f": "'100%%f'", "$(x)`y`": "'$(x)`y`'"} {
		if got := restoreplan.ShellWord(word); got != want {
			t.Errorf("%s: %s", word, fmt.Sprint(got))
		}
	}
}

// Without the segment in which a timeline begins, recovery would read on in the
// old timeline's segment, behind the fork.
func TestALackingSegmentAtTheFork(t *testing.T) {
	b := sample(t)
	a := archive(b)
	a.Files = slices.DeleteFunc(a.Files, func(f restoreplan.WALFile) bool { return f.Name == "00000002000000000000000D" })
	for name, c := range map[string]struct {
		target restoreplan.Target
		want   string // the segments, or the refusal
	}{
		"latest":         {restoreplan.Target{}, "00000002000000000000000D, in which timeline 2 left timeline 1 at 0/D800000"},
		"behind it":      {restoreplan.Target{LSN: 0xD800001}, "00000002000000000000000D, in which"},
		"far behind it":  {restoreplan.Target{LSN: 0xE000001}, "the archive ends with 00000001000000000000000D"},
		"before it":      {restoreplan.Target{LSN: 0xD800000}, "1/C 1/D 2h 3h"},
		"immediate":      {restoreplan.Target{Immediate: true}, "1/C 2h 3h"},
		"the old branch": {restoreplan.Target{Timeline: "1"}, "1/C 1/D 1/E 1/F 2h 3h"},
	} {
		p, err := restoreplan.Make(b, restoreplan.Request{Dest: "/d", Target: c.target}, a)
		if err != nil {
			if !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), c.want) || fault.HintOf(err) == "" {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if got := short(p.WAL); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
