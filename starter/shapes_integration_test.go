//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// lacking lists what an object of Barman's has and ours has not, or has with
// another type. A null has every type.
func lacking(path string, theirs, ours any) []string {
	switch t := theirs.(type) {
	case map[string]any:
		o, is := ours.(map[string]any)
		if !is {
			return []string{fmt.Sprintf("%s is an object, ours is %T", path, ours)}
		}
		var out []string
		for key, value := range t {
			if mine, is := o[key]; is {
				out = append(out, lacking(path+"."+key, value, mine)...)
			} else {
				out = append(out, path+"."+key)
			}
		}
		return out
	case []any:
		o, is := ours.([]any)
		if !is {
			return []string{fmt.Sprintf("%s is an array, ours is %T", path, ours)}
		}
		if len(t) > 0 && len(o) > 0 {
			return lacking(path+"[]", t[0], o[0])
		}
	case nil:
	default:
		if ours != nil && fmt.Sprintf("%T", t) != fmt.Sprintf("%T", ours) {
			return []string{fmt.Sprintf("%s is %T, ours is %T", path, t, ours)}
		}
	}
	return nil
}

// TestObjectsHaveBarmansShape: a program that reads Barman's JSON reads ours.
func TestObjectsHaveBarmansShape(t *testing.T) {
	t.Parallel()
	s := newSite(t, "18", "retention_policy = REDUNDANCY 2")
	id := string(s.backup())
	begin := s.anySegment()
	object := func(text string) any {
		t.Helper()
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		return v
	}
	// What Barman finds out about programs that we do not use, or do not need to ask.
	unknown := []string{"barman_ver", "python_ver", "python_executable", "ssh_ver", "pg_basebackup_", "replication_slot", "streaming", "version_supported",
		"is_superuser", "has_backup_privileges", "has_monitoring_privileges", "checkpoint_timeout", "connection_error", "synchronous_standby_names", "summarize_wal"}
	for _, args := range [][]string{
		{"list-servers"}, {"list-servers", "--minimal"}, {"list-backups", "main"}, {"list-backups", "main", "--minimal"}, {"show-backup", "main", id}, {"status", "main"},
		{"check", "main"}, {"check-backup", "main", id}, {"check-wal-archive", "main"}, {"check-archived-wal-range", "main", begin, begin},
		{"check-archived-wal-range", "main", begin, begin[:22] + "FE"}, {"rebuild-xlogdb", "main"}, {"list-files", "main", id}, {"diagnose"},
	} {
		args = append([]string{"-f", "json"}, args...)
		theirs, ours := s.barman(args...), s.run(args...)
		if theirs.Exit != ours.code {
			t.Errorf("%v: exit %d, Barman's is %d\n%s", args, ours.code, theirs.Exit, ours.stderr)
		}
		for _, what := range lacking("", object(theirs.Stdout), object(ours.stdout)) {
			if !slices.ContainsFunc(unknown, func(name string) bool { return strings.Contains(what, "."+name) }) && !strings.HasPrefix(what, "._") {
				t.Errorf("%v lacks %s", args, what)
			}
		}
	}
	// Of a server Barman shows what it says of itself, too, which status is for.
	var all struct {
		Servers map[string]struct{ Config map[string]any }
	}
	s.must(json.Unmarshal([]byte(s.barmanOK("-f", "json", "diagnose")), &all))
	ours := object(s.ok("-f", "json", "show-servers", "main")).(map[string]any)["main"]
	for _, what := range lacking("", all.Servers["main"].Config, ours) {
		t.Errorf("show-servers lacks %s", what)
	}
}
