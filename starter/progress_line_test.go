package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/holdfast-pg/holdfast/activities"
)

func TestProgressLine(t *testing.T) {
	var out bytes.Buffer
	width := 12
	l := progressLine{out: &out, width: func() int { return width }}
	step := func(what string, do func(), want string) {
		t.Helper()
		out.Reset()
		do()
		if out.String() != want {
			t.Errorf("%s: %q, not %q", what, &out, want)
		}
	}
	step("nothing to clear", l.clear, "")
	step("a short line", func() { l.draw("half") }, "half")
	step("one that is cut between characters", func() { l.draw("größer als 12") }, "\r\x1b[Jgrößer als ")
	width = 4
	step("after the terminal became narrower", func() { l.draw("ab") }, "\x1b[2A\r\x1b[Jab")
	step("the end", l.clear, "\r\x1b[J")
	step("after the end", l.clear, "")
}

func TestDescribeProgress(t *testing.T) {
	start := time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)
	var s speed
	told := func(after time.Duration, done, total int64, want string) {
		t.Helper()
		s.add(start.Add(after), done)
		if got := describeProgress(activities.Progress{What: "copies", Done: done, Total: total}, &s); got != want {
			t.Errorf("after %s: %q, not %q", after, got, want)
		}
	}
	told(0, 0, 0, "copies")
	told(time.Second, 0, 100<<20, "  0 %  0 B of 100.0 MiB  copies")
	told(10*time.Second, 10<<20, 100<<20, " 10 %  10.0 MiB of 100.0 MiB  1.0 MiB/s  ETA 1m30s  copies")
	told(10*time.Second, 10<<20, 100<<20, " 10 %  10.0 MiB of 100.0 MiB  1.0 MiB/s  ETA 1m30s  copies")
	told(20*time.Second, 20<<20, 10<<30, "  0 %  20.0 MiB of 10.0 GiB  1.0 MiB/s  ETA 2h50m0s  copies")
	// Another attempt begins with less.
	told(30*time.Second, 5<<20, 100<<20, "  5 %  5.0 MiB of 100.0 MiB  copies")
	told(40*time.Second, 10<<20, 100<<20, " 10 %  10.0 MiB of 100.0 MiB  512.0 KiB/s  ETA 3m0s  copies")
	// What was long ago does not count.
	told(50*time.Second, 90<<20, 100<<20, " 90 %  90.0 MiB of 100.0 MiB  4.2 MiB/s  ETA 2s  copies")
	told(100*time.Second, 95<<20, 100<<20, " 95 %  95.0 MiB of 100.0 MiB  102.4 KiB/s  ETA 50s  copies")
}
