package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/config"
	"github.com/holdfast-pg/holdfast/internal/fault"
)

func TestJoined(t *testing.T) {
	for in, want := range map[string]string{
		"backup --reuse-backup link main":    "backup --reuse-backup=link main",
		"backup main --reuse-backup off":     "backup main --reuse-backup=off",
		"backup main --reuse-backup":         "backup main --reuse-backup",
		"backup --reuse-backup main":         "backup --reuse-backup main",
		"backup --reuse-backup=copy link":    "backup --reuse-backup=copy link",
		"backup --reuse-backup -- link main": "backup --reuse-backup -- link main",
		"get-wal main -- --reuse-backup off": "get-wal main -- --reuse-backup off",
		"":                                   "",
	} {
		if got := joined(strings.Fields(in)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q became %q", in, got)
		}
	}
}

// TestCheckMethod: what snapshots have no use for is refused in words.
func TestCheckMethod(t *testing.T) {
	limit, none, link, off := 100, 0, "link", "off"
	for _, c := range []struct {
		method string
		given  activities.Overrides
		says   string
	}{
		{config.MethodSnapshot, activities.Overrides{BandwidthLimit: &limit}, "--bwlimit"},
		{config.MethodSnapshot, activities.Overrides{ReuseBackup: &link}, "--reuse-backup"},
		{config.MethodSnapshot, activities.Overrides{BandwidthLimit: &none, ReuseBackup: &off}, ""},
		{config.MethodRsync, activities.Overrides{BandwidthLimit: &limit, ReuseBackup: &link}, ""},
	} {
		s := &config.Server{Name: "main"}
		s.BackupMethod = c.method
		err := checkMethod(s, c.given)
		if (err != nil) != (c.says != "") || err != nil && (!strings.Contains(err.Error(), c.says) || fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "") {
			t.Errorf("%s: %v, not %q", c.method, err, c.says)
		}
	}
}

// TestVersion: the option of other tools says what the command does.
func TestVersion(t *testing.T) {
	for _, format := range []string{"console", "json"} {
		var said []string
		for _, arg := range []string{"version", "--version", "-v"} {
			var out bytes.Buffer
			a := &app{stdout: &out, stderr: &out}
			root := a.root()
			root.SetArgs([]string{arg, "--format", format})
			if err := errors.Join(root.Execute(), a.finish(nil)); err != nil {
				t.Errorf("%s: %v", arg, err)
			}
			said = append(said, out.String())
		}
		if !strings.Contains(said[0], version) || json.Valid([]byte(said[0])) != (format == "json") || said[1] != said[0] || said[2] != said[0] {
			t.Errorf("%s: %q", format, said)
		}
	}
}
