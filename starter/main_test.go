package main

import (
	"slices"
	"strings"
	"testing"
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
