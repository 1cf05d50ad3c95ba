package restore

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// TestReviewFollowsIncludes: what an included file sets counts like what
// postgresql.conf sets, as long as the file lies in the data directory.
func TestReviewFollowsIncludes(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside.conf")
	for name, text := range map[string]string{
		filepath.Join(dir, "postgresql.conf"):     "port = 1\n\ninclude_dir = 'conf.d' # ours\ninclude '" + outside + "'\ninclude_if_exists 'it''s.conf'\nARCHIVE_COMMAND'evil'\n",
		filepath.Join(dir, "conf.d/10.conf"):      "#archive_command = 'no'\narchive_command = 'evil'\ninclude '../postgresql.conf'\n",
		filepath.Join(dir, "conf.d/20.conf"):      "recovery_target_time = 'then'\nssl_key_file = '/etc/key'\n",
		filepath.Join(dir, "conf.d/ignored"):      "archive_command = 'never read'\n",
		filepath.Join(dir, "it's.conf"):           "include_dir '../../..'\narchive_library = 'x'\n",
		filepath.Join(dir, "..", "above.conf"):    "archive_command = 'outside'\n",
		filepath.Join(filepath.Dir(outside), "x"): "",
		outside: "archive_command = 'the host''s'\n",
	} {
		check(t, os.MkdirAll(filepath.Dir(name), 0o700))
		check(t, os.WriteFile(name, []byte(text), 0o600))
	}
	r := &Result{}
	check(t, (&reviewer{Result: r, data: dir, seen: map[string]bool{}}).review("postgresql.conf"))
	wantChanges := []Change{
		{"postgresql.conf", 6, "archive_command", "false"}, {"conf.d/10.conf", 2, "archive_command", "false"},
		{"conf.d/20.conf", 1, "recovery_target_time", ""}, {"it's.conf", 2, "archive_library", ""},
	}
	if !reflect.DeepEqual(r.Changes, wantChanges) {
		t.Errorf("changes %+v", r.Changes)
	}
	var lines []int
	for _, w := range r.Warnings {
		lines = append(lines, w.Line)
	}
	if !reflect.DeepEqual(lines, []int{3, 4, 5, 3, 2, 1}) {
		t.Errorf("warnings %+v", r.Warnings)
	}
	for name, want := range map[string]string{
		"conf.d/10.conf": "#archive_command = 'no'\n#BARMAN#archive_command = 'evil'\narchive_command = false\ninclude '../postgresql.conf'\n",
		"conf.d/ignored": "archive_command = 'never read'\n",
	} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := os.ReadFile(outside); err != nil || string(got) != "archive_command = 'the host''s'\n" {
		t.Errorf("a file of the host was changed: %q, %v", got, err)
	}
}
