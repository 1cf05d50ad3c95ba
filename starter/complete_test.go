package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// complete is what the shell offers for the last word.
func complete(t *testing.T, conf string, words ...string) []string {
	t.Helper()
	var out bytes.Buffer
	a := &app{stdout: &out, stderr: io.Discard}
	root := a.root()
	root.SetArgs(append([]string{cobra.ShellCompNoDescRequestCmd, "-c", conf}, words...))
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%v: %v", words, err)
	}
	return strings.Split(out.String(), "\n")
}

// TestCompletion: every command that takes a server or a backup offers them.
func TestCompletion(t *testing.T) {
	conf := thousands(t, 3)
	record := filepath.Join(filepath.Dir(conf), "main", "meta", "20260101T000100-backup.info")
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record, append(text, "backup_name=before upgrade\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	settings, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conf, append(settings, "[away]\nmodel = true\ncluster = main\n[other]\nmodel = true\ncluster = another\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	offered := map[string][]string{
		"MODEL": {"away"}, "SERVER": {"main"}, "SERVER...": {"main", "all"},
		"BACKUP": {"latest", "oldest", "latest-full", "last-failed", "20260101T000000", "20260101T000200", "before upgrade"},
	}
	offered["BACKUP..."] = offered["BACKUP"]
	servers, backups := 0, 0
	for _, c := range documented((&app{stdout: io.Discard}).root()) {
		words := strings.Fields(c.CommandPath())[1:]
		for _, argument := range arguments(c.Use) {
			got := complete(t, conf, append(slices.Clone(words), "")...)
			for _, want := range offered[argument] {
				if !slices.Contains(got, want) {
					t.Errorf("%s does not offer %s for %s: %q", c.CommandPath(), want, argument, got)
				}
			}
			switch argument {
			case "SERVER", "SERVER...":
				servers++
			case "BACKUP", "BACKUP...":
				backups++
			}
			words = append(words, "main")
		}
	}
	if servers < 20 || backups < 6 {
		t.Errorf("only %d arguments are servers and %d backups", servers, backups)
	}
	for _, c := range []struct {
		words  []string
		want   string
		offers bool
	}{
		{[]string{"list-b"}, "list-backups", true},
		{[]string{"delete", "main", "oldest", ""}, "20260101T000100", true},
		{[]string{"delete", "main", "oldest", ""}, "oldest", false},
		{[]string{"status", "main", ""}, "main", false},
		{[]string{"show-backup", "main", "latest", ""}, "latest", false},
		{[]string{"show-backup", "nowhere", ""}, "latest", false},
		{[]string{"list-files", "main", "latest", "--target", ""}, "standalone", true},
		{[]string{"config-switch", "main", ""}, "other", false},
		{[]string{"--format", ""}, "json", true},
		{[]string{"completion", ""}, "fish", true},
	} {
		if got := complete(t, conf, c.words...); slices.Contains(got, c.want) != c.offers {
			t.Errorf("%q: %q", c.words, got)
		}
	}
}

func TestArguments(t *testing.T) {
	for use, want := range map[string]string{
		"version": "", "status SERVER...": "SERVER...", "cron [SERVER...]": "SERVER...", "config-switch SERVER [MODEL]": "SERVER MODEL",
		"up [--state-dir DIR] [--port N] [-q]": "", "restore SERVER BACKUP DEST": "SERVER BACKUP DEST",
	} {
		if got := strings.Join(arguments(use), " "); got != want {
			t.Errorf("%s: %q", use, got)
		}
	}
}

// TestCompletionScripts: the scripts are those of the shells that are named.
func TestCompletionScripts(t *testing.T) {
	for shell, want := range map[string]string{"bash": "complete -o default", "zsh": "#compdef holdfast", "fish": "complete -c holdfast"} {
		var out bytes.Buffer
		root := (&app{stdout: &out, stderr: io.Discard, json: map[string]any{}}).root()
		root.SetArgs([]string{"completion", shell})
		if err := root.Execute(); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v, %d bytes without %q", shell, err, out.Len(), want)
		}
	}
}
