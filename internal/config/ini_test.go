package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func FuzzParseINI(f *testing.F) {
	full, err := os.ReadFile("testdata/full.conf")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(full))
	f.Add(base + good)
	f.Add("[a]\nx = %(y)s%(y)s\ny: %(x)s\r\n z\n#c\n ;d\n\n\n[b")
	f.Add("[DEFAULT]\na=%(b)s\nb=%(a)s\n[all]\n[a/b]\nmodel=true\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		sections, problems := parseINI("f", text)
		lines := strings.Count(text, "\n") + 1
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines || p.Message == "" || strings.Contains(p.String(), "\n") {
				t.Errorf("%+v", p)
			}
		}
		for _, s := range sections {
			if s.name == "" || len(s.order) != len(s.entries) {
				t.Errorf("%+v", s)
			}
			for name, e := range s.entries {
				if name != e.name || name != strings.ToLower(name) || e.line <= s.line-1 || e.line > lines || e.raw != strings.TrimSpace(e.raw) {
					t.Errorf("%+v", e)
				}
			}
		}
		path := filepath.Join(dir, "barman.conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path)
		if (err != nil) != (len(sections) == 0) {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
		for _, s := range c.Servers() {
			if (len(errorsOf(s.Problems())) > 0) != s.Disabled() {
				t.Error(s.Name)
			}
			s.Each(func(Option, string, Origin) {})
			_ = s.UnsupportedForBackup()
		}
		for _, p := range c.Problems {
			_ = p.String()
		}
	})
}
