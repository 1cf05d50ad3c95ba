package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestManuals: there is a page of every command, and everything is in it that
// the command says of itself.
func TestManuals(t *testing.T) {
	root := (&app{stdout: io.Discard}).root()
	dir := filepath.Join(t.TempDir(), "man1")
	if err := writeManuals(root, dir); err != nil {
		t.Fatal(err)
	}
	pages, err := os.ReadDir(dir)
	commands := documented(root)
	if err != nil || len(pages) != len(commands)+1 {
		t.Errorf("%d pages of %d commands and the program, %v", len(pages), len(commands), err)
	}
	request := regexp.MustCompile(`(?m)^\.(TH|SH|TP|PP|B|BR|nf|fi)\b|^[^.']|^$`)
	for _, c := range append(commands, root) {
		text, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"))
		if err != nil {
			t.Error(err)
			continue
		}
		page := strings.NewReplacer(`\-`, "-", `\e`, `\`, `\&`, "").Replace(string(text))
		want := []string{".TH ", ".SH NAME\n", ".SH SYNOPSIS\n", ".SH DESCRIPTION\n", c.Short, c.Long, c.Example, strings.TrimSuffix(c.UseLine(), " [flags]")}
		want = append(want, c.Aliases...)
		for line := range strings.Lines(c.Annotations[exitAnnotation]) {
			code, meaning, _ := strings.Cut(strings.TrimSpace(line), " ")
			want = append(want, ".SH EXIT STATUS\n", code+"\n"+meaning)
		}
		add := func(f *pflag.Flag) {
			if !f.Hidden {
				name, usage := describeOption(f)
				want = append(want, name+"\n"+usage)
			}
		}
		c.LocalFlags().VisitAll(add)
		c.InheritedFlags().VisitAll(add)
		for _, w := range want {
			if !strings.Contains(page, w) {
				t.Errorf("the page of %s lacks %q", c.CommandPath(), w)
			}
		}
		for line := range strings.Lines(string(text)) {
			if !request.MatchString(line) {
				t.Errorf("the page of %s has a request that nobody meant: %q", c.CommandPath(), line)
			}
		}
	}
	if page, err := os.ReadFile(filepath.Join(dir, "holdfast.1")); err != nil || !strings.Contains(string(page), `list\-backups`) {
		t.Errorf("the page of holdfast does not list the commands (%v)", err)
	}
}
