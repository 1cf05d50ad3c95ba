package main

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-pg/holdfast/activities"
	"github.com/holdfast-pg/holdfast/internal/report"
)

// progressLine is the line of a terminal that changes while something goes on.
type progressLine struct {
	out   io.Writer
	width func() int // columns of the terminal now

	drawn int // columns of what is there; 0 for nothing
}

// draw replaces what is there.
func (l *progressLine) draw(text string) {
	l.clear()
	// The last column stays free: a terminal may wrap a line that fills it.
	if room := max(0, l.width()-1); utf8.RuneCountInString(text) > room {
		text = string([]rune(text)[:room])
	}
	fmt.Fprint(l.out, text)
	l.drawn = utf8.RuneCountInString(text)
}

// clear removes what is there, also where a terminal that became narrower has
// broken it into several lines.
func (l *progressLine) clear() {
	if l.drawn == 0 {
		return
	}
	if up := (l.drawn - 1) / max(1, l.width()); up > 0 {
		fmt.Fprintf(l.out, "\x1b[%dA", up)
	}
	fmt.Fprint(l.out, "\r\x1b[J")
	l.drawn = 0
}

// describeProgress is how far something is, what matters most first.
func describeProgress(p activities.Progress, s *speed) string {
	if p.Total <= 0 {
		return p.Doing()
	}
	parts := []string{fmt.Sprintf("%3d %%", 100*p.Done/p.Total), report.Size(p.Done) + " of " + report.Size(p.Total)}
	if per := s.perSecond(); per > 0 {
		parts = append(parts, report.Size(per)+"/s", "ETA "+roughly(float64(p.Total-p.Done)/float64(per)).String())
	}
	return strings.Join(append(parts, p.Doing()), "  ")
}

// speed is that of the last while, from the times at which it was told.
type speed struct {
	at    []time.Time
	bytes []int64
}

// speedWindow spans several heartbeats, which come up to ten seconds apart.
const speedWindow = 40 * time.Second

// add takes what was told at a time, once. A copy that begins again has no
// speed yet.
func (s *speed) add(at time.Time, bytes int64) {
	if n := len(s.at); n > 0 {
		if !at.After(s.at[n-1]) {
			return
		}
		if bytes < s.bytes[n-1] {
			*s = speed{}
		}
	}
	s.at, s.bytes = append(s.at, at), append(s.bytes, bytes)
	for len(s.at) > 2 && at.Sub(s.at[0]) > speedWindow {
		s.at, s.bytes = s.at[1:], s.bytes[1:]
	}
}

// perSecond is 0 as long as it is not known.
func (s *speed) perSecond() int64 {
	n := len(s.at)
	if n < 2 {
		return 0
	}
	return int64(float64(s.bytes[n-1]-s.bytes[0]) / s.at[n-1].Sub(s.at[0]).Seconds())
}

// roughly is a duration no finer than a guess can be.
func roughly(seconds float64) time.Duration {
	d := time.Duration(max(0, seconds) * float64(time.Second))
	switch {
	case d > time.Hour:
		return d.Round(time.Minute)
	case d > 2*time.Minute:
		return d.Round(10 * time.Second)
	}
	return d.Round(time.Second)
}
