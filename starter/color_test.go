package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/internal/check"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

func TestColor(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for color, want := range map[string]bool{"always": true, "never": false, "auto": false} {
		var out bytes.Buffer
		a := &app{stdout: &out, stderr: &out, color: color, format: "console"}
		a.fail(fault.New(fault.Disk, "write", "x", "it is full"))
		a.warn("soon")
		a.print("%s", a.painted(check.Item{Name: "disk: OK", OK: false}))
		got := out.String()
		if strings.Contains(got, red+"ERROR:"+normal+" write x") != want || strings.Contains(got, yellow+"WARNING:"+normal) != want || strings.Contains(got, red+"FAILED"+normal) != want {
			t.Errorf("%s: %q", color, got)
		}
		if !strings.Contains(strings.NewReplacer(red, "", yellow, "", normal, "").Replace(got), "ERROR: write x: it is full\nWARNING: soon\ndisk: OK: FAILED") {
			t.Errorf("%s: other words: %q", color, got)
		}
		if (a.paint(file, green, "x") != "x") != want {
			t.Errorf("%s: colours in a file", color)
		}
	}
}
