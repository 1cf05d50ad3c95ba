package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/starter/front/handoff"
)

func TestRead(t *testing.T) {
	for line, want := range map[string]*call{
		"wal-archive main pg_wal/x":                  {args: []string{"main", "pg_wal/x"}},
		"-c a.conf wal-archive main x":               {config: "a.conf", args: []string{"main", "x"}},
		"wal-archive --config a.conf main x":         {config: "a.conf", args: []string{"main", "x"}},
		"wal-archive main x --config=a=b":            {config: "a=b", args: []string{"main", "x"}},
		"cloud-wal-archive main x":                   {args: []string{"main", "x"}},
		"wal-restore main x y":                       {fetch: true, args: []string{"main", "x", "y"}},
		"wal-restore --partial main x y":             {fetch: true, partial: true, args: []string{"main", "x", "y"}},
		"-c a.conf wal-restore -P main x y":          {config: "a.conf", fetch: true, partial: true, args: []string{"main", "x", "y"}},
		"cloud-wal-restore main x y":                 {fetch: true, partial: true, args: []string{"main", "x", "y"}},
		"cloud-wal-restore --partial=false main x y": {fetch: true, args: []string{"main", "x", "y"}},
		"":                             nil,
		"backup main":                  nil,
		"wal-archive":                  nil,
		"wal-archive main":             nil,
		"wal-archive main x y":         nil,
		"wal-archive --partial main x": nil,
		"wal-archive --help main x":    nil,
		"wal-archive -h":               nil,
		"--help":                       nil,
		"-d wal-archive main x":        nil,
		"-f json wal-archive main x":   nil,
		"wal-archive --host barman@backup main x": nil,
		"wal-archive -- main x":                   nil,
		"wal-restore main x":                      nil,
		"wal-restore --partial=perhaps main x y":  nil,
		"wal-restore main x y --color=never":      nil,
		"main wal-archive x":                      nil,
		"-c wal-archive main x":                   nil,
		"wal-archive main x -c":                   nil,
		"get-wal main x":                          nil,
		"wal-archive main  ":                      nil,
	} {
		args := strings.Split(line, " ")
		got, is := read(args)
		switch {
		case is && !slices.ContainsFunc(args, handoff.Moves):
			t.Errorf("%q is handed over before it is read", line)
		case is != (want != nil):
			t.Errorf("%q: %v", line, is)
		case is && !reflect.DeepEqual(got, *want):
			t.Errorf("%q: %+v, not %+v", line, got, *want)
		}
	}
}
