package cmdline_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-pg/holdfast/starter/front/cmdline"
	"github.com/holdfast-pg/holdfast/starter/front/handoff"
)

func TestRead(t *testing.T) {
	for line, want := range map[string]*cmdline.Call{
		"wal-archive main pg_wal/x":                  {Server: "main", File: "pg_wal/x"},
		"-c a.conf wal-archive main x":               {Config: "a.conf", Server: "main", File: "x"},
		"wal-archive --config a.conf main x":         {Config: "a.conf", Server: "main", File: "x"},
		"wal-archive main x --config=a=b":            {Config: "a=b", Server: "main", File: "x"},
		"cloud-wal-archive main x":                   {Server: "main", File: "x"},
		"wal-restore main x y":                       {Fetch: true, Server: "main", File: "x", Dest: "y"},
		"wal-restore --partial main x y":             {Fetch: true, Partial: true, Server: "main", File: "x", Dest: "y"},
		"-c a.conf wal-restore -P main x y":          {Config: "a.conf", Fetch: true, Partial: true, Server: "main", File: "x", Dest: "y"},
		"cloud-wal-restore main x y":                 {Fetch: true, Partial: true, Server: "main", File: "x", Dest: "y"},
		"cloud-wal-restore --partial=false main x y": {Fetch: true, Server: "main", File: "x", Dest: "y"},
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
		got, is := cmdline.Read(args)
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
