package main

import (
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
