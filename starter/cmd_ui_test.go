package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestUIOpensTheAddressThatItPrints with the program that desktops have for it.
func TestUIOpensTheAddressThatItPrints(t *testing.T) {
	conf, dir := thousands(t, 1), t.TempDir()
	opened := filepath.Join(dir, "opened")
	if err := os.WriteFile(filepath.Join(dir, "xdg-open"), []byte("#!/bin/sh\nprintf '%s\\n' \"$@\" > "+opened+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	t.Setenv(uiEnv, "http://127.0.0.1:9/")
	for _, args := range [][]string{{"ui", "main"}, {"ui", "--open"}, {"ui", "main", "--open"}} {
		var out bytes.Buffer
		root := (&app{stdout: &out, stderr: io.Discard}).root()
		root.SetArgs(append([]string{"-c", conf}, args...))
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(opened)
		if args[len(args)-1] != "--open" {
			if err == nil {
				t.Errorf("%v opens %s", args, got)
			}
			continue
		}
		if err != nil || string(got) != out.String() || !strings.HasPrefix(string(got), "http://127.0.0.1:9/namespaces/") {
			t.Errorf("%v prints %s and opens %s, %v", args, out.String(), got, err)
		}
	}
}
